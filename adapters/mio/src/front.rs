//! The loop that accepts: listeners, and connections up to the moment in which they join.
//!
//! HTTP, signatures and floods of handshakes have this thread for themselves: the hubs, and the
//! agents that have joined, do not wait behind them. A connection that is to be entered into a
//! routing table moves to the thread of that hub.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use pinch_driver::disable_nagle;
use pinch_driver::parts::{Report, is_out_of_descriptors, unix_now};
use pinch_driver::proto::Time;
use pinch_driver::proto::hub::ShardId;
use pinch_driver::proto::peers::{PendingId, Source};
use pinch_driver::session::{Entry, Event, Outcome, Session, WriteBatch};

use crate::conn::{Conn, Seat};
use crate::mailbox::{EVENTS, WAKER, wait};
use crate::shared::{Shared, ToFront, ToShard};

/// How long to wait after the system could not give a socket.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a relay that shuts down goes on to accept, for connections that wait already.
const LAST_ACCEPTS: Duration = Duration::from_millis(50);

/// How many handshakes give way when descriptors are short, for those that wait to be accepted.
const SHED: usize = 64;

/// How many sockets are accepted, and how often one is read, before others have their turn.
const AT_ONCE: usize = 64;

/// The loop that accepts.
pub(crate) struct Front {
    shared: Arc<Shared>,
    poll: Poll,
    inbox: Receiver<ToFront>,
    listeners: Vec<Listener>,
    conns: BTreeMap<usize, Box<Conn>>,
    /// Tokens of those whose session has a deadline.
    deadlines: BTreeSet<(Time, usize)>,
    /// Tokens by [`PendingId::index`].
    pending: Vec<usize>,
    /// Tokens of those that have something to do.
    queue: Vec<usize>,
    next_token: usize,
    buffer: Box<[u8]>,
    out: WriteBatch,
    /// Connections that a hub is asked about.
    away: usize,
    /// The relay shuts down, and accepts until then.
    last_accept: Option<Time>,
    is_finished: bool,
}

struct Listener {
    socket: TcpListener,
    is_ready: bool,
    /// It is left alone until then.
    paused_until: Option<Time>,
}

impl Front {
    pub(crate) fn new(shared: Arc<Shared>, poll: Poll, inbox: Receiver<ToFront>) -> Self {
        Self {
            shared,
            poll,
            inbox,
            listeners: Vec::new(),
            conns: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            pending: Vec::new(),
            queue: Vec::new(),
            next_token: 0,
            buffer: vec![0; 4096].into(),
            out: WriteBatch::default(),
            away: 0,
            last_accept: None,
            is_finished: false,
        }
    }

    /// Runs until the relay has shut down, or was cut.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !(self.shared.is_cut() || self.shared.is_finished()) {
            let timeout = self.timeout();
            wait(&mut self.poll, &mut events, timeout);
            for event in &events {
                let token = event.token();
                if token == WAKER {
                    self.take_messages();
                } else if let Some(listener) = self.listeners.get_mut(listener_of(token)) {
                    listener.is_ready = true;
                } else if let Some(conn) = self.conns.get_mut(&token.0)
                    && conn.note(event)
                {
                    self.queue.push(token.0);
                }
            }
            for token in core::mem::take(&mut self.queue) {
                self.turn(token);
            }
            self.accept();
            self.handle_timeouts();
        }
        let conns = core::mem::take(&mut self.conns);
        conns.into_values().for_each(|conn| self.end(&conn));
        self.shared.log_reports(true);
    }

    /// Logs what is due, and returns how long nothing else is.
    fn timeout(&self) -> Option<Duration> {
        let now = self.shared.now();
        let paused = self.listeners.iter().filter(|listener| listener.is_ready);
        let paused = paused.map(|listener| listener.paused_until.unwrap_or(now));
        let busy = self.queue.first().map(|_| now);
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let last = self.last_accept.filter(|_| !self.listeners.is_empty());
        let others = [busy, deadline, last, self.shared.log_reports(false)];
        let next = paused.chain(others.into_iter().flatten()).min();
        next.map(|at| at.since(now))
    }

    pub(crate) fn listen(&mut self, mut socket: TcpListener) -> io::Result<()> {
        let token = Token(listener_of(Token(self.listeners.len())));
        let registry = self.poll.registry();
        registry.register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener {
            socket,
            is_ready: true,
            paused_until: None,
        });
        Ok(())
    }

    fn take_messages(&mut self) {
        self.shared.front.answer();
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                ToFront::Listen(socket) => {
                    if let Err(error) = self.listen(socket) {
                        self.shared.report(Report::NotAccepted(error));
                    }
                }
                ToFront::Joined => self.away -= 1,
                ToFront::Refused(conn) => {
                    self.away -= 1;
                    self.keep(conn);
                }
            }
        }
        if self.shared.is_closing() && self.last_accept.is_none() {
            self.last_accept = Some(self.shared.now() + LAST_ACCEPTS);
            self.queue.extend(self.conns.keys());
        }
    }

    fn accept(&mut self) {
        let now = self.shared.now();
        for index in 0..self.listeners.len() {
            for _ in 0..AT_ONCE {
                let Some(listener) = self.listeners.get_mut(index) else {
                    break;
                };
                if !listener.is_ready || listener.paused_until.is_some_and(|until| until > now) {
                    break;
                }
                let accepted = listener.socket.accept().and_then(|(socket, peer)| {
                    disable_nagle(&socket)?;
                    Ok((socket, peer.ip()))
                });
                match accepted {
                    Ok((socket, ip)) => {
                        let sessions = Arc::clone(&self.shared.sessions);
                        let accepted = self.shared.desk().accept(Some(ip), now);
                        let session = Session::new(sessions, Entry::Accepted, Some(ip), now);
                        let source = Source::of(Some(ip));
                        let conn = Conn::new(socket, session, accepted.id, source);
                        self.keep(Box::new(conn));
                        self.evict(accepted.evicted);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        listener.is_ready = false;
                    }
                    // One that has not waited to be accepted.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        listener.paused_until = Some(now + PAUSE);
                        for _ in 0..if is_out_of_descriptors(&error) {
                            SHED
                        } else {
                            0
                        } {
                            let shed = self.shared.desk().shed(now);
                            self.evict(shed);
                        }
                        self.shared.report(Report::NotAccepted(error));
                    }
                }
            }
        }
    }

    /// Takes a connection in that has not joined.
    fn keep(&mut self, mut conn: Box<Conn>) {
        let token = self.next_token;
        self.next_token += 1;
        conn.register(self.poll.registry(), token);
        if let Seat::Pending(id) = conn.seat {
            if self.pending.len() <= id.index() {
                self.pending.resize(id.index() + 1, 0);
            }
            self.pending[id.index()] = token;
        }
        let deadline = conn.session.next_timeout();
        self.deadlines.extend(deadline.map(|at| (at, token)));
        self.conns.insert(token, conn);
        self.turn(token);
    }

    /// Has a handshake give way, if it has not left this thread.
    fn evict(&mut self, id: Option<PendingId>) {
        let Some(id) = id else { return };
        let token = self.pending.get(id.index()).copied().unwrap_or_default();
        let is_pending = self.conns.get(&token).is_some_and(|conn| conn.seat.is(id));
        if is_pending && let Some(mut conn) = self.conns.remove(&token) {
            let mut out = WriteBatch::default();
            conn.session.evict(&mut out);
            conn.write(&mut out);
            conn.outcome = Outcome::Evicted;
            self.shared.report_end(&conn);
            self.end(&conn);
        }
    }

    /// Reads what a connection sends, and answers it.
    fn turn(&mut self, token: usize) {
        let Some(mut conn) = self.conns.remove(&token) else {
            return;
        };
        let now = self.shared.now();
        conn.write_unsent();
        if self.last_accept.is_some() {
            conn.session.shut_down(now, &mut self.out);
        }
        for _ in 0..AT_ONCE {
            conn.read(&mut self.buffer, |session, bytes| {
                session.receive(bytes, |_| ());
            });
            let shard = self.advance(&mut conn, now);
            conn.write(&mut self.out);
            if let Some(shard) = shard {
                conn.deregister(self.poll.registry());
                self.away += 1;
                let shard = &self.shared.shards[shard.index()];
                return shard.mailbox.post(ToShard::Join(conn));
            }
            if !conn.can_read() {
                break;
            }
        }
        if conn.is_over() {
            return self.end(&conn);
        }
        if conn.can_read() {
            self.queue.push(token);
        }
        self.conns.insert(token, conn);
    }

    /// Answers what the session asks for. Returns a shard if it asks to be entered into the routing
    /// table there.
    fn advance(&mut self, conn: &mut Conn, now: Time) -> Option<ShardId> {
        let Seat::Pending(id) = conn.seat else {
            return None;
        };
        while let Some(event) = conn.session.poll_event(now, &mut self.out) {
            let (shared, out) = (&self.shared, &mut self.out);
            match event {
                Event::Identified(ip) => {
                    conn.source = Source::of(Some(ip));
                    let evicted = shared.desk().identify(id, ip, now);
                    self.evict(evicted);
                }
                Event::Upgrade(ask) => {
                    let admitted = shared.desk().upgrade(id, now);
                    ask.answer(admitted, now, out);
                }
                Event::Health(ask) => ask.answer(&shared.health(), now, out),
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
                Event::Register(register) => {
                    return Some(shared.places.of(register.address().as_str()));
                }
                Event::Left(outcome) => {
                    conn.outcome = outcome;
                    shared.report_end(conn);
                }
            }
        }
        None
    }

    /// A connection has ended that has not joined.
    fn end(&self, conn: &Conn) {
        if let Seat::Pending(id) = conn.seat {
            let now = self.shared.now();
            self.shared.desk().end(id, conn.outcome, now);
        }
    }

    fn handle_timeouts(&mut self) {
        let now = self.shared.now();
        while let Some((at, token)) = self.deadlines.pop_first() {
            if at > now {
                self.deadlines.insert((at, token));
                break;
            }
            if let Some(conn) = self.conns.get_mut(&token) {
                conn.session.handle_timeout(now, &mut self.out);
                conn.write(&mut self.out);
                let deadline = conn.session.next_timeout();
                self.deadlines.extend(deadline.map(|at| (at, token)));
                self.turn(token);
            }
        }
        if self.last_accept.is_some_and(|at| at <= now) {
            self.listeners.clear();
            if self.conns.is_empty() && self.away == 0 && !self.is_finished {
                self.is_finished = true;
                self.shared.finish();
            }
        }
    }
}

/// The token of the listener with this index, and the index of the one with this token.
const fn listener_of(token: Token) -> usize {
    WAKER.0 - 1 - token.0
}
