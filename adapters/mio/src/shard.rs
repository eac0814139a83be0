//! The loop of one hub: the sockets of its agents, its timer, and what it says to the store.
//!
//! Nothing here is shared: the hub, the connections and the buffers belong to this thread. A round
//! lets each connection that has something to do read once and write what waits for it; those that
//! it wakes have their turn in the round behind it.

use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use mio::{Events, Poll};
use pinch_driver::parts::{Report, unix_now};
use pinch_driver::proto::Address;
use pinch_driver::proto::hub::{
    CloseCause, ConnId, Hub, Input, JoinRefusal, Output, Parcel, ShardId, Turn, Wakeup,
};
use pinch_driver::proto::queue::Request;
use pinch_driver::session::{Event, MAX_READ, Session, WriteBatch};
use tracing::debug;

use crate::conn::{Conn, Seat};
use crate::mailbox::{EVENTS, WAKER, wait};
use crate::shared::{Shared, ToFront, ToShard, lock};

/// Maximum number of bytes that are taken from the hub at once for one connection.
const BATCH: usize = 256 << 10;

/// How often a connection writes what it takes from the hub, before others have their turn.
const WRITES: usize = 16;

/// Number of rounds between two looks at the sockets.
const ROUNDS: usize = 16;

/// What the store is asked for, and by which hub.
pub(crate) type Wanted = (ShardId, Vec<Request>);

/// The loop of one hub.
pub(crate) struct Shard {
    id: ShardId,
    shared: Arc<Shared>,
    poll: Poll,
    inbox: Receiver<ToShard>,
    store: Option<Sender<Wanted>>,
    /// Requests to the store that are not answered.
    unanswered: usize,
    hub: Hub,
    said: Said,
    /// By [`ConnId::index`].
    conns: Vec<Option<Box<Conn>>>,
    /// Those that have something to do, and those of the round that runs.
    queue: Vec<usize>,
    round: Vec<usize>,
    buffer: Box<[u8]>,
    out: WriteBatch,
    is_closing: bool,
    is_finished: bool,
}

/// What the hub has said and is not done.
#[derive(Default)]
struct Said {
    wakeup: Option<Wakeup>,
    joined: Option<Result<ConnId, JoinRefusal>>,
    woken: Vec<ConnId>,
    closed: Vec<(ConnId, Address, CloseCause)>,
    requests: Vec<Request>,
    /// For other shards, by [`ShardId::index`].
    parcels: Vec<Vec<Parcel>>,
    has_shut_down: bool,
}

impl Said {
    /// Takes the outputs of `turn`, and when the hub wants to be called.
    fn take(&mut self, mut turn: Turn<'_>) {
        self.take_outputs(&mut turn);
        self.wakeup = turn.finish();
    }

    fn take_outputs(&mut self, turn: &mut Turn<'_>) {
        while let Some(output) = turn.poll_output() {
            match output {
                Output::Registered { conn, address } => {
                    debug!(?conn, %address, "joined");
                    self.joined = Some(Ok(conn));
                }
                Output::Refused { address, refusal } => {
                    debug!(%address, %refusal, "join refused");
                    self.joined = Some(Err(refusal));
                }
                Output::Wake { conn } => self.woken.push(conn),
                Output::Closed {
                    conn,
                    address,
                    cause,
                } => self.closed.push((conn, address, cause)),
                Output::Store(request) => self.requests.push(request),
                Output::Forward { shard, parcels } => {
                    let index = shard.index();
                    if self.parcels.len() <= index {
                        self.parcels.resize_with(index + 1, Vec::new);
                    }
                    self.parcels[index].extend(parcels);
                }
                Output::ShutDown => self.has_shut_down = true,
            }
        }
    }
}

impl Shard {
    pub(crate) fn new(
        id: ShardId,
        shared: Arc<Shared>,
        poll: Poll,
        inbox: Receiver<ToShard>,
        store: Option<Sender<Wanted>>,
        hub: Hub,
    ) -> Self {
        Self {
            id,
            shared,
            poll,
            inbox,
            store,
            unanswered: 0,
            hub,
            said: Said::default(),
            conns: Vec::new(),
            queue: Vec::new(),
            round: Vec::new(),
            buffer: vec![0; MAX_READ].into(),
            out: WriteBatch::default(),
            is_closing: false,
            is_finished: false,
        }
    }

    /// Runs until the relay has shut down, or was cut and the store has what that leaves behind.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_over() {
            let timeout = self.timeout();
            wait(&mut self.poll, &mut events, timeout);
            for event in &events {
                if event.token() == WAKER {
                    self.take_messages();
                } else if let Some(conn) = conn(&mut self.conns, event.token().0)
                    && conn.note(event)
                {
                    enqueue(&mut self.conns, &mut self.queue, event.token().0);
                }
            }
            for _ in 0..ROUNDS {
                self.run_round();
            }
            self.handle_timeout();
            self.send();
        }
        *lock(&self.shared.shards[self.id.index()].last) = self.hub.stats();
    }

    fn is_over(&self) -> bool {
        if self.shared.is_cut() {
            let is_waited_for = self.unanswered > 0 && self.shared.has_store();
            let is_patient = self.shared.store_patience() != Some(Duration::ZERO);
            return self.is_finished && !(is_waited_for && is_patient);
        }
        self.shared.is_finished()
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let wakeup = self.said.wakeup.as_ref();
        let wakeup = wakeup.map(|wakeup| wakeup.at.since(self.shared.now()));
        [wakeup, self.shared.store_patience()]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_messages(&mut self) {
        self.shared.shards[self.id.index()].mailbox.answer();
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                ToShard::Join(conn) => self.join(conn),
                ToShard::Stored(answers) => {
                    self.unanswered -= answers.len();
                    answers.into_iter().for_each(|answer| self.input(answer));
                }
                ToShard::Forwarded(shard, parcels) => {
                    let now = self.shared.now();
                    let input = Input::Forwarded { shard, parcels };
                    self.said.take(self.hub.handle_input(input, now));
                    self.settle();
                }
                ToShard::Stats(sender) => drop(sender.send(self.hub.stats())),
            }
        }
        if self.shared.is_cut() {
            let conns = self.conns.iter().flatten();
            let ends: Vec<_> = conns.filter_map(|conn| conn.session.closed()).collect();
            ends.into_iter().for_each(|end| self.input(end));
            self.finish();
        } else if self.shared.is_closing() && !self.is_closing {
            self.is_closing = true;
            self.input(Input::Shutdown);
        }
    }

    /// Hands `input` to the hub, and does what it says.
    fn input(&mut self, input: Input) {
        self.said
            .take(self.hub.handle_input(input, self.shared.now()));
        self.settle();
    }

    /// Enters a connection into the routing table, and writes what it hears first.
    fn join(&mut self, mut conn: Box<Conn>) {
        let now = self.shared.now();
        let Some(Event::Register(register)) = conn.session.poll_event(now, &mut self.out) else {
            return self.give_back(conn);
        };
        self.said.take(self.hub.handle_input(register.input(), now));
        match self.said.joined.take() {
            Some(Ok(id)) => {
                register.registered(id, &mut self.out);
                let Self { hub, said, .. } = self;
                conn.session.receive(&[], |input| {
                    said.take_outputs(&mut hub.handle_input(input, now));
                });
                self.settle();
                self.shared.front.post(ToFront::Joined);
                if let Seat::Pending(pending) = conn.seat {
                    conn.seat = Seat::Joined(self.shared.desk().join(pending));
                }
                let index = id.index();
                conn.register(self.poll.registry(), index);
                if self.conns.len() <= index {
                    self.conns.resize_with(index + 1, || None);
                }
                self.conns[index] = Some(conn);
                self.turn(index);
            }
            Some(Err(refusal)) => {
                register.refused(refusal, now, &mut self.out);
                self.give_back(conn);
            }
            None => self.give_back(conn),
        }
    }

    /// The connection ends, which is the other thread's business.
    fn give_back(&mut self, mut conn: Box<Conn>) {
        conn.write(&mut self.out);
        self.shared.front.post(ToFront::Refused(conn));
    }

    /// Lets each connection that has something to do have its turn.
    fn run_round(&mut self) {
        let mut round = core::mem::take(&mut self.round);
        core::mem::swap(&mut round, &mut self.queue);
        round.drain(..).for_each(|index| self.turn(index));
        self.round = round;
    }

    fn turn(&mut self, index: usize) {
        let Some(mut conn) = self.conns.get_mut(index).and_then(Option::take) else {
            return;
        };
        conn.is_queued = false;
        let again = self.exchange(&mut conn);
        if let Some(slot) = self.conns.get_mut(index) {
            *slot = Some(conn);
        }
        if again {
            enqueue(&mut self.conns, &mut self.queue, index);
        }
        self.settle();
    }

    /// Reads once, and writes what the hub has for the connection. Returns whether there is more to
    /// do at once.
    fn exchange(&mut self, conn: &mut Conn) -> bool {
        let Self {
            hub,
            said,
            buffer,
            out,
            ..
        } = self;
        let now = self.shared.now();
        let Some(id) = conn.session.conn() else {
            return false;
        };
        let progressed = conn.write_unsent();
        let mut receive = |session: &mut Session, bytes: &[u8]| {
            session.receive(bytes, |input| {
                said.take_outputs(&mut hub.handle_input(input, now));
            });
        };
        conn.read(buffer, &mut receive);
        if conn.session.expects_end() {
            // What a peer does that waits for no answer says nothing about what it has got.
            conn.is_readable = true;
            conn.read(buffer, receive);
        }
        let mut has_more = false;
        if conn.is_over() {
            // The hub hears of it below.
        } else if conn.is_blocked() {
            conn.write(out);
            let conn = id;
            said.take(hub.handle_input(Input::Blocked { conn, progressed }, now));
        } else {
            for _ in 0..WRITES {
                let (session, mut transmitted) = (&mut conn.session, 0);
                said.take(hub.poll_transmit(id, BATCH, now, |frame| {
                    transmitted += frame.len().max(1);
                    session.transmit(frame, out);
                }));
                conn.write(out);
                if conn.is_blocked() && transmitted > 0 {
                    let (conn, progressed) = (id, false);
                    said.take(hub.handle_input(Input::Blocked { conn, progressed }, now));
                }
                // Of less than the socket may take, the hub has no more, and wakes the connection.
                has_more = transmitted >= BATCH && !conn.is_blocked();
                if !has_more {
                    break;
                }
            }
        }
        if conn.session.follow(hub)
            && conn.is_over()
            && let Some(closed) = conn.session.closed()
        {
            said.take(hub.handle_input(closed, now));
        }
        // What a connection that has ended did not write is for nobody else.
        out.clear();
        has_more || conn.can_read()
    }

    /// Does what the hub has said, but for the requests to the store.
    fn settle(&mut self) {
        let Self {
            conns,
            said,
            queue,
            shared,
            ..
        } = self;
        for (id, address, cause) in said.closed.drain(..) {
            let Some(conn) = conns.get_mut(id.index()).and_then(Option::take) else {
                continue;
            };
            let Conn { source, seat, .. } = *conn;
            debug!(conn = ?id, %address, peer = %source, %cause, "ended");
            if let Some(report) = Report::of_end(&address, source, &cause) {
                shared.report(report);
            }
            if let Seat::Joined(Some(place)) = seat {
                shared.desk().leave(place, shared.now());
            }
        }
        for id in said.woken.drain(..) {
            enqueue(conns, queue, id.index());
        }
        if said.has_shut_down {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if !core::mem::replace(&mut self.is_finished, true) {
            self.shared.finish();
        }
    }

    /// Lets the hub do what is due.
    fn handle_timeout(&mut self) {
        let now = self.shared.now();
        if self.said.wakeup.is_none_or(|wakeup| wakeup.at > now) {
            return;
        }
        // What is stored outlives this process, and any mistake of the clock when it began.
        self.hub.set_wall_clock(unix_now(), now);
        self.said.take(self.hub.handle_timeout(now));
        // If this thread was held up, something may have come of which it does not know.
        for id in &self.said.woken {
            if let Some(conn) = conn(&mut self.conns, id.index()) {
                conn.is_readable = true;
            }
        }
        self.settle();
    }

    /// Hands out what the hub has said to the store, and to other shards.
    fn send(&mut self) {
        for (shard, parcels) in self.shared.shards.iter().zip(&mut self.said.parcels) {
            if !parcels.is_empty() {
                let parcels = core::mem::take(parcels);
                shard.mailbox.post(ToShard::Forwarded(self.id, parcels));
            }
        }
        if !self.said.requests.is_empty() {
            let requests = core::mem::take(&mut self.said.requests);
            self.unanswered += requests.len();
            // That of a store which has died shows in the health.
            let store = self.store.as_ref();
            drop(store.map(|store| store.send((self.id, requests))));
        }
    }
}

fn conn(conns: &mut [Option<Box<Conn>>], index: usize) -> Option<&mut Conn> {
    conns.get_mut(index)?.as_deref_mut()
}

/// Has the connection at `index` have a turn.
fn enqueue(conns: &mut [Option<Box<Conn>>], queue: &mut Vec<usize>, index: usize) {
    if let Some(conn) = conn(conns, index)
        && !core::mem::replace(&mut conn.is_queued, true)
    {
        queue.push(index);
    }
}
