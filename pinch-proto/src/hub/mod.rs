//! The hub: who is connected, who gets which envelope, when to ping, when to give up.
//!
//! A [`Hub`] is the heart of a relay, and a pure state machine: it does no I/O, reads no clock and
//! draws no random number. A driver hands it what happened ([`Input`]) and the time, does what it
//! says ([`Output`]), and calls [`Hub::handle_timeout`] when the [`Wakeup`] is due:
//!
//! ```
//! use pinch_proto::hub::{Admission, Config, Hub, Input, JoinOptions, Output};
//! use pinch_proto::{Address, Frame, Host, Time, UnixMillis};
//!
//! let config = Config::new(Host::parse("relay.example.com")?).build()?;
//! let mut hub = Hub::new(config, [7; 16], Time::ZERO, UnixMillis(1_700_000_000_000));
//!
//! // A connection has proven its address: into the routing table with it.
//! let address = Address::parse("pinch:alice@relay.example.com")?;
//! let (admission, options) = (Admission::Named, JoinOptions::default());
//! let register = Input::Register { address, admission, options };
//! let mut turn = hub.handle_input(register, Time::ZERO);
//! let Some(Output::Registered { conn, .. }) = turn.poll_output() else { panic!("refused") };
//! let wakeup = turn.finish().expect("a ping will be due");
//!
//! // Its socket can take bytes: there is a ping for it.
//! let mut frames = vec![];
//! let turn = hub.poll_transmit(conn, 65_536, Time::ZERO, |frame| frames.push(frame));
//! assert!(matches!(frames[..], [Frame::Ping(_)]));
//! # let _ = (turn.finish(), wakeup);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules of the two sides
//!
//! The hub owns every outbound queue. A driver gets the frames of a connection from
//! [`Hub::poll_transmit`], straight from its outbox; the call also asserts that the socket has taken
//! everything transmitted before. The driver calls again after each write, until nothing is
//! transmitted; from then on the hub says [`Output::Wake`] once something is there. Nothing waits
//! outside the hub beyond one such batch.
//!
//! A driver hands in what a socket has for the hub before it looks at what the socket takes:
//! with `poll_transmit`, or [`Input::Blocked`] while it has not taken everything. When a pong is
//! overdue, or a socket has stalled, the hub wakes the connection and closes it only on its next
//! `poll_transmit` or `Blocked`. A thread that was blocked itself therefore reads a pong that has
//! already arrived before the connection is found dead.
//!
//! While too many rejections wait for a sender, or may still come from the store, the hub has
//! [paused](Hub::is_paused) it: the driver reads nothing from it, so that TCP slows it down, until a
//! later `poll_transmit` or `Blocked`. What was read already is handed in all the same.
//!
//! What the driver holds for a message that has begun counts, too ([`Input::Partial`]): it has
//! [`Config::message_timeout`] to end, and when all of them together take more than a quarter of
//! [`Config::total_outbox_bytes`] (or than two messages, if that is more), the connection whose message began first is closed. A peer that
//! sends control frames or short fragments beyond [`Config::control_limit`] is closed as well.
//!
//! A peer takes a pong as a sign that everything before its ping has arrived, and forgets that. So a
//! pong goes behind the rejections of what came before it, and waits until the store has answered for
//! the rest, for [`Config::reply_timeout`] at most; so does the answer to a close frame. What comes
//! from a connection that is being closed is ignored, but for its pongs, which confirm as long as it
//! is [held](Hub::holds): its pings stay unanswered, and what it sent is its own still, for its next
//! connection.
//!
//! A connection that was [`Output::Registered`] ends in exactly one [`Output::Closed`], whatever
//! happens in whatever order; after it nothing of it is held but the rate buckets of its address,
//! and these only for as long as an empty one takes to fill.
//!
//! # Pauses
//!
//! A process can stand still for any time: SIGSTOP, a debugger, a suspended machine. Its peers
//! answer meanwhile; but when it goes on, its runtime may notice that time has passed before it
//! notices what has arrived. So the timeouts of pongs, stalls, close handshakes and the store's
//! answers count *attended* time: of the time between two calls of the hub, at most one step of
//! 250 ms counts (a quarter of the shortest of these timeouts, if that is less). While one of them
//! runs, wakeups come that often, and two steps of grace are added to each. However long a pause
//! is, a whole step lies between its end and the end of any timeout.
//!
//! So a dead peer is closed half a second after its timeout. On a machine that is always late it
//! takes longer, but no more calls than there are steps: with a pong timeout of 7 s, the 30th call
//! that comes a step or more after the one before.
//!
//! # The queue
//!
//! Without a queue ([`Config::queue`]), an envelope for a recipient that cannot take it is told to
//! its sender. With one, it is kept in a store, which the driver has: the hub says what it wants
//! ([`Output::Store`]), and hears what came of it ([`Input::Stored`]).
//!
//! ```text
//!            joins                is read             that was all
//!   offline ───────► backlogged ─────────► draining ──────────────────► live
//!                      ▲    ▲                 │                          │
//!                      │    └─ there is more ─┘                          │
//!                      └───────────────── outbox full ───────────────────┘
//! ```
//! From each of them, leaving leads back to offline.
//!
//! For one who is offline or backlogged, an envelope is appended to what is stored; for one whose
//! queue is being drained, it is held in memory behind that; for one who is live, it goes into the
//! outbox. Each has a number that grows with every envelope ([`Seq`]), by which the store keeps them
//! in order, so that none passes another to the same recipient on any of these ways.
//!
//! An envelope leaves the store when its recipient has acknowledged it: by the pong of a ping behind
//! it, or by a clean close ([`AckOnClose`]). When a connection ends, whatever it has not acknowledged
//! is appended under its old number before anybody else can join under its address; what was read
//! from the store is there still. Where the peer has closed, that is known only when its stream has
//! ended: a successor that joins before waits for it, for [`Config::join_timeout`] at most.
//!
//! # The limits of the queue
//!
//! What a cut connection gives back must not exceed the limits of the queue. So the place of an
//! envelope there is reserved when it is accepted for a connection: in the count of its recipient, the
//! bytes of its sender, and the bytes of all. Where that is not known, or the share of the sender is
//! used up, the envelope takes the way through the store, which decides with the true numbers, and
//! counts what is reserved for others. Where the queue of the recipient or of all is full, those who
//! are connected go on: the envelope is delivered without a place, and the limits count if it comes
//! back; its sender is told if it is refused then. (With [`Delivery::AtMostOnce`], what expires in the store while it is handed out may make
//! room once too often.)
//!
//! In a full queue, the newest envelope of the sender that has the most there gives way to a sender with
//! at least two fewer; the former is told if it is there. None gives way that may have been handed to
//! the present connection of the recipient. What is left: as many addresses as a queue has places,
//! with one envelope each, close it to others, and so do as many bytes of all senders as may be stored.
//!
//! An envelope of a sender that its recipient has blocked goes through the same checks, and its sender
//! gets the same answers at the same time; but nothing is delivered, stored, or given up for it. What is
//! left: what is not stored fills no queue, so a sender that alone would fill one can tell.
//!
//! # The store
//!
//! A store may take long or fail. A sender hears if its envelope is not stored, and after
//! [`QueueConfig::answer_timeout`] that this is not known. What the store owes answers for is bounded
//! ([`QueueConfig::unanswered_bytes`]): beyond it, senders are refused. A queue that cannot be read is
//! tried again, and nothing passes it meanwhile. Those who are live are not concerned.
//!
//! Every input costs O(1), besides [`Input::Shutdown`], which visits each connection once, and the
//! end of a connection and the end of a read, which visit what waits for it.

mod backlog;
mod begun;
mod blocks;
mod config;
mod connection;
mod deadlines;
mod delivery;
mod forwarding;
mod io;
mod lifecycle;
mod links;
mod outbox;
mod queueing;
mod rate;
mod routing;
mod seeded;
mod send_only;
mod shards;
mod shares;
mod shortage;
mod slab;
mod spares;
mod stats;
mod table;
mod tickets;
mod timeouts;
mod turn;
mod unconfirmed;
mod undeliverable;
mod unsettled;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use hashbrown::HashSet;

pub use self::config::{
    AckOnClose, Addressing, Config, ConfigError, Delivery, OnDuplicate, QueueConfig, SlowReader,
};
pub use self::io::{
    Admission, CloseCause, ConnId, Fault, Input, JoinOptions, JoinRefusal, Output, Violation,
    Wakeup, WakeupReason,
};
pub use self::links::{Item, Parcel};
pub use self::outbox::ENVELOPE_OVERHEAD;
pub use self::rate::RateLimit;
pub(crate) use self::rate::TokenBucket;
pub(crate) use self::seeded::Seeded;
pub use self::shards::{Shard, ShardId, Shards};
pub(crate) use self::slab::{Key, Slab};
pub use self::stats::HubStats;
pub use self::turn::Turn;

use self::blocks::Blocks;
use self::connection::{Connection, Phase, Ping, Window};
use self::forwarding::Links;
use self::outbox::OutboxLimits;
use self::rate::ParkedBuckets;
use self::send_only::SendOnly;
use self::shares::Shares;
use self::spares::Spares;
use self::table::RoutingTable;
use self::tickets::Tickets;
use self::timeouts::Deadlines;
use crate::attended::{AttendedClock, AttendedTime};
use crate::queue::{Restored, Seq};
use crate::{Address, Frame, Time, UnixMillis};

/// The routing table of a relay and everything that belongs to it. See the [module](self) for how
/// to drive it.
#[derive(Debug)]
pub struct Hub {
    config: Config,
    seeded: Seeded,
    outbox_limits: OutboxLimits,
    window: Window,
    /// The latest time that was handed in.
    now: Time,
    /// The time by which connections are ended, and the store is late.
    attended: AttendedClock,
    /// What the wall clock shows, so to speak, at [`Time::ZERO`].
    unix_at_zero: i64,
    /// The same by the clock that the hub began with.
    first_unix_at_zero: i64,
    connections: Slab<Connection>,
    table: RoutingTable,
    /// Connections whose peer has closed, and may acknowledge what is in flight by how it ends. Nothing
    /// is read from the queue of such an address. At most one of each address.
    unresolved: RoutingTable,
    send_only: SendOnly,
    deadlines: Deadlines,
    parked: ParkedBuckets,
    /// How often addresses may join still.
    joins: ParkedBuckets,
    blocks: Blocks,
    /// Owners of block lists of which the store does not know yet when they were seen.
    unknown_owners: Vec<Address>,
    outputs: VecDeque<Output>,
    spares: Spares,
    /// The slot at which the next search for memory begins.
    sweep: u32,
    next_ping: u64,
    /// The place of the next envelope that is accepted.
    next_seq: Seq,
    tickets: Tickets,
    /// What of the limits of the queue is in use.
    shares: Shares,
    /// The room that is set aside for what is being read from the store.
    reading_bytes: u64,
    /// Bytes that drivers hold for messages which have begun.
    begun_bytes: u64,
    /// Addresses that left while their queue was being read. It is not read again before the answer.
    abandoned_reads: HashSet<Address, Seeded>,
    /// When the store is to forget what has expired, unless it is doing so.
    next_expiry: Option<Time>,
    links: Links,
    shutdown: Shutdown,
    stats: HubStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    Draining,
    Done,
}

impl Hub {
    /// A hub without connections.
    ///
    /// `seed` keys the hashing of addresses, and should be unpredictable; with the same seed and
    /// inputs a hub gives the same outputs, byte for byte. `now` and `unix` are the same moment on
    /// the two clocks: envelopes that the relay writes are dated by what has passed since, until the
    /// hub hears [otherwise](Self::set_wall_clock).
    #[must_use]
    pub fn new(config: Config, seed: [u8; 16], now: Time, unix: UnixMillis) -> Self {
        let place = Shard::new(Shards::new(NonZeroU16::MIN, seed), ShardId(0));
        Self::new_shard(config, place, now, unix)
    }

    /// The hub at `place` in a relay of several, without connections. `config` has the settings of the
    /// whole relay: its part of the memory, connections, rate buckets and blocks is that of one shard.
    ///
    /// Only addresses that [live](Shards::of) in this shard may be registered.
    #[must_use]
    pub fn new_shard(config: Config, place: Shard, now: Time, unix: UnixMillis) -> Self {
        let config = config.of_shard(place.shards.count());
        let seed = place.shards.seed();
        let seeded = Seeded::new(seed);
        let attended = AttendedClock::new(config.shortest_timeout());
        let answer_timeout = config.queue.unwrap_or_default().answer_timeout;
        let outbox_limits = OutboxLimits {
            data_bytes: config.outbox_bytes,
            data_count: config.outbox_count,
            control_bytes: config.refusal_bytes,
        };
        let buckets = |limit: Option<RateLimit>| {
            let fill = limit.map_or(core::time::Duration::ZERO, RateLimit::fill);
            ParkedBuckets::new(fill, config.max_parked_buckets, seeded.clone())
        };
        Self {
            outbox_limits,
            window: Window {
                delivery: config.delivery,
                bytes: config.unconfirmed_bytes,
                count: config.unconfirmed_count,
            },
            now,
            deadlines: Deadlines::new(&config, &place, &attended),
            unix_at_zero: unix.0.saturating_sub(millis(now)),
            first_unix_at_zero: unix.0.saturating_sub(millis(now)),
            connections: Slab::new(),
            table: RoutingTable::new(seeded.clone()),
            unresolved: RoutingTable::new(seeded.clone()),
            send_only: SendOnly::new(seeded.clone()),
            parked: buckets(config.rate_limit),
            joins: buckets(config.join_limit),
            blocks: Blocks::new(config.max_blocks_per_agent, config.max_blocks, seed),
            next_seq: Seq(0),
            tickets: Tickets::new(answer_timeout + attended.grace(), seeded.clone()),
            shares: Shares::new(
                seeded.clone(),
                place.shards.count().get().into(),
                config.max_parked_buckets,
            ),
            abandoned_reads: HashSet::with_hasher(seeded.clone()),
            unknown_owners: Vec::new(),
            seeded,
            attended,
            reading_bytes: 0,
            begun_bytes: 0,
            next_expiry: config.queue.map(|queue| now + queue.expiry_interval),
            outputs: VecDeque::new(),
            spares: Spares::default(),
            sweep: 0,
            next_ping: 1,
            links: Links::new(place, config.link_bytes),
            shutdown: Shutdown::No,
            stats: HubStats::default(),
            config,
        }
    }

    /// The hub, with what its store held when it was opened.
    #[must_use]
    pub fn with_restored(mut self, mut restored: Restored) -> Self {
        let place = self.links.place();
        place.shards.retain(place.id, &mut restored);
        let after = restored.last_seq.map(|seq| Seq(seq.0.saturating_add(1)));
        self.next_seq = self.next_seq.max(after.unwrap_or_default());
        self.restore_blocks(restored);
        self
    }

    /// Tells the hub what happened, and returns what to do about it.
    ///
    /// A `now` before an earlier one counts as that earlier one. Inputs for connections that have
    /// ended are ignored and counted ([`HubStats::late`]).
    pub fn handle_input(&mut self, input: Input, now: Time) -> Turn<'_> {
        self.advance(now);
        match input {
            Input::Register {
                address,
                admission,
                options,
            } => self.register(address, admission, options),
            Input::Received { conn, message } => self.receive(conn, message),
            Input::Pong { conn, payload } => self.pong(conn, &payload),
            Input::Blocked { conn, progressed } => self.blocked(conn, progressed),
            Input::Ping { conn, payload } => self.peer_pinged(conn, payload),
            Input::Partial {
                conn,
                bytes,
                short_fragments,
            } => self.partial(conn, bytes, short_fragments),
            Input::Faulty { conn, fault } => self.faulty(conn, fault),
            Input::PeerClosed { conn, close } => self.peer_closed(conn, close),
            Input::Closed { conn, clean } => self.closed(conn, clean),
            Input::Stored { ticket, outcome } => self.stored(ticket, outcome),
            Input::Forwarded { shard, parcel } => self.forwarded(shard, parcel),
            Input::Shutdown => self.shut_down(),
        }
        Turn::new(self)
    }

    /// Transmits frames of `conn`, in order: at most `credit` bytes, or one frame whatever its size if
    /// that is not 0; and the ack probe that belongs behind them.
    ///
    /// The call means that the socket has taken everything transmitted before. If nothing is
    /// transmitted, [`Output::Wake`] follows once something is there. `transmit` gets the frames before
    /// the turn's outputs can be polled.
    pub fn poll_transmit(
        &mut self,
        conn: ConnId,
        credit: usize,
        now: Time,
        transmit: impl FnMut(Frame),
    ) -> Turn<'_> {
        self.advance(now);
        self.transmit(conn, credit, transmit);
        self.set_paused(conn);
        Turn::new(self)
    }

    /// Does what is due at `now`: pings, timeouts, the end of joins and closes.
    ///
    /// Called too early, it does nothing but to count [attended time](self#pauses). It does a
    /// bounded amount of work; if more is due, the turn's [`Wakeup`] says "now".
    pub fn handle_timeout(&mut self, now: Time) -> Turn<'_> {
        self.advance(now);
        self.expire();
        Turn::new(self)
    }

    /// Tells the hub what the wall clock shows at `now`, which may be something else than it followed
    /// from what it showed before: it was set, or the machine was asleep. A driver does so now and
    /// then; as with all that a hub is told, the same at the same time leads to the same outputs.
    ///
    /// From here on, envelopes are dated by it, and are kept until their time is over by it. What was
    /// stored before expires by the clock that the hub began with, if that is the later moment: a
    /// clock that jumps ahead takes nothing that waits along, as long as the hub lives. No deadline
    /// changes.
    ///
    /// ```
    /// use core::time::Duration;
    /// use pinch_proto::hub::{Config, Hub};
    /// use pinch_proto::{Host, Time, UnixMillis};
    ///
    /// // A machine without a battery begins in 1970, until it hears of the time.
    /// let config = Config::new(Host::parse("relay.example.com")?).build()?;
    /// let mut hub = Hub::new(config, [7; 16], Time::ZERO, UnixMillis(0));
    /// hub.set_wall_clock(UnixMillis(1_800_000_000_000), Time::ZERO + Duration::from_secs(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_wall_clock(&mut self, unix: UnixMillis, now: Time) {
        self.unix_at_zero = unix.0.saturating_sub(millis(now));
    }

    /// What the hub has done and holds.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let open = self.table.len() + self.send_only.len();
        HubStats {
            connections: open as u64,
            send_only: self.send_only.len() as u64,
            closing: (self.connections.len() - open) as u64,
            parked_buckets: self.parked.len() as u64,
            join_buckets: self.joins.len() as u64,
            blocks: self.blocks.len() as u64,
            block_owners: self.blocks.owners() as u64,
            store_unanswered: self.tickets.len() as u64,
            held_bytes: self.counted_bytes() + self.links.bytes() as u64,
            unanswered: self.links.unanswered() as u64,
            unstored_bytes: self.unstored_bytes(),
            memory_bytes: (self.config.total_outbox_bytes + self.links.limit()) as u64,
            begun_bytes: self.begun_bytes,
            ..self.stats
        }
    }

    /// Whether `conn` has not ended yet. It may be closing.
    #[must_use]
    pub fn holds(&self, conn: ConnId) -> bool {
        self.connections.get(conn.0).is_some()
    }

    /// Whether what comes from `conn` is taken, and not only its pongs: it has neither ended nor begun
    /// to.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        let connection = self.connections.get(conn.0);
        connection.is_some_and(|connection| !connection.is_closing())
    }

    /// Whether nothing is to be read from `conn` until its next [`poll_transmit`](Self::poll_transmit)
    /// or [`Input::Blocked`]: rejections of what it sent exceed [`Config::refusal_bytes`], those included
    /// that the store may still cause. A connection that can go on is [woken](Output::Wake). While it
    /// is paused, no pong is expected of it.
    #[must_use]
    pub fn is_paused(&self, conn: ConnId) -> bool {
        let connection = self.connections.get(conn.0);
        connection.is_some_and(|connection| connection.paused)
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The connection that is reachable under `address`, whatever the case of its host.
    #[must_use]
    pub fn lookup(&self, address: &str) -> Option<ConnId> {
        let address = Address::normalized(address);
        self.table.find(address.as_bytes(), &self.connections)
    }

    fn advance(&mut self, now: Time) {
        if now < self.now {
            self.stats.clock_regressions += 1;
        } else {
            self.attended.advance(now.since(self.now));
            self.now = now;
        }
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_at_zero.saturating_add(millis(self.now)))
    }

    /// The moment by which what is stored has expired: that of the clock which is behind.
    fn expiry_unix(&self) -> UnixMillis {
        let unix_at_zero = self.unix_at_zero.min(self.first_unix_at_zero);
        UnixMillis(unix_at_zero.saturating_add(millis(self.now)))
    }

    fn next_wakeup(&self) -> Option<Wakeup> {
        if !self.outputs.is_empty() {
            return Some(Wakeup {
                at: self.now,
                reason: WakeupReason::Backlog,
            });
        }
        let attended =
            |due: Option<AttendedTime>| due.map(|due| self.attended.wakeup(due, self.now));
        let mut earliest: Option<Wakeup> = None;
        // Of several at the same time, the first names it.
        for (due, reason) in [
            (self.deadlines.ping.next_due(), WakeupReason::Ping),
            (attended(self.deadlines.pong.next_due()), WakeupReason::Pong),
            (self.deadlines.join.next_due(), WakeupReason::Join),
            (self.deadlines.probe.next_due(), WakeupReason::AckProbe),
            (
                attended(self.deadlines.stall.next_due()),
                WakeupReason::Stall,
            ),
            (attended(self.deadlines.ack.next_due()), WakeupReason::Ack),
            (
                attended(self.deadlines.message.next_due()),
                WakeupReason::Message,
            ),
            (
                attended(self.deadlines.reply.next_due()),
                WakeupReason::Reply,
            ),
            (self.deadlines.retry.next_due(), WakeupReason::Read),
            (attended(self.tickets.next_due()), WakeupReason::Store),
            (self.deadlines.resend.next_due(), WakeupReason::Verdict),
            (self.next_expiry, WakeupReason::Expiry),
            (
                attended(self.deadlines.close.next_due()),
                WakeupReason::Close,
            ),
            (self.parked.next_due(), WakeupReason::Bucket),
            (self.joins.next_due(), WakeupReason::Bucket),
        ] {
            if let Some(at) = due
                && earliest.is_none_or(|earliest| at < earliest.at)
            {
                earliest = Some(Wakeup { at, reason });
            }
        }
        let wakeup = earliest?;
        // What one turn left undone is due now.
        Some(if wakeup.at <= self.now {
            Wakeup {
                at: self.now,
                reason: WakeupReason::Backlog,
            }
        } else {
            wakeup
        })
    }

    /// Decides whether the driver is to read from a connection before it comes again.
    fn set_paused(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        let resumes = connection.paused && !connection.is_closing();
        connection.paused = connection.is_congested(&self.outbox_limits);
        // Nothing was read meanwhile, so the pong has its time from now on.
        if resumes && !connection.paused && connection.ping == Ping::Overdue {
            connection.ping = Ping::Awaited;
            self.deadlines.pong.arm(conn.0.index, self.attended.now());
        }
        if resumes && !connection.paused && core::mem::take(&mut connection.ack_overdue) {
            self.expect_ack(conn);
        }
    }

    fn transmit(&mut self, conn: ConnId, credit: usize, mut transmit: impl FnMut(Frame)) {
        self.taken(conn);
        let Some(connection) = self.connections.get_mut(conn.0) else {
            self.stats.late += 1;
            return;
        };
        let window = self.window;
        if !connection.has_frame(window) {
            connection.asleep = true;
            return self.read_on(conn);
        }
        let queued = (connection.outbox.data_len(), connection.outbox.data_bytes());
        let kept = connection.unconfirmed.bytes();
        let mut room = credit;
        let last_probe = connection.unconfirmed.last_marker();
        // The ack probe behind them goes with them.
        while (room > 0 || (connection.writing && connection.probe_due))
            && let Some(frame) = connection.pop_frame(
                &mut self.next_ping,
                window,
                &mut self.spares,
                &mut self.shares,
            )
        {
            room = room.saturating_sub(frame.len().max(1));
            self.stats.pings += u64::from(matches!(frame, Frame::Ping(_)));
            connection.writing = true;
            transmit(frame);
            connection.probe_due |= connection.needs_probe(window);
            let is_last = room == 0 || !connection.has_frame(window);
            let paced = connection.unconfirmed.last_marker() != last_probe
                || self.deadlines.probe.is_armed(conn.0.index);
            connection.probe_due |= is_last && connection.wants_probe(paced);
        }
        if connection.unconfirmed.last_marker() != last_probe && !connection.is_closing() {
            self.deadlines.probe.arm(conn.0.index, self.now);
            let now = self.attended.now();
            self.deadlines.ack.arm_if_idle(conn.0.index, now);
        }
        connection.asleep = !connection.writing && !connection.has_frame(window);
        if connection.writing && !connection.is_closing() {
            self.deadlines.stall.arm(conn.0.index, self.attended.now());
        }
        let handed_out = (queued.0 - connection.outbox.data_len()) as u64;
        self.stats.queued -= handed_out;
        self.stats.in_flight += handed_out;
        self.stats.in_flight_bytes += (connection.unconfirmed.bytes() - kept) as u64;
        self.stats.queued_bytes -= (queued.1 - connection.outbox.data_bytes()) as u64;
        self.read_on(conn);
    }

    /// The socket has taken what was handed out.
    fn taken(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        connection.stalled = false;
        if connection.ping == Ping::Overdue || connection.ack_overdue {
            self.judge(conn);
        }
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        if !core::mem::take(&mut connection.writing) {
            return;
        }
        let delivered = u64::from(core::mem::take(&mut connection.in_flight));
        self.stats.delivered += delivered;
        self.stats.in_flight -= delivered;
        self.deadlines.stall.disarm(conn.0.index);
        if connection.ping == Ping::HandedOut && !connection.is_closing() {
            connection.ping = Ping::Awaited;
            self.deadlines.pong.arm(conn.0.index, self.attended.now());
            if matches!(connection.phase, Phase::Joining { .. }) {
                self.deadlines.join.arm(conn.0.index, self.now);
            }
        }
    }

    /// The socket has not taken everything; if it moves, the stall timeout begins anew.
    fn blocked(&mut self, conn: ConnId, progressed: bool) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            self.stats.late += 1;
            return;
        };
        if progressed && connection.writing && !connection.is_closing() {
            connection.stalled = false;
            self.deadlines.stall.arm(conn.0.index, self.attended.now());
        }
        self.judge(conn);
        self.set_paused(conn);
    }

    /// Wakes a connection's task if it sleeps while something waits for it.
    fn wake(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0)
            && connection.asleep
            && connection.has_frame(self.window)
        {
            connection.asleep = false;
            self.outputs.push_back(Output::Wake { conn });
        }
    }
}

/// The milliseconds since the epoch of the monotonic clock.
fn millis(time: Time) -> i64 {
    i64::try_from(time.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
