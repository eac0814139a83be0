//! How a connection begins and ends: register, refuse, replace, close, remove, shut down.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Closing, Connection, Phase, Socket};
use super::core::{Core, Shutdown};
use super::deadlines::Timer;
use super::io::{Admission, CloseCause, ConnId, Fault, JoinOptions, JoinRefusal, Output};
use super::outbox::Queued;
use super::rate::TokenBucket;
use super::send_only::MAX_PER_ADDRESS;
use super::shares::NO_PLACE;
use super::{Hub, OnDuplicate};
use crate::{Address, Close, Frame, handshake};

impl Hub {
    pub(super) fn register(
        &mut self,
        address: Address,
        admission: Admission,
        options: JoinOptions,
    ) {
        if let Some(refusal) = self.core.early_refusal(&address) {
            return self.core.refuse_join(address, refusal);
        }
        if options.send_only {
            return self.register_send_only(address, admission, options);
        }
        let Self { connections, core } = self;
        let incumbent = connections.find(address.as_str());
        let refusal = match (incumbent, core.config.on_duplicate) {
            (Some(incumbent), OnDuplicate::Refuse) => {
                // If it is dead, the address is free again after the pong timeout.
                if let Some(incumbent) = connections.get_mut(incumbent) {
                    core.ping(incumbent);
                }
                Some(JoinRefusal::AlreadyConnected)
            }
            // A takeover is let in when the relay is full: it frees a place.
            (Some(_), OnDuplicate::Replace) if connections.has_room() => None,
            (None, _) if self.has_place() => None,
            (_, _) => Some(JoinRefusal::Full),
        };
        if let Some(refusal) = refusal {
            return self.core.refuse_join(address, refusal);
        }
        let inherited = incumbent.map(|incumbent| self.replace(incumbent));
        let Self { connections, core } = self;
        let greeting = core.greeting(&address, admission);
        let bucket = core.parked.take(&address);
        let place = core.join_shares(&address, options);
        if let Some(predecessor) = connections.predecessor(&address) {
            core.arm_if_idle(Timer::Join, predecessor.slot());
        }
        let conn = connections.insert(|id| {
            let mut connection =
                Connection::new(id, address.clone(), options, greeting, bucket, place);
            for queued in inherited.into_iter().flatten() {
                connection.outbox.push(queued, &mut core.pool);
            }
            connection
        });
        connections.add_route(&address, conn);
        core.registered(conn, address);
        if let Some(connection) = connections.get_mut(conn) {
            core.begin_backlog(connection);
        }
        self.read_on(conn);
    }

    /// Admits a session that only sends: it gets no queue, and nobody finds it.
    fn register_send_only(&mut self, address: Address, admission: Admission, options: JoinOptions) {
        let sessions = self.connections.send_only.len_of(address.as_str());
        let refusal = if sessions >= MAX_PER_ADDRESS {
            Some(JoinRefusal::TooManySendOnly)
        } else {
            (!self.has_place()).then_some(JoinRefusal::Full)
        };
        if let Some(refusal) = refusal {
            return self.core.refuse_join(address, refusal);
        }
        let Self { connections, core } = self;
        let greeting = core.greeting(&address, admission);
        let place = core.join_shares(&address, options);
        let full = TokenBucket::FULL;
        let conn = connections
            .insert(|id| Connection::new(id, address.clone(), options, greeting, full, place));
        let receiving = connections.find(address.as_str());
        let receiving = receiving.and_then(|conn| connections.get(conn));
        let bucket = receiving.map(|receiving| receiving.bucket);
        connections.send_only.insert(address.clone(), conn, || {
            bucket.unwrap_or_else(|| core.parked.take(&address))
        });
        core.registered(conn, address);
    }

    fn has_place(&self) -> bool {
        let connections = &self.connections;
        let all = connections.len() + self.core.other_connections;
        all < self.core.config.max_connections && connections.has_room()
    }

    /// Closes the connection that has to give way, and returns the envelopes that its successor
    /// gets instead; where there is a queue, it gets them from there.
    fn replace(&mut self, incumbent: ConnId) -> VecDeque<Queued> {
        let has_queue = self.core.config.queue.is_some();
        let data = self
            .connections
            .get_mut(incumbent)
            .filter(|_| !has_queue)
            .map(|connection| connection.outbox.take_waiting())
            .unwrap_or_default();
        self.core.stats.replaced += 1;
        self.close(incumbent, CloseCause::Replaced);
        data
    }

    pub(super) fn faulty(&mut self, conn: ConnId, fault: Fault) {
        if self.connections.open_mut(conn).is_some() {
            let violation = fault.violation(self.core.config.message_bytes);
            self.close(conn, CloseCause::Violation(violation));
        } else {
            self.core.stats.late += 1;
        }
    }

    /// The peer has sent a close frame. One that answers ours, or crosses it, says nothing new.
    pub(super) fn peer_closed(&mut self, conn: ConnId, frame: Option<Close>) {
        match self.connections.get(conn) {
            Some(connection) if connection.is_closing() => {}
            Some(_) => {
                self.close(conn, CloseCause::Peer);
                if let Some(connection) = self.connections.get_mut(conn) {
                    let frame = Frame::Close(frame.unwrap_or(Close::NO_STATUS));
                    self.core.reply(connection, frame);
                }
            }
            None => self.core.stats.late += 1,
        }
    }

    /// The peer has sent a ping: a sign of life, and a question whether what it sent before was
    /// accepted.
    pub(super) fn peer_pinged(&mut self, conn: ConnId, payload: Bytes) {
        let Self { connections, core } = self;
        let Some(connection) = connections.open_mut(conn) else {
            core.stats.late += 1;
            return;
        };
        if !core.take_control(connection, 1) {
            return self.close(conn, CloseCause::ControlFlood);
        }
        core.on_activity(connection);
        core.reply(connection, Frame::Pong(payload));
    }

    /// Begins the end of a connection: out of the routing table, a close frame behind what is
    /// buffered, and a deadline for all of it. What has begun already goes on as it is.
    pub(super) fn close(&mut self, conn: ConnId, cause: CloseCause) {
        let Self { connections, core } = self;
        let Some(connection) = connections.open_mut(conn) else {
            return;
        };
        let still_reads = cause.peer_still_reads();
        let had_begun = connection.begun > 0;
        core.begin_closing(connection, cause);
        let address = connection.address.clone();
        let (bucket, send_only) = (connection.bucket, connection.options.send_only);
        if send_only {
            self.leave_send_only(address, conn);
        } else {
            connections.remove_route(&address, conn);
            // Send-only sessions have the bucket, as long as there are some.
            if connections.send_only.len_of(address.as_str()) == 0 {
                core.parked.park(address, bucket, core.clock.now);
            }
        }
        // The queue must have everything before its owner is back.
        let core = &self.core;
        let has_successor = core.config.queue.is_some() && core.shutdown == Shutdown::No;
        if !still_reads || has_successor {
            self.requeue_outbox(conn);
        }
        if has_successor && !self.await_end(conn) {
            self.requeue_unacked(conn);
        }
        if had_begun {
            // The driver parts with the beginning of a message, whatever its socket takes.
            self.core.say(Output::Wake { conn });
        } else {
            self.wake(conn);
        }
    }

    /// Takes a send-only session out; the bucket of the last one goes to the connection that receives,
    /// or is parked.
    fn leave_send_only(&mut self, address: Address, conn: ConnId) {
        let Self { connections, core } = self;
        let Some(bucket) = connections.send_only.remove(address.as_str(), conn) else {
            return;
        };
        let receiving = connections.find(address.as_str());
        if let Some(receiving) = receiving.and_then(|conn| connections.get_mut(conn)) {
            receiving.bucket = bucket;
        } else {
            core.parked.park(address, bucket, core.clock.now);
        }
    }

    /// Keeps what is in flight until it is known how a peer that has closed ends its stream; false if
    /// that makes no difference.
    fn await_end(&mut self, conn: ConnId) -> bool {
        let policy = self.core.config.ack_on_close;
        let connection = self.connections.get(conn);
        let waits = |connection: &&Connection| {
            connection.may_ack_by_closing(policy) && connection.outbox.in_flight() > 0
        };
        let Some(connection) = connection.filter(waits) else {
            return false;
        };
        let address = connection.address.clone();
        self.connections.add_unresolved(&address, conn);
        true
    }

    /// Gives back what is in flight to a peer that has closed, and reads the queue for its successor,
    /// which waits for that.
    pub(super) fn resolve(&mut self, conn: ConnId) {
        self.requeue_unacked(conn);
        if self.connections.remove_unresolved(conn)
            && let Some(connection) = self.connections.get(conn)
            && let Some(successor) = self.connections.find(connection.address.as_str())
        {
            self.read_on(successor);
        }
    }

    /// A pong came of a peer that has closed: once it has acknowledged everything, nothing more is
    /// waited for.
    pub(super) fn resolve_if_acked(&mut self, conn: ConnId) {
        let connection = self.connections.get(conn);
        let is_acked =
            |connection: &Connection| connection.is_closing() && connection.outbox.in_flight() == 0;
        if connection.is_some_and(is_acked) {
            self.resolve(conn);
        }
    }

    /// The socket of a connection is gone; after a `clean` close handshake, the peer may have
    /// acknowledged what is in flight.
    pub(super) fn closed(&mut self, conn: ConnId, clean: bool) {
        let Self { connections, core } = self;
        let policy = core.config.ack_on_close;
        if clean
            && let Some(connection) = connections.get_mut(conn)
            && connection.may_ack_by_closing(policy)
        {
            let acked = connection.ack_all(&mut core.pool, &mut core.shares);
            core.on_acked(connection, acked);
        }
        self.remove(conn);
    }

    /// Ends a connection: nothing of it is held any more.
    pub(super) fn remove(&mut self, conn: ConnId) {
        self.close(conn, CloseCause::Lost);
        self.requeue_outbox(conn);
        self.resolve(conn);
        let Self { connections, core } = self;
        let Some(connection) = connections.remove(conn) else {
            core.stats.late += 1;
            return;
        };
        core.shares.leave(connection.place);
        let awaits_links = connection.awaits_links;
        let Phase::Closing(closing) = connection.phase else {
            return;
        };
        core.deadlines.disarm_open(conn.slot());
        core.deadlines.disarm(Timer::Close, conn.slot());
        core.deadlines.disarm(Timer::Reply, conn.slot());
        core.stats.closed += 1;
        core.say(Output::Closed {
            conn,
            address: connection.address,
            cause: closing.cause,
        });
        if awaits_links {
            self.leave_links();
        }
        self.check_shutdown();
    }

    /// Ends a shutdown when the last connection has ended and nobody waits for the store.
    pub(super) fn check_shutdown(&mut self) {
        let core = &mut self.core;
        if core.shutdown == Shutdown::Draining
            && self.connections.len() == 0
            && core.tickets.is_settled()
            && core.links.unanswered() == 0
        {
            core.shutdown = Shutdown::Done;
            core.say(Output::ShutDown);
        }
    }

    pub(super) fn shut_down(&mut self) {
        if self.core.shutdown != Shutdown::No {
            return;
        }
        self.core.shutdown = Shutdown::Draining;
        for conn in self.connections.ids() {
            self.close(conn, CloseCause::GoingAway);
        }
        self.check_shutdown();
    }
}

impl Core {
    /// Refuses a join before anything is looked up or read for it. One that is not refused here takes a
    /// token, whatever becomes of it.
    fn early_refusal(&mut self, address: &Address) -> Option<JoinRefusal> {
        if self.shutdown != Shutdown::No {
            return Some(JoinRefusal::ShuttingDown);
        }
        let limit = self.config.join_limit?;
        let now = self.now();
        let mut bucket = self.joins.take(address);
        let taken = bucket.take(limit, now);
        self.joins.park(address.clone(), bucket, now);
        let retry_after = taken.err()?;
        Some(JoinRefusal::TooManyJoins { retry_after })
    }

    /// Gives an agent its place among the shares of the queue, if there is one.
    fn join_shares(&mut self, address: &Address, options: JoinOptions) -> u32 {
        if self.config.queue.is_some() {
            self.shares.join(address, !options.send_only)
        } else {
            NO_PLACE
        }
    }

    fn greeting(&self, address: &Address, admission: Admission) -> Option<Bytes> {
        match admission {
            Admission::Proven => Some(handshake::auth_succeeded(address, self.clock.unix())),
            Admission::Named => None,
        }
    }

    fn registered(&mut self, conn: ConnId, address: Address) {
        self.arm(Timer::Ping, conn.slot());
        self.stats.registered += 1;
        self.see(&address);
        self.say(Output::Registered { conn, address });
    }

    fn refuse_join(&mut self, address: Address, refusal: JoinRefusal) {
        match refusal {
            JoinRefusal::AlreadyConnected => self.stats.joins_refused_duplicate += 1,
            JoinRefusal::TooManyJoins { .. } => self.stats.joins_refused_rate += 1,
            JoinRefusal::TooManySendOnly | JoinRefusal::Full | JoinRefusal::ShuttingDown => {
                self.stats.joins_refused_capacity += 1;
            }
        }
        self.say(Output::Refused { address, refusal });
    }

    /// Has a connection hear its close frame, and disarms what is for open ones.
    fn begin_closing(&mut self, connection: &mut Connection, cause: CloseCause) {
        let (still_reads, by_peer) = (cause.peer_still_reads(), cause == CloseCause::Peer);
        let closing = Closing {
            frame: cause.close(),
            cause,
            answered: false,
            waits: still_reads && connection.open_items > 0,
        };
        let waits = closing.waits;
        let phase = Phase::Closing(Box::new(closing));
        let before = core::mem::replace(&mut connection.phase, phase);
        if (still_reads || by_peer)
            && let Phase::Joining {
                greeting: Some(greeting),
            } = before
        {
            let (outbox, pool) = (&mut connection.outbox, &mut self.pool);
            outbox.push_control_first(*greeting, pool);
        }
        connection.probe_due = false;
        if connection.begun > 0 && connection.socket == Socket::Asleep {
            connection.socket = Socket::Awake;
        }
        let slot = connection.id.slot();
        if waits {
            self.arm(Timer::Reply, slot);
        } else if !by_peer {
            // Its pings stay unanswered: what it sent before them may be lost to it.
            connection.unsettled.give_up();
            self.deadlines.disarm(Timer::Reply, slot);
        }
        self.forget_begun(connection);
        self.deadlines.disarm_open(slot);
        self.arm(Timer::Close, slot);
    }

    /// Answers a ping or a close frame, once the store has answered for what came before it.
    fn reply(&mut self, connection: &mut Connection, reply: Frame) {
        if let Some(reply) = connection.unsettled.hold(reply) {
            self.release_replies(connection, [reply]);
        } else {
            self.arm_if_idle(Timer::Reply, connection.id.slot());
        }
    }

    /// Queues replies that wait for nothing any more.
    pub(super) fn release_replies(
        &mut self,
        connection: &mut Connection,
        replies: impl IntoIterator<Item = Frame>,
    ) {
        let slot = connection.id.slot();
        for reply in replies {
            if let (Frame::Close(_), Phase::Closing(closing)) = (&reply, &mut connection.phase) {
                closing.answered = true;
                // From here on the peer has its time to read it and to end its stream.
                self.arm(Timer::Close, slot);
            }
            connection.outbox.push_control(reply, &mut self.pool);
        }
        if connection.unsettled.has_replies() || connection.waits_to_close() {
            // Answers come: the next has its time from now on.
            self.arm(Timer::Reply, slot);
        } else {
            self.deadlines.disarm(Timer::Reply, slot);
        }
        self.wake(connection);
    }

    /// The answers for what a connection sent take too long: its replies go without them, and so does the
    /// close frame.
    pub(super) fn release_overdue_replies(&mut self, connection: &mut Connection) {
        let replies = connection.unsettled.give_up();
        self.release_replies(connection, replies);
        self.release_close(connection);
    }

    /// The relay's close frame waits for nothing any more.
    pub(super) fn release_close(&mut self, connection: &mut Connection) {
        if let Phase::Closing(closing) = &mut connection.phase
            && core::mem::take(&mut closing.waits)
        {
            let slot = connection.id.slot();
            connection.unsettled.give_up();
            self.deadlines.disarm(Timer::Reply, slot);
            self.arm(Timer::Close, slot);
            self.wake(connection);
        }
    }
}
