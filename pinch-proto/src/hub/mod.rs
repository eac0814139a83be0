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
//! everything transmitted before. If less is transmitted than the socket may take, that was all, and
//! the hub says [`Output::Wake`] once there is more; else the driver calls again when it has written.
//! Where a write does not take everything, the driver says [`Input::Blocked`] at once, and calls again
//! when it has written the rest. Nothing waits outside the hub beyond one such batch.
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
//! back; its sender is told if it is refused then.
//!
//! Each of several shards reserves its part of what is left of all bytes; for a sender of another
//! shard, as if nothing of it were stored, until the store says what is. So the bytes of one sender can
//! come to its limit once for each shard, and all bytes to twice their limit, at most.
//! (With [`Delivery::AtMostOnce`], what expires in the store while it is handed out may make
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
//! # Shards
//!
//! A relay has one hub or several ([`Hub::new_shard`]): its shards. An address lives in the shard
//! that its hash names ([`Shards::of`]), with its connections, outbox, queue and block list. So all
//! envelopes of one sender to one recipient take the same way, in order.
//!
//! What concerns the sender is checked in its shard: the size, the address, the rate. An envelope for
//! another shard leaves as [`Output::Forward`] and enters there as [`Input::Forwarded`]; what concerns
//! the recipient is decided there, and the [`Verdict`] comes back the same way. The sender's pongs and
//! close echo wait for it as for an answer of the store. If an envelope that was accepted comes back
//! later, its rejection takes that way, too.
//!
//! Envelopes without a verdict are bounded: an eighth of the memory of a shard is for them. From half of that, their senders are [paused](Hub::is_paused); what
//! was read already is rejected beyond it. What the other shard has given to its store counts there.
//!
//! The bus between the shards hands over what a hub says to another in order. One that may lose,
//! repeat or reorder needs [`Shard::resend_after`]. A driver registers an address in its shard, gives
//! an answer of the store to the hub that has asked, divides what the store held ([`Shards::split`]),
//! and is done with a shutdown when all hubs have said [`Output::ShutDown`].
//!
//! # Where things are
//!
//! A hub is split into its connections and what they share, which are borrowed apart: a call looks its
//! connections up once, and passes them down.
//!
//! | module | holds |
//! |---|---|
//! | `io`, `turn`, `config`, `stats` | what a driver sees: inputs, outputs, settings, counters |
//! | `connections` | all connections, the routing table, send-only sessions |
//! | `connection` | one connection: its phase, its ping, its socket, and which frame comes next |
//! | `outbox` | its send buffer: what waits for it, and what is in flight |
//! | `backlog` | where a connection is in its queue |
//! | `unsettled` | requests of a connection that are not answered, and replies that wait for that |
//! | `core` | what connections share: settings, clocks, wakeups, memory |
//! | `shares`, `tickets` | the use of the queue's limits, and what the store owes answers for |
//! | `blocks`, `rate`, `links` | block lists, token buckets, links to other shards |
//! | `lifecycle` | register, close, remove, shut down |
//! | `routing` | a message comes: check it, and find its recipient |
//! | `delivery` | an envelope goes into an outbox, behind a read, or to the queue |
//! | `queueing` | what is asked of the store, and what is made of the answers |
//! | `forwarding` | what goes to other shards and comes from them |
//! | `rejection` | why an envelope does not arrive, and who hears that |
//! | `transmit` | what leaves for a socket |
//! | `liveness` | deadlines, pings, pongs and acks |
//! | `shortage`, `begun` | who gives way when memory is short, or takes too much of it |
//! | `slab`, `table`, `deadlines`, `seeded` | tools |
//!
//! Every input costs O(1), besides [`Input::Shutdown`], which visits each connection once, and the
//! end of a connection and the end of a read, which visit what waits for it.

mod backlog;
mod begun;
mod blocks;
mod config;
mod connection;
mod connections;
mod core;
mod deadlines;
mod delivery;
mod forwarding;
mod io;
mod lifecycle;
mod links;
mod liveness;
mod outbox;
mod queueing;
mod rate;
mod rejection;
mod routing;
mod seeded;
mod send_only;
mod shards;
mod shares;
mod shortage;
mod slab;
mod stats;
mod table;
mod tickets;
mod transmit;
mod turn;
mod unsettled;

use ::core::num::NonZeroU16;

pub use self::config::{
    AckOnClose, Addressing, Config, ConfigError, Delivery, OnDuplicate, QueueConfig, SlowReader,
};
pub use self::io::{
    Admission, CloseCause, ConnId, Fault, Input, JoinOptions, JoinRefusal, Output, Violation,
    Wakeup, WakeupReason,
};
pub use self::links::{Item, Parcel, Verdict};
pub use self::outbox::ENVELOPE_OVERHEAD;
pub use self::rate::RateLimit;
pub(crate) use self::rate::TokenBucket;
pub(crate) use self::seeded::Seeded;
pub use self::shards::{Shard, ShardId, Shards};
pub(crate) use self::slab::{Key, Slab};
pub use self::stats::HubStats;
pub use self::turn::Turn;

use self::connections::Connections;
use self::core::Core;
use crate::queue::{Restored, Seq};
use crate::{Address, Frame, Time, UnixMillis};

/// The routing table of a relay and everything that belongs to it. See the [module](self) for how
/// to drive it.
///
/// Its two halves are borrowed apart: what concerns one connection is a function of `Core` that gets
/// the connection; what concerns several is one of the hub.
#[derive(Debug)]
pub struct Hub {
    connections: Connections,
    core: Core,
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
        let seeded = Seeded::new(place.shards.seed());
        Self {
            connections: Connections::new(&seeded),
            core: Core::new(config, place, seeded, now, unix),
        }
    }

    /// The hub, with what its store held when it was opened.
    #[must_use]
    pub fn with_restored(mut self, mut restored: Restored) -> Self {
        let place = self.core.links.place();
        place.shards.retain(place.id, &mut restored);
        let after = restored.last_seq.map(|seq| Seq(seq.0.saturating_add(1)));
        self.core.next_seq = self.core.next_seq.max(after.unwrap_or_default());
        self.core.restore_blocks(restored);
        self
    }

    /// Tells the hub what happened, and returns what to do about it.
    ///
    /// A `now` before an earlier one counts as that earlier one. Inputs for connections that have
    /// ended are ignored and counted ([`HubStats::late`]).
    pub fn handle_input(&mut self, input: Input, now: Time) -> Turn<'_> {
        self.core.advance(now);
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
            Input::Forwarded { shard, parcels } => {
                for parcel in parcels {
                    self.forwarded(shard, parcel);
                }
            }
            Input::Shutdown => self.shut_down(),
        }
        Turn::new(self)
    }

    /// Transmits frames of `conn`, in order: at most `credit` bytes, or one frame whatever its size if
    /// that is not 0; and the ack probe that belongs behind them.
    ///
    /// The call means that the socket has taken everything transmitted before. What it transmits counts
    /// as taken, too: if a write does not take all of it, the driver says [`Input::Blocked`] before it
    /// looks at this socket again. If less than `credit` is transmitted, where a frame counts one byte
    /// at least, that was all, and [`Output::Wake`] follows once there is more. `transmit` gets the
    /// frames before the turn's outputs can be polled.
    pub fn poll_transmit(
        &mut self,
        conn: ConnId,
        credit: usize,
        now: Time,
        transmit: impl FnMut(Frame),
    ) -> Turn<'_> {
        self.core.advance(now);
        self.transmit(conn, credit, transmit);
        Turn::new(self)
    }

    /// Does what is due at `now`: pings, timeouts, the end of joins and closes.
    ///
    /// Called too early, it does nothing but to count [attended time](self#pauses). It does a
    /// bounded amount of work; if more is due, the turn's [`Wakeup`] says "now".
    pub fn handle_timeout(&mut self, now: Time) -> Turn<'_> {
        self.core.advance(now);
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
        self.core.clock.set_wall(unix, now);
    }

    /// Number of its connections, closing ones included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Tells the hub how many connections the other shards of its relay have, closing ones included:
    /// they count in [`Config::max_connections`]. A driver says so before it registers one, as exactly
    /// as it knows.
    pub const fn set_other_connections(&mut self, count: usize) {
        self.core.other_connections = count;
    }

    /// What the hub has done and holds.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let open = self.connections.open_len();
        HubStats {
            connections: open as u64,
            send_only: self.connections.send_only.len() as u64,
            closing: (self.connections.len() - open) as u64,
            ..self.core.stats()
        }
    }

    /// Whether `conn` has not ended yet. It may be closing.
    #[must_use]
    pub fn holds(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some()
    }

    /// Whether what comes from `conn` is taken, and not only its pongs: it has neither ended nor begun
    /// to.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        let connection = self.connections.get(conn);
        connection.is_some_and(|connection| !connection.is_closing())
    }

    /// Whether nothing is to be read from `conn` until its next [`poll_transmit`](Self::poll_transmit)
    /// or [`Input::Blocked`]: rejections of what it sent exceed [`Config::refusal_bytes`], those included
    /// that the store may still cause. A connection that can go on is [woken](Output::Wake). While it
    /// is paused, no pong is expected of it.
    #[must_use]
    pub fn is_paused(&self, conn: ConnId) -> bool {
        let connection = self.connections.get(conn);
        connection.is_some_and(|connection| connection.paused)
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.core.config
    }

    /// The connection that is reachable under `address`, whatever the case of its host.
    #[must_use]
    pub fn lookup(&self, address: &str) -> Option<ConnId> {
        self.connections.find(&Address::normalized(address))
    }

    /// Wakes the task of `conn` if it sleeps while something waits for it.
    fn wake(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            self.core.wake(connection);
        }
    }
}
