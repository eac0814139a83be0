//! The loop of one hub: its sockets, its timer, and what it says to the store and to other hubs.
//!
//! Nothing here is shared: the hub, the connections and the buffers belong to this thread. A round
//! lets each connection that has something to do read once and write what waits for it; those that
//! it wakes have their turn in the round behind it. The loop of the first hub accepts connections, and
//! serves them up to the moment in which they join; then those of another hub move there.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use pinch_driver::disable_nagle;
use pinch_driver::parts::{
    ACCEPT_PAUSE, LAST_ACCEPTS, Report, SHED, is_out_of_descriptors, unix_now,
};
use pinch_driver::proto::hub::{
    CloseCause, ConnId, Hub, Input, JoinRefusal, Output, Parcel, ShardId, Turn, Wakeup,
};
use pinch_driver::proto::peers::{PendingId, Source};
use pinch_driver::proto::queue::Request;
use pinch_driver::proto::{Address, Time};
use pinch_driver::session::{Entry, Event, MAX_READ, Outcome, Session, WriteBatch};
use slab::Slab;
use tracing::debug;

use crate::conn::{Conn, Seat};
use crate::mailbox::{EVENTS, WAKER, wait};
use crate::shared::{Message, Shared, lock};

/// Maximum number of bytes that are taken from the hub at once for one connection.
const BATCH: usize = 256 << 10;

/// How often a connection writes what it takes from the hub, before others have their turn.
const WRITES: usize = 16;

/// Number of rounds between two looks at the sockets.
const ROUNDS: usize = 16;

/// Number of connections that are accepted between two looks at the sockets.
const ACCEPTS: usize = 64;

/// The token of the first listener, and in place of a key, the first shard to which a connection has
/// moved: above the keys of connections.
const ABOVE: usize = usize::MAX / 2;

/// What the store is asked for, and by which hub.
pub(crate) type Wanted = (ShardId, Vec<Request>);

/// The loop of one hub.
pub(crate) struct Worker {
    pub(crate) id: ShardId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) poll: Poll,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) store: Option<Sender<Wanted>>,
    pub(crate) hub: Hub,
    pub(crate) state: State,
    pub(crate) said: Said,
    pub(crate) conns: Conns,
    pub(crate) out: WriteBatch,
}

/// What a loop remembers, besides connections.
#[derive(Default)]
pub(crate) struct State {
    listeners: Vec<TcpListener>,
    /// When to accept next, if connections wait.
    accept_at: Option<Time>,
    /// When to accept no more.
    close_at: Option<Time>,
    /// Requests to the store that are not answered.
    unanswered: usize,
    /// Handshakes that have to give way.
    evicted: Vec<PendingId>,
    /// Memory for what is read.
    buffer: Vec<u8>,
    is_closing: bool,
    is_finished: bool,
}

/// The connections of a loop.
#[derive(Default)]
pub(crate) struct Conns {
    by_key: Slab<Box<Conn>>,
    /// Keys by [`ConnId::index`].
    joined: Vec<usize>,
    /// Keys by [`PendingId::index`].
    pending: Vec<usize>,
    /// When to look at the sessions of connections that have not joined.
    deadlines: BTreeSet<(Time, usize)>,
    /// Keys of those that have something to do.
    queue: Vec<usize>,
}

impl Conns {
    /// Has the connection with this key have a turn.
    fn enqueue(&mut self, key: usize) {
        if let Some(conn) = self.by_key.get_mut(key)
            && !core::mem::replace(&mut conn.is_queued, true)
        {
            self.queue.push(key);
        }
    }

    fn key_of(&self, id: ConnId) -> usize {
        self.joined.get(id.index()).copied().unwrap_or(usize::MAX)
    }
}

/// What the hub has said and is not done.
#[derive(Default)]
pub(crate) struct Said {
    wakeup: Option<Wakeup>,
    joined: Option<Result<ConnId, JoinRefusal>>,
    woken: Vec<ConnId>,
    closed: Vec<(ConnId, Address, CloseCause)>,
    requests: Vec<Request>,
    parcels: Vec<(ShardId, Vec<Parcel>)>,
    has_shut_down: bool,
}

impl Said {
    /// Takes the outputs of `turn`, and when the hub wants to be called.
    fn take(&mut self, mut turn: Turn<'_>) {
        self.take_outputs(&mut turn);
        self.wakeup = turn.finish();
    }

    /// Adds to what is for another hub.
    fn forward(&mut self, shard: ShardId, parcels: Vec<Parcel>) {
        match self.parcels.iter_mut().find(|(to, _)| *to == shard) {
            Some((_, before)) => before.extend(parcels),
            None => self.parcels.push((shard, parcels)),
        }
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
                Output::Forward { shard, parcels } => self.forward(shard, parcels),
                Output::ShutDown => self.has_shut_down = true,
            }
        }
    }
}

impl Worker {
    pub(crate) fn listen(&mut self, mut listener: TcpListener) -> io::Result<()> {
        let token = Token(ABOVE + self.state.listeners.len());
        let registry = self.poll.registry();
        registry.register(&mut listener, token, Interest::READABLE)?;
        self.state.listeners.push(listener);
        self.state.accept_at = Some(Time::ZERO);
        Ok(())
    }

    /// Runs until the relay has shut down, or was cut and the store has what that leaves behind.
    pub(crate) fn run(mut self) {
        let (mut events, mut round) = (Events::with_capacity(EVENTS), Vec::new());
        self.state.buffer = vec![0; MAX_READ];
        while !self.is_over() {
            let timeout = self.timeout();
            wait(&mut self.poll, &mut events, timeout);
            for event in &events {
                match event.token() {
                    WAKER => self.take_messages(),
                    Token(ABOVE..) => self.state.accept_at = Some(Time::ZERO),
                    Token(key) => {
                        if self
                            .conns
                            .by_key
                            .get_mut(key)
                            .is_some_and(|conn| conn.note(event))
                        {
                            self.conns.enqueue(key);
                        }
                    }
                }
            }
            self.accept();
            for _ in 0..ROUNDS {
                core::mem::swap(&mut round, &mut self.conns.queue);
                round.drain(..).for_each(|key| self.turn(key));
            }
            self.handle_timeouts();
            self.send();
            if self.id.index() > 0 {
                self.publish();
            }
        }
        if self.id.index() == 0 {
            self.shared.log_reports(true);
        }
        self.publish();
    }

    /// Leaves behind what the hub does, for those who cannot wait for an answer.
    fn publish(&self) {
        *lock(&self.shared.last[self.id.index()]) = self.hub.stats();
    }

    fn is_over(&mut self) -> bool {
        if self.shared.is_cut() {
            self.keys().into_iter().for_each(|key| self.end(key));
            self.send();
            return self.state.unanswered == 0 || !self.shared.awaits_store();
        }
        let is_quiet = self.conns.by_key.is_empty() && self.state.listeners.is_empty();
        if self.said.has_shut_down && is_quiet && !self.state.is_finished {
            self.state.is_finished = true;
            self.shared.finish();
        }
        if !self.shared.is_finished() {
            return false;
        }
        // One may have moved here just before.
        self.take_messages();
        self.conns.by_key.is_empty()
    }

    fn keys(&self) -> Vec<usize> {
        self.conns.by_key.iter().map(|(key, _)| key).collect()
    }

    /// How long there is nothing to do.
    fn timeout(&self) -> Option<Duration> {
        let now = self.shared.now();
        let times = [
            self.conns.queue.first().map(|_| now),
            self.said.wakeup.as_ref().map(|wakeup| wakeup.at),
            self.conns.deadlines.first().map(|(at, _)| *at),
            self.state.accept_at,
            self.state.close_at,
            self.log_due_reports(),
        ];
        let next = times.into_iter().flatten().min().map(|at| at.since(now));
        next.into_iter().chain(self.shared.store_patience()).min()
    }

    /// Logs what is due, in the first loop; returns when there may be more.
    fn log_due_reports(&self) -> Option<Time> {
        let is_first = self.id.index() == 0;
        is_first.then(|| self.shared.log_reports(false)).flatten()
    }

    fn take_messages(&mut self) {
        self.shared.mailboxes[self.id.index()].answer();
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Listen(listener) => {
                    if let Err(error) = self.listen(listener) {
                        self.shared.report(Report::NotAccepted(error));
                    }
                }
                Message::Join(conn) => self.keep(conn),
                Message::Evict(id) => self.evict(id),
                Message::Stored(answers) => {
                    self.state.unanswered -= answers.len();
                    answers.into_iter().for_each(|answer| self.input(answer));
                }
                Message::Forwarded(shard, parcels) => {
                    self.input(Input::Forwarded { shard, parcels });
                }
                Message::Stats(sender) => drop(sender.send(self.hub.stats())),
            }
        }
        if self.shared.is_closing() && !self.state.is_closing {
            self.state.is_closing = true;
            self.state.close_at = Some(self.shared.now() + LAST_ACCEPTS);
            self.input(Input::Shutdown);
            for key in self.keys() {
                self.conns.enqueue(key);
            }
        }
    }

    /// Hands `input` to the hub, and does what it says.
    fn input(&mut self, input: Input) {
        self.said
            .take(self.hub.handle_input(input, self.shared.now()));
        self.settle();
    }

    fn accept(&mut self) {
        let now = self.shared.now();
        if self.state.accept_at.is_none_or(|at| at > now) {
            return;
        }
        self.state.accept_at = None;
        for index in 0..self.state.listeners.len() {
            for attempt in 1..=ACCEPTS {
                let accepted = self.state.listeners[index]
                    .accept()
                    .and_then(|(socket, peer)| {
                        disable_nagle(&socket)?;
                        Ok((socket, peer.ip()))
                    });
                match accepted {
                    Ok((socket, ip)) => {
                        let sessions = Arc::clone(&self.shared.sessions);
                        let session = Session::new(sessions, Entry::Accepted, Some(ip), now);
                        let accepted = self.shared.desk().accept(Some(ip), now);
                        let source = Source::of(Some(ip));
                        self.keep(Box::new(Conn::new(socket, session, accepted.id, source)));
                        accepted.evicted.into_iter().for_each(|id| self.evict(id));
                        if attempt == ACCEPTS {
                            self.state.accept_at = Some(now);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // One that has not waited to be accepted.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if is_out_of_descriptors(&error) {
                            for _ in 0..SHED {
                                let shed = self.shared.desk().shed(now);
                                shed.into_iter().for_each(|id| self.evict(id));
                            }
                        }
                        self.state.accept_at = Some(now + ACCEPT_PAUSE);
                        self.shared.report(Report::NotAccepted(error));
                        break;
                    }
                }
            }
        }
    }

    /// Takes in a connection that has not joined.
    fn keep(&mut self, mut conn: Box<Conn>) {
        let entry = self.conns.by_key.vacant_entry();
        let key = entry.key();
        conn.register(self.poll.registry(), key);
        if let Seat::Pending(id) = conn.seat {
            set(&mut self.conns.pending, id.index(), key);
        }
        entry.insert(conn);
        self.turn(key);
        // It has one only now if it was refused here.
        let conn = self.conns.by_key.get_mut(key);
        let deadline = conn.and_then(|conn| conn.session.next_timeout());
        self.conns.deadlines.extend(deadline.map(|at| (at, key)));
    }

    /// Has a handshake give way, wherever its connection is.
    fn evict(&mut self, id: PendingId) {
        let Some(&key) = self.conns.pending.get(id.index()) else {
            return;
        };
        if let Some(mailbox) = key
            .checked_sub(ABOVE)
            .and_then(|shard| self.shared.mailboxes.get(shard))
        {
            return mailbox.post(Message::Evict(id));
        }
        if let Some(conn) = self.conns.by_key.get_mut(key)
            && conn.seat.is(id)
        {
            let mut out = WriteBatch::default();
            conn.session.evict(&mut out);
            conn.outcome = Outcome::Evicted;
            conn.write(&mut out);
            self.shared.report_end(conn);
            self.end(key);
        }
    }

    /// Reads once, and writes what the session or the hub has for the connection.
    fn turn(&mut self, key: usize) {
        let Some(conn) = self.conns.by_key.get_mut(key) else {
            return;
        };
        conn.is_queued = false;
        let now = self.shared.now();
        let progressed = conn.write_unsent();
        // What a peer does that waits for no answer to its close frame says nothing about what it got.
        for is_again in [false, true] {
            if is_again && !conn.session.expects_end() {
                break;
            }
            conn.is_readable |= is_again;
            conn.read(&mut self.state.buffer, |session, bytes| {
                session.receive(bytes, |input| {
                    self.said
                        .take_outputs(&mut self.hub.handle_input(input, now));
                });
            });
        }
        if conn.session.conn().is_none() && self.answer(key, now) {
            return;
        }
        while let Some(id) = self.state.evicted.pop() {
            self.evict(id);
        }
        let Some(conn) = self.conns.by_key.get_mut(key) else {
            return;
        };
        let out = &mut self.out;
        let mut has_more = false;
        match conn.session.conn().filter(|_| !conn.is_over()) {
            Some(id) if !conn.is_blocked() => {
                for _ in 0..WRITES {
                    let (session, mut transmitted) = (&mut conn.session, 0);
                    let turn = self.hub.poll_transmit(id, BATCH, now, |frame| {
                        transmitted += frame.len().max(1);
                        session.transmit(frame, out);
                    });
                    self.said.take(turn);
                    conn.write(out);
                    if conn.is_blocked() && transmitted > 0 {
                        let blocked = Input::Blocked {
                            conn: id,
                            progressed: false,
                        };
                        self.said.take(self.hub.handle_input(blocked, now));
                    }
                    // Of less than the socket may take, the hub has no more, and wakes the connection.
                    has_more = transmitted >= BATCH && !conn.is_blocked();
                    if !has_more {
                        break;
                    }
                }
            }
            Some(id) => {
                conn.write(out);
                let blocked = Input::Blocked {
                    conn: id,
                    progressed,
                };
                self.said.take(self.hub.handle_input(blocked, now));
            }
            None => conn.write(out),
        }
        // What a connection that has ended did not write is for nobody else.
        out.clear();
        let has_ended = conn.session.follow(&self.hub) && conn.is_over();
        if has_more || conn.can_read() {
            self.conns.enqueue(key);
        }
        if has_ended {
            self.end(key);
        }
        self.settle();
    }

    /// Answers what the session of a connection asks for that has not joined; true if the connection
    /// has moved to another thread.
    fn answer(&mut self, key: usize, now: Time) -> bool {
        let (shared, out) = (&self.shared, &mut self.out);
        let Some(conn) = self.conns.by_key.get_mut(key) else {
            return true;
        };
        let Seat::Pending(id) = conn.seat else {
            return false;
        };
        if self.state.is_closing {
            conn.session.shut_down(now, out);
        }
        while let Some(event) = conn.session.poll_event(now, out) {
            match event {
                Event::Identified(ip) => {
                    conn.source = Source::of(Some(ip));
                    let evicted = shared.desk().identify(id, ip, now);
                    self.state.evicted.extend(evicted);
                }
                Event::Upgrade(ask) => {
                    let admitted = shared.desk().upgrade(id, now);
                    ask.answer(admitted, now, out);
                }
                Event::Health(ask) => {
                    let health = shared.health(self.id, self.hub.stats());
                    ask.answer(&health, now, out);
                }
                Event::Nonce(ask) => {
                    let mut nonce = [0; 32];
                    match getrandom::fill(&mut nonce) {
                        Ok(()) => ask.answer(nonce, now, unix_now(), out),
                        Err(error) => {
                            shared.report(Report::NoRandomness(error));
                            ask.give_up();
                        }
                    }
                }
                Event::Register(ask) => {
                    let shard = shared.places.of(ask.address().as_str());
                    if shard != self.id {
                        let mut conn = self.conns.by_key.remove(key);
                        conn.deregister(self.poll.registry());
                        set(&mut self.conns.pending, id.index(), ABOVE + shard.index());
                        conn.write(out);
                        shared.mailboxes[shard.index()].post(Message::Join(conn));
                        return true;
                    }
                    let others = shared.other_connections(self.id);
                    self.hub.set_other_connections(others);
                    self.said.take(self.hub.handle_input(ask.input(), now));
                    match self.said.joined.take() {
                        Some(Ok(id)) => ask.registered(id, out),
                        Some(Err(refusal)) => ask.refused(refusal, now, out),
                        None => return false,
                    }
                }
                Event::Left(outcome) => {
                    conn.outcome = outcome;
                    shared.report_end(conn);
                }
            }
        }
        let Some(joined) = conn.session.conn() else {
            return false;
        };
        conn.seat = Seat::Joined(shared.desk().join(id));
        let (hub, said) = (&mut self.hub, &mut self.said);
        // What came behind the handshake.
        conn.session.receive(&[], |input| {
            said.take_outputs(&mut hub.handle_input(input, now));
        });
        // One that has just ended may have had the same index.
        self.settle();
        set(&mut self.conns.joined, joined.index(), key);
        false
    }

    /// The stream of a connection is over.
    fn end(&mut self, key: usize) {
        let Some(conn) = self.conns.by_key.get(key) else {
            return;
        };
        if let Some(closed) = conn.session.closed() {
            self.input(closed);
        } else if let Seat::Pending(id) = conn.seat {
            let now = self.shared.now();
            self.shared.desk().end(id, conn.outcome, now);
            self.conns.by_key.remove(key);
        }
    }

    /// Does what the hub has said, but for what goes elsewhere.
    fn settle(&mut self) {
        let count = self.hub.connection_count();
        self.shared.connections[self.id.index()].store(count, Ordering::Relaxed);
        for (id, address, cause) in self.said.closed.drain(..) {
            let key = self.conns.key_of(id);
            let Some(conn) = self.conns.by_key.try_remove(key) else {
                continue;
            };
            set(&mut self.conns.joined, id.index(), usize::MAX);
            debug!(conn = ?id, %address, peer = %conn.source, %cause, "ended");
            let report = Report::of_end(&address, conn.source, &cause);
            report
                .into_iter()
                .for_each(|report| self.shared.report(report));
            if let Seat::Joined(Some(place)) = conn.seat {
                self.shared.desk().leave(place, self.shared.now());
            }
        }
        for id in self.said.woken.drain(..) {
            self.conns.enqueue(self.conns.key_of(id));
        }
    }

    fn handle_timeouts(&mut self) {
        let now = self.shared.now();
        while let Some((at, key)) = self.conns.deadlines.pop_first() {
            if at > now {
                self.conns.deadlines.insert((at, key));
                break;
            }
            if let Some(conn) = self.conns.by_key.get_mut(key) {
                conn.session.handle_timeout(now, &mut self.out);
                conn.write(&mut self.out);
                let deadline = conn.session.next_timeout();
                self.conns.deadlines.extend(deadline.map(|at| (at, key)));
                self.turn(key);
            }
        }
        if self.state.close_at.is_some_and(|at| at <= now) {
            (self.state.close_at, self.state.accept_at) = (None, None);
            self.state.listeners.clear();
        }
        if self.said.wakeup.is_none_or(|wakeup| wakeup.at > now) {
            return;
        }
        // What is stored outlives this process, and any mistake of the clock when it began.
        self.hub.set_wall_clock(unix_now(), now);
        self.said.take(self.hub.handle_timeout(now));
        // If this thread was held up, something may have come of which it does not know.
        for id in &self.said.woken {
            let key = self.conns.key_of(*id);
            if let Some(conn) = self.conns.by_key.get_mut(key) {
                conn.is_readable = true;
            }
        }
        self.settle();
    }

    /// Hands out what the hub has said to the store, and to other hubs.
    fn send(&mut self) {
        for (shard, parcels) in self.said.parcels.drain(..) {
            let message = Message::Forwarded(self.id, parcels);
            self.shared.mailboxes[shard.index()].post(message);
        }
        if !self.said.requests.is_empty() {
            let requests = core::mem::take(&mut self.said.requests);
            self.state.unanswered += requests.len();
            // That of a store which has died shows in the health.
            let store = self.store.as_ref();
            drop(store.map(|store| store.send((self.id, requests))));
        }
    }
}

fn set(keys: &mut Vec<usize>, index: usize, key: usize) {
    if keys.len() <= index {
        keys.resize(index + 1, usize::MAX);
    }
    keys[index] = key;
}
