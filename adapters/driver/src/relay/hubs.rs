//! A hub behind its lock, with all that its outputs concern: wakers, the timer, the store.
//!
//! The lock is taken once for a burst of messages; wakers are called, and logs written, after it was
//! released.

use core::task::Waker;

use pinch_proto::hub::{
    CloseCause, ConnId, Hub, HubStats, Input, JoinRefusal, Output, Parcel, ShardId, Turn, Wakeup,
};
use pinch_proto::peers::Source;
use pinch_proto::queue::Request;
use pinch_proto::{Address, Frame, Time};
use tracing::{Level, enabled};

use crate::clock::unix_now;

/// Number of parcels that room is kept for: a batch of small ones.
const MAX_KEPT: usize = 1024;

/// What the lock of a hub protects.
pub(super) struct HubState {
    hub: Hub,
    outside: Outside,
    /// Memory for what comes from other shards.
    arrived: Vec<(ShardId, Vec<Parcel>)>,
}

/// Everything but the hub: where its outputs go.
#[derive(Default)]
struct Outside {
    /// By [`ConnId::index`].
    wakers: Vec<Option<Waker>>,
    /// The addresses that connections come from, by [`ConnId::index`].
    sources: Vec<Option<Source>>,
    timer: Option<Waker>,
    /// When the timer will look at the hub by itself.
    timer_at: Option<Time>,
    /// What the store is to do.
    requests: Vec<Request>,
    /// What is for other shards.
    parcels: Vec<(ShardId, Vec<Parcel>)>,
    /// The answer to [`Input::Register`].
    joined: Option<Result<ConnId, JoinRefusal>>,
    left: Left,
}

/// What is left to do when the lock is released.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) wakers: Vec<Waker>,
    pub(super) notes: Vec<Note>,
    /// The shards for which there are parcels.
    pub(super) concerned: Vec<ShardId>,
    /// The store has something to do.
    pub(super) has_requests: bool,
    /// The hub has shut down just now.
    pub(super) has_shut_down: bool,
}

/// What the hub did to a connection, for the log.
#[derive(Debug)]
pub(super) enum Note {
    Joined(ConnId, Address),
    JoinRefused(Address, JoinRefusal),
    Ended(ConnId, Address, Source, CloseCause),
}

/// When the timer has to look at the hub again.
pub(super) enum Due {
    /// At once: more is due than one turn does.
    Now,
    /// At that time.
    At(Time),
    /// When it is woken.
    Unknown,
}

impl Due {
    /// At `at` if that is sooner.
    pub(super) fn or_at(self, at: Option<Time>) -> Self {
        match (self, at) {
            (Self::At(due), Some(at)) => Self::At(due.min(at)),
            (Self::Unknown, Some(at)) => Self::At(at),
            (due, _) => due,
        }
    }
}

impl HubState {
    pub(super) fn new(hub: Hub) -> Self {
        Self {
            hub,
            outside: Outside::default(),
            arrived: Vec::new(),
        }
    }

    pub(super) const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Hands `input` to the hub, and does what it says.
    pub(super) fn handle(&mut self, input: Input, now: Time) {
        let turn = self.hub.handle_input(input, now);
        let wakeup = self.outside.drain(turn).finish();
        self.outside.reset_timer(wakeup);
    }

    /// Hands in an input of a burst but the last: what the hub says is looked at once, with that.
    pub(super) fn hand_in(&mut self, input: Input, now: Time) {
        let _ = self.hub.handle_input(input, now);
    }

    /// Takes what other shards have left in `inbox`.
    pub(super) const fn fetch(&mut self, inbox: &mut Vec<(ShardId, Vec<Parcel>)>) {
        core::mem::swap(&mut self.arrived, inbox);
    }

    /// Hands in what was fetched.
    pub(super) fn hand_in_fetched(&mut self, now: Time) {
        let mut arrived = self.arrived.drain(..).peekable();
        while let Some((shard, parcels)) = arrived.next() {
            let turn = self
                .hub
                .handle_input(Input::Forwarded { shard, parcels }, now);
            if arrived.peek().is_none() {
                let wakeup = self.outside.drain(turn).finish();
                self.outside.reset_timer(wakeup);
            }
        }
        drop(arrived);
        self.arrived.shrink_to(MAX_KEPT);
    }

    /// Takes what is for other shards, in order.
    pub(super) fn parcels(&mut self) -> impl Iterator<Item = (ShardId, Vec<Parcel>)> {
        self.outside.parcels.shrink_to(MAX_KEPT);
        self.outside.parcels.drain(..)
    }

    /// Takes what there is to write to the socket of `conn`, which has taken everything before.
    pub(super) fn poll_transmit(
        &mut self,
        conn: ConnId,
        credit: usize,
        now: Time,
        transmit: impl FnMut(Frame),
    ) {
        let turn = self.hub.poll_transmit(conn, credit, now, transmit);
        let wakeup = self.outside.drain(turn).finish();
        self.outside.reset_timer(wakeup);
    }

    /// Enters a connection from `source` into the routing table by `input`, where other shards have so
    /// many.
    pub(super) fn register(
        &mut self,
        input: Input,
        source: Source,
        others: usize,
        now: Time,
    ) -> Result<ConnId, JoinRefusal> {
        self.hub.set_other_connections(others);
        self.handle(input, now);
        let joined = self.outside.joined.take();
        let joined = joined.unwrap_or(Err(JoinRefusal::ShuttingDown));
        if let Ok(conn) = joined {
            *slot(&mut self.outside.sources, conn.index()) = Some(source);
        }
        joined
    }

    /// Lets the hub do what is due at `now`, and says when there will be more. `waker` is the timer's.
    pub(super) fn handle_timeout(&mut self, now: Time, waker: &Waker) -> Due {
        // What is stored outlives this process, and any mistake of the clock when it began.
        self.hub.set_wall_clock(unix_now(), now);
        let wakeup = self.outside.drain(self.hub.handle_timeout(now)).finish();
        self.outside.timer = Some(waker.clone());
        self.outside.timer_at = wakeup.map(|wakeup| wakeup.at);
        match self.outside.timer_at {
            Some(at) if at <= now => Due::Now,
            Some(at) => Due::At(at),
            None => Due::Unknown,
        }
    }

    /// Has `waker` called when something waits for `conn`, or when it ends.
    pub(super) fn sleep(&mut self, conn: ConnId, waker: &Waker) {
        match slot(&mut self.outside.wakers, conn.index()) {
            Some(known) => known.clone_from(waker),
            slot => *slot = Some(waker.clone()),
        }
    }

    /// Takes what the store is to do.
    pub(super) fn take_requests(&mut self) -> Vec<Request> {
        core::mem::take(&mut self.outside.requests)
    }

    pub(super) fn stats(&self) -> HubStats {
        self.hub.stats()
    }

    pub(super) const fn wake_timer(&mut self) -> Option<Waker> {
        self.outside.timer.take()
    }

    /// Wakes all tasks that wait for the hub.
    pub(super) fn wake_all(&mut self) {
        let Outside {
            wakers,
            timer,
            left,
            ..
        } = &mut self.outside;
        let connections = wakers.iter_mut().filter_map(Option::take);
        left.wakers.extend(connections.chain(timer.take()));
    }

    /// Exchanges what is left to do for `left`, which is empty.
    pub(super) const fn swap_left(&mut self, left: &mut Left) {
        core::mem::swap(&mut self.outside.left, left);
    }
}

impl Outside {
    /// Takes all outputs of `turn`.
    fn drain<'a>(&mut self, mut turn: Turn<'a>) -> Turn<'a> {
        let was_empty = self.requests.is_empty();
        let Left {
            wakers,
            notes,
            has_shut_down,
            ..
        } = &mut self.left;
        let mut wake = |conn: ConnId| {
            let waker = self.wakers.get_mut(conn.index());
            wakers.extend(waker.and_then(Option::take));
        };
        while let Some(output) = turn.poll_output() {
            match output {
                Output::Registered { conn, address } => {
                    self.joined = Some(Ok(conn));
                    if enabled!(Level::DEBUG) {
                        notes.push(Note::Joined(conn, address));
                    }
                }
                Output::Refused { address, refusal } => {
                    self.joined = Some(Err(refusal));
                    if enabled!(Level::DEBUG) {
                        notes.push(Note::JoinRefused(address, refusal));
                    }
                }
                Output::Wake { conn } => wake(conn),
                Output::Closed {
                    conn,
                    address,
                    cause,
                } => {
                    wake(conn);
                    let source = self.sources.get(conn.index()).copied().flatten();
                    let source = source.unwrap_or(Source::of(None));
                    notes.push(Note::Ended(conn, address, source, cause));
                }
                Output::Store(request) => self.requests.push(request),
                Output::ShutDown => *has_shut_down = true,
                Output::Forward { shard, parcels } => self.parcels.push((shard, parcels)),
            }
        }
        // Later ones are found with these.
        self.left.has_requests |= was_empty && !self.requests.is_empty();
        turn
    }

    /// Wakes the timer if it would come too late for `wakeup`.
    fn reset_timer(&mut self, wakeup: Option<Wakeup>) {
        let sooner = wakeup.is_some_and(|wakeup| self.timer_at.is_none_or(|at| wakeup.at < at));
        if sooner {
            self.timer_at = wakeup.map(|wakeup| wakeup.at);
            self.left.wakers.extend(self.timer.take());
        }
    }
}

/// The slot `index` of `slots`, made if there is none.
fn slot<T>(slots: &mut Vec<Option<T>>, index: usize) -> &mut Option<T> {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots
        .get_mut(index)
        .expect("the slots were resized to hold it")
}
