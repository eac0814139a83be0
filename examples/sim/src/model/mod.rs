//! A second hub, written to be read: what the rules say, and nothing for speed.
//!
//! A [`Model`] takes the same inputs as a [`Hub`](pinch_proto::hub::Hub) and says the same outputs,
//! the same wakeups and the same stats. It keeps everything in plain vectors and searches them from
//! the beginning; it keeps no sum that it can count, and no list that it can sort out when asked. So
//! where the two agree, the hub's slabs, lists of deadlines and running totals have not lied.
//!
//! Only one thing is told to it: the name that the hub gave to a connection ([`ConnId`]), since
//! names are the hub's to choose.
//!
//! What the rules leave open, it decides as the hub does, and says so where it does.

mod alarms;
mod begun;
mod connection;
mod delivery;
mod fates;
mod forwarding;
mod heartbeat;
mod joining;
mod patience;
mod queue;
mod rate;
mod replies;
mod routing;
mod shares;
mod stats;
mod words;

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, HubStats, Input, Output, Shard, Wakeup, WakeupReason};
use pinch_proto::queue::{Restored, Seq};
use pinch_proto::{Address, Frame, Time, UnixMillis};

use self::alarms::{Alarms, Kind};
use self::connection::Connection;
use self::fates::Fates;
use self::forwarding::Link;
use self::queue::{Backlog, Owed};
use self::rate::Parked;
use crate::story::Settings;

/// The model admits a connection, and was told of no name for it: the hub has refused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model admits {0}, and the hub does not")]
pub struct Unnamed(pub Address);

/// A hub without haste.
#[derive(Clone, Debug)]
pub struct Model {
    settings: Settings,
    /// Which part of a relay it is.
    place: Shard,
    links: Vec<Link>,
    /// Connections that wait for room on the links, in the order in which they began to.
    waiting_for_links: Vec<ConnId>,
    next_resend_order: u64,
    /// How many connections the other shards have.
    pub others: usize,
    now: Time,
    /// The wall clock when the other showed zero.
    unix_at_zero: i64,
    /// In the order in which they were registered. Those that have ended are not in it.
    connections: Vec<Connection>,
    alarms: Alarms,
    parked: Vec<Parked>,
    /// What addresses have left to join.
    joins: Vec<Parked>,
    /// Who wants nothing from whom.
    blocks: Vec<(Address, Address)>,
    /// Those who block somebody, and the day on which they were seen; the last one at the end.
    owners: Vec<(Address, i64)>,
    /// Those of them of which the store does not know it.
    unknown_owners: Vec<Address>,
    /// What became of each envelope that was accepted or read.
    fates: Fates,
    /// What the store has not answered.
    owed: Vec<Owed>,
    /// What is known of the shares of the queue.
    agents: Vec<shares::Agent>,
    total: shares::Known,
    /// Agents of other shards that are not forgotten yet, the one that came first at the beginning.
    strangers: Vec<Address>,
    /// What is on its way from a connection to the queue of its agent.
    leaving: (Option<Address>, Vec<connection::Letter>),
    next_expiry: Option<Time>,
    next_ping: u64,
    next_seq: u64,
    next_ticket: u64,
    shutdown: Shutdown,
    /// Counters of what has happened; what there is now is not in it, but counted when asked.
    happened: HubStats,
    outputs: Vec<Output>,
    /// What the present call transmits.
    frames: Vec<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    Draining,
    Done,
}

impl Model {
    /// The hub at `place` in a relay with these settings, without connections; `now` and `unix` are the
    /// same moment.
    #[must_use]
    pub fn new(settings: Settings, place: Shard, now: Time, unix: UnixMillis) -> Self {
        let settings = settings.of_shard();
        let others = place.shards.all().filter(|shard| *shard != place.id);
        let links = others.map(Link::new).collect();
        let expiry = Duration::from_millis(Settings::EXPIRY_INTERVAL);
        Self {
            settings,
            place,
            links,
            waiting_for_links: vec![],
            next_resend_order: 0,
            others: 0,
            now,
            unix_at_zero: unix.0 - millis(now),
            connections: vec![],
            alarms: Alarms::new(&settings),
            parked: vec![],
            joins: vec![],
            blocks: vec![],
            owners: vec![],
            unknown_owners: vec![],
            fates: Fates::default(),
            owed: vec![],
            agents: vec![],
            total: shares::Known::default(),
            strangers: vec![],
            leaving: (None, vec![]),
            next_expiry: settings.queue.map(|_| now + expiry),
            next_ping: 1,
            next_seq: 0,
            next_ticket: 0,
            shutdown: Shutdown::No,
            happened: HubStats::default(),
            outputs: vec![],
            frames: vec![],
        }
    }

    /// The same, after a restart.
    #[must_use]
    pub fn with_restored(mut self, mut restored: Restored) -> Self {
        let is_here = |address: &Address| self.other_shard(address.as_str()).is_none();
        restored.blocks.retain(|(blocker, _)| is_here(blocker));
        restored.owners.retain(|(owner, _)| is_here(owner));
        self.next_seq = restored.last_seq.map_or(0, |seq| seq.0 + 1);
        let mut owners = restored.owners;
        owners.sort_by_key(|(_, at)| *at);
        let today = self.day();
        for (owner, _) in &restored.blocks {
            if owners.iter().all(|(known, _)| known != owner) {
                owners.push((owner.clone(), self.unix()));
                self.unknown_owners.push(owner.clone());
            }
        }
        let day = |at: UnixMillis| at.0.div_euclid(routing::DAY).min(today);
        self.owners = owners
            .into_iter()
            .map(|(owner, at)| (owner, day(at)))
            .collect();
        self.blocks = restored.blocks;
        self
    }

    /// Tells the model what happened. `name` is what a connection is called that is registered now.
    ///
    /// # Errors
    /// [`Unnamed`] if one is to be registered and there is no name.
    pub fn handle(
        &mut self,
        input: Input,
        now: Time,
        name: Option<ConnId>,
    ) -> Result<Vec<Output>, Unnamed> {
        self.advance(now);
        if self.is_late(&input) {
            self.happened.late += 1;
        }
        match input {
            Input::Register {
                address,
                admission,
                options,
            } => self.register(address, admission, options, name)?,
            Input::Received { conn, message } => self.receive(conn, message.bytes()),
            Input::Pong { conn, payload } => self.pong(conn, &payload),
            Input::Blocked { conn, progressed } => self.blocked(conn, progressed),
            Input::Ping { conn, payload } => self.pinged(conn, payload),
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
        self.leave_shares();
        Ok(core::mem::take(&mut self.outputs))
    }

    /// Transmits what there is for `conn`.
    pub fn poll_transmit(
        &mut self,
        conn: ConnId,
        credit: usize,
        now: Time,
    ) -> (Vec<Frame>, Vec<Output>) {
        self.advance(now);
        if !self.holds(conn) {
            self.happened.late += 1;
        }
        self.transmit(conn, credit);
        self.leave_shares();
        let frames = core::mem::take(&mut self.frames);
        (frames, core::mem::take(&mut self.outputs))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) -> Vec<Output> {
        self.advance(now);
        while self.do_next_due() {}
        self.leave_shares();
        core::mem::take(&mut self.outputs)
    }

    /// When something is due, and what; what should have been done before is due now.
    #[must_use]
    pub fn wakeup(&self) -> Option<Wakeup> {
        let expiry = self.next_expiry.map(|at| (at, WakeupReason::Expiry));
        let answer = self.owed.iter().filter(|owed| !owed.overdue);
        let answer = answer.map(|owed| {
            (
                self.alarms.patience.look(owed.due, self.now),
                WakeupReason::Store,
            )
        });
        let resend = self.next_resend().map(|at| (at, WakeupReason::Verdict));
        let bucket = self
            .parked
            .iter()
            .chain(&self.joins)
            .map(|parked| (parked.until, WakeupReason::Bucket));
        let alarms = self.alarms.all(self.now);
        let all = alarms.chain(expiry).chain(answer).chain(resend);
        let all = all.chain(bucket);
        let (at, reason) = all.min()?;
        Some(if at > self.now {
            Wakeup { at, reason }
        } else {
            let (at, reason) = (self.now, WakeupReason::Backlog);
            Wakeup { at, reason }
        })
    }

    /// The connection that is reachable under `address`.
    #[must_use]
    pub fn lookup(&self, address: &str) -> Option<ConnId> {
        let reachable = |connection: &&Connection| {
            connection.is_open()
                && !connection.options.send_only
                && routing::is_same(address, &connection.address)
        };
        self.connections
            .iter()
            .find(reachable)
            .map(|connection| connection.conn)
    }

    /// Whether `conn` has not ended.
    #[must_use]
    pub fn holds(&self, conn: ConnId) -> bool {
        self.get(conn).is_some()
    }

    /// Whether `conn` has neither ended nor begun to.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(Connection::is_open)
    }

    /// Whether nothing is to be read from `conn`.
    #[must_use]
    pub fn is_paused(&self, conn: ConnId) -> bool {
        self.get(conn).is_some_and(|connection| connection.paused)
    }

    /// Whether what comes for `conn` may be in the store.
    #[must_use]
    pub fn has_backlog(&self, conn: ConnId) -> bool {
        self.get(conn)
            .is_some_and(|connection| connection.backlog.is_some())
    }

    /// Whether `conn` has something in the store, or may have, could be given it, and nothing is
    /// done about it.
    #[must_use]
    pub fn is_idle_behind_a_backlog(&self, conn: ConnId) -> bool {
        let waits = self.alarms.is_set(Kind::Read, conn);
        self.get(conn).is_some_and(|connection| {
            let backlog = connection.backlog.as_ref();
            let is_read = backlog.is_none_or(Backlog::is_being_read);
            // It may have to confirm something first: then its pong is waited for.
            let is_waited_for = is_read
                || waits
                || !connection.given.is_empty()
                || self.predecessor(&connection.address).is_some()
                || self.is_read_for_another(conn, &connection.address);
            connection.data.is_empty() && connection.is_open() && !is_waited_for
        })
    }

    /// The envelopes that wait for `conn` in memory.
    pub fn waiting(&self, conn: ConnId) -> impl Iterator<Item = &Bytes> {
        let waiting = self.get(conn).into_iter().flat_map(Connection::waiting);
        waiting.map(|letter| &letter.message)
    }

    /// The envelopes that `conn` was given and has not confirmed.
    pub fn unconfirmed(&self, conn: ConnId) -> impl Iterator<Item = &Bytes> {
        let given = self.get(conn).into_iter();
        let given = given.flat_map(|connection| &connection.given);
        given.map(|given| &given.letter.message)
    }

    /// What `conn` is to hear that the relay itself says.
    pub fn control(&self, conn: ConnId) -> impl Iterator<Item = &Frame> {
        let connection = self.get(conn).into_iter();
        connection.flat_map(|connection| &connection.control)
    }

    fn advance(&mut self, now: Time) {
        if now < self.now {
            self.happened.clock_regressions += 1;
        }
        self.alarms.patience.pass(now.since(self.now));
        self.now = self.now.max(now);
    }

    /// Whether `input` is about something that is over.
    fn is_late(&self, input: &Input) -> bool {
        match input {
            Input::Received { conn, .. }
            | Input::Ping { conn, .. }
            | Input::Partial { conn, .. }
            | Input::Faulty { conn, .. } => !self.is_open(*conn),
            Input::Pong { conn, .. }
            | Input::PeerClosed { conn, .. }
            | Input::Blocked { conn, .. }
            | Input::Closed { conn, .. } => !self.holds(*conn),
            Input::Stored { ticket, .. } => !self.owed.iter().any(|owed| owed.ticket == *ticket),
            Input::Register { .. } | Input::Forwarded { .. } | Input::Shutdown => false,
        }
    }

    fn get(&self, conn: ConnId) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.conn == conn)
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections
            .iter_mut()
            .find(|connection| connection.conn == conn)
    }

    /// The connection, if it is not over or about to be.
    fn open(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.get_mut(conn).filter(|connection| connection.is_open())
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_at_zero + millis(self.now))
    }

    /// The place of the next envelope that is accepted.
    fn take_seq(&mut self) -> Seq {
        self.next_seq += 1;
        Seq(self.next_seq - 1)
    }
}

fn millis(time: Time) -> i64 {
    i64::try_from(time.as_nanos() / 1_000_000).expect("a story is shorter than that")
}
