//! How a connection begins and ends: register, refuse, replace, close, remove, shut down.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Closing, Connection, Phase};
use super::io::{Admission, CloseCause, ConnId, Fault, JoinOptions, JoinRefusal, Output};
use super::outbox::Queued;
use super::rate::TokenBucket;
use super::send_only::MAX_PER_ADDRESS;
use super::shares::NO_PLACE;
use super::{Hub, OnDuplicate, Shutdown};
use crate::{Address, Close, Frame, handshake};

impl Hub {
    pub(super) fn register(
        &mut self,
        address: Address,
        admission: Admission,
        options: JoinOptions,
    ) {
        if let Some(refusal) = self.early_refusal(&address) {
            return self.refuse_join(address, refusal);
        }
        if options.send_only {
            return self.register_send_only(address, admission, options);
        }
        let incumbent = self.lookup(address.as_str());
        let refusal = match (incumbent, self.config.on_duplicate) {
            (Some(incumbent), OnDuplicate::Refuse) => {
                // If it is dead, the address is free again after the pong timeout.
                self.ping(incumbent);
                Some(JoinRefusal::AlreadyConnected)
            }
            // A takeover is let in when the relay is full: it frees a place.
            (Some(_), OnDuplicate::Replace) if self.connections.has_room() => None,
            (None, _) if self.has_place() => None,
            (_, _) => Some(JoinRefusal::Full),
        };
        if let Some(refusal) = refusal {
            return self.refuse_join(address, refusal);
        }
        let greeting = self.greeting(&address, admission);
        let inherited = incumbent.map(|incumbent| self.replace(incumbent));
        let bucket = self.parked.take(&address);
        let mut connection = Connection::new(address.clone(), options, greeting, bucket);
        connection.place = self.join_shares(&address, options);
        if let Some(data) = inherited {
            connection.outbox.restore_data(data);
        }
        if let Some(predecessor) = self.predecessor(&address) {
            self.deadlines
                .join
                .arm_if_idle(predecessor.0.index, self.now);
        }
        let conn = ConnId(self.connections.insert(connection));
        self.table.insert(address.as_bytes(), conn);
        self.registered(conn, address);
        self.begin_drain(conn);
    }

    /// Admits a session that only sends: it gets no queue, and nobody finds it.
    fn register_send_only(&mut self, address: Address, admission: Admission, options: JoinOptions) {
        let refusal = if self.send_only.len_of(address.as_str()) >= MAX_PER_ADDRESS {
            Some(JoinRefusal::TooManySendOnly)
        } else {
            (!self.has_place()).then_some(JoinRefusal::Full)
        };
        if let Some(refusal) = refusal {
            return self.refuse_join(address, refusal);
        }
        let greeting = self.greeting(&address, admission);
        let mut connection = Connection::new(address.clone(), options, greeting, TokenBucket::FULL);
        connection.place = self.join_shares(&address, options);
        let conn = ConnId(self.connections.insert(connection));
        let receiving = self.lookup(address.as_str());
        let receiving = receiving.and_then(|conn| self.connections.get(conn.0));
        let bucket = receiving.map(|receiving| receiving.bucket);
        let parked = &mut self.parked;
        self.send_only.insert(address.clone(), conn, || {
            bucket.unwrap_or_else(|| parked.take(&address))
        });
        self.registered(conn, address);
    }

    /// Refuses a join before anything is looked up or read for it. One that is not refused here takes a
    /// token, whatever becomes of it.
    fn early_refusal(&mut self, address: &Address) -> Option<JoinRefusal> {
        if self.shutdown != Shutdown::No {
            return Some(JoinRefusal::ShuttingDown);
        }
        let limit = self.config.join_limit?;
        let mut bucket = self.joins.take(address);
        let taken = bucket.take(limit, self.now);
        self.joins.park(address.clone(), bucket, self.now);
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
            Admission::Proven => Some(handshake::auth_succeeded(address, self.unix())),
            Admission::Named => None,
        }
    }

    fn registered(&mut self, conn: ConnId, address: Address) {
        self.deadlines.ping.arm(conn.0.index, self.now);
        self.stats.registered += 1;
        self.see(&address);
        self.outputs.push_back(Output::Registered { conn, address });
    }

    fn has_place(&self) -> bool {
        self.connections.len() < self.config.max_connections && self.connections.has_room()
    }

    fn refuse_join(&mut self, address: Address, refusal: JoinRefusal) {
        match refusal {
            JoinRefusal::AlreadyConnected => self.stats.joins_refused_duplicate += 1,
            JoinRefusal::TooManyJoins { .. } => self.stats.joins_refused_rate += 1,
            JoinRefusal::TooManySendOnly | JoinRefusal::Full | JoinRefusal::ShuttingDown => {
                self.stats.joins_refused_capacity += 1;
            }
        }
        self.outputs.push_back(Output::Refused { address, refusal });
    }

    /// Closes the connection that has to give way, and returns the envelopes that its successor
    /// gets instead; where there is a queue, it gets them from there.
    fn replace(&mut self, incumbent: ConnId) -> VecDeque<Queued> {
        let data = self
            .connections
            .get_mut(incumbent.0)
            .filter(|_| self.config.queue.is_none())
            .map(|connection| connection.outbox.take_data())
            .unwrap_or_default();
        self.stats.replaced += 1;
        self.close(incumbent, CloseCause::Replaced);
        data
    }

    pub(super) fn faulty(&mut self, conn: ConnId, fault: Fault) {
        if self.living(conn).is_some() {
            let violation = fault.violation(self.config.message_bytes);
            self.close(conn, CloseCause::Violation(violation));
        }
    }

    /// The peer has sent a close frame. One that answers ours, or crosses it, says nothing new.
    pub(super) fn peer_closed(&mut self, conn: ConnId, frame: Option<Close>) {
        match self.connections.get(conn.0) {
            Some(connection) if connection.is_closing() => {}
            Some(_) => {
                self.close(conn, CloseCause::Peer);
                self.reply(conn, Frame::Close(frame.unwrap_or(Close::NO_STATUS)));
            }
            None => self.stats.late += 1,
        }
    }

    /// The peer has sent a ping: a sign of life, and a question whether what it sent before was
    /// accepted.
    pub(super) fn peer_pinged(&mut self, conn: ConnId, payload: Bytes) {
        if self.living(conn).is_some() && self.takes_control(conn, 1) {
            self.alive(conn);
            self.reply(conn, Frame::Pong(payload));
        }
    }

    /// Answers a ping or a close frame, once the store has answered for what came before it.
    fn reply(&mut self, conn: ConnId, reply: Frame) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        if let Some(reply) = connection.unsettled.hold(reply) {
            self.release_replies(conn, [reply]);
        } else {
            let now = self.attended.now();
            self.deadlines.reply.arm_if_idle(conn.0.index, now);
        }
    }

    /// Queues replies that wait for nothing any more.
    pub(super) fn release_replies(
        &mut self,
        conn: ConnId,
        replies: impl IntoIterator<Item = Frame>,
    ) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        for reply in replies {
            if let (Frame::Close(_), Phase::Closing(closing)) = (&reply, &mut connection.phase) {
                closing.answered = true;
                // From here on the peer has its time to read it and to end its stream.
                self.deadlines.close.arm(conn.0.index, self.attended.now());
            }
            connection.outbox.push_control(reply, &mut self.spares);
        }
        if !connection.unsettled.has_replies() {
            self.deadlines.reply.disarm(conn.0.index);
        } else {
            // The store answers: the next has its time from now on.
            let now = self.attended.now();
            self.deadlines.reply.arm(conn.0.index, now);
        }
        self.wake(conn);
    }

    /// The store takes too long to answer for what a connection sent: its replies go without that.
    pub(super) fn give_up_settling(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            let replies = connection.unsettled.give_up();
            self.release_replies(conn, replies);
        }
    }

    /// Begins the end of a connection: out of the routing table, a close frame behind what is
    /// buffered, and a deadline for all of it. What has begun already goes on as it is.
    pub(super) fn close(&mut self, conn: ConnId, cause: CloseCause) {
        let Some(connection) = self
            .connections
            .get_mut(conn.0)
            .filter(|connection| !connection.is_closing())
        else {
            return;
        };
        let frame = cause.close();
        let still_reads = cause.peer_still_reads();
        let by_peer = cause == CloseCause::Peer;
        let before = core::mem::replace(
            &mut connection.phase,
            Phase::Closing(Box::new(Closing {
                cause,
                frame,
                answered: false,
            })),
        );
        if (still_reads || by_peer)
            && let Phase::Joining {
                greeting: Some(greeting),
            } = before
        {
            connection
                .outbox
                .push_control_first(*greeting, &mut self.spares);
        }
        connection.probe_due = false;
        let had_begun = connection.begun > 0;
        connection.asleep &= !had_begun;
        if !by_peer {
            // Its pings stay unanswered: what it sent before them may be lost to it.
            connection.unsettled.give_up();
            self.deadlines.reply.disarm(conn.0.index);
        }
        let address = connection.address.clone();
        let (bucket, send_only) = (connection.bucket, connection.options.send_only);
        if send_only {
            self.leave_send_only(address, conn);
        } else {
            self.table.remove(address.as_bytes(), conn);
            // Send-only sessions have the bucket, as long as there are some.
            if self.send_only.len_of(address.as_str()) == 0 {
                self.parked.park(address, bucket, self.now);
            }
        }
        self.forget_begun(conn);
        self.deadlines.disarm_living(conn.0.index);
        self.deadlines.close.arm(conn.0.index, self.attended.now());
        // The queue must have everything before its owner is back.
        let has_successor = self.config.queue.is_some() && self.shutdown == Shutdown::No;
        if !still_reads || has_successor {
            self.let_go_waiting(conn);
        }
        if has_successor && !self.await_end(conn) {
            self.let_go_unconfirmed(conn);
        }
        if had_begun {
            // The driver parts with the beginning of a message, whatever its socket takes.
            self.outputs.push_back(Output::Wake { conn });
        } else {
            self.wake(conn);
        }
    }

    /// Takes a send-only session out; the bucket of the last one goes to the connection that receives,
    /// or is parked.
    fn leave_send_only(&mut self, address: Address, conn: ConnId) {
        let Some(bucket) = self.send_only.remove(address.as_str(), conn) else {
            return;
        };
        let receiving = self.lookup(address.as_str());
        if let Some(receiving) = receiving.and_then(|conn| self.connections.get_mut(conn.0)) {
            receiving.bucket = bucket;
        } else {
            self.parked.park(address, bucket, self.now);
        }
    }

    /// Keeps what is in flight until it is known how a peer that has closed ends its stream; false if
    /// that makes no difference.
    fn await_end(&mut self, conn: ConnId) -> bool {
        let policy = self.config.ack_on_close;
        let Some(connection) = self.connections.get(conn.0) else {
            return false;
        };
        if !connection.may_ack_by_closing(policy) || connection.unconfirmed.len() == 0 {
            return false;
        }
        self.unresolved.insert(connection.address.as_bytes(), conn);
        true
    }

    /// Lets go of what is in flight to a peer that has closed, and reads the queue for its successor,
    /// which waits for that.
    pub(super) fn resolve(&mut self, conn: ConnId) {
        self.let_go_unconfirmed(conn);
        let Some(connection) = self.connections.get(conn.0) else {
            return;
        };
        if self.unresolved.is_empty() {
            return;
        }
        let address = connection.address.clone();
        if self.unresolved.remove(address.as_bytes(), conn)
            && let Some(successor) = self.lookup(address.as_str())
        {
            self.read_on(successor);
        }
    }

    /// A pong came of a peer that has closed: once it has acknowledged everything, nothing more is
    /// waited for.
    pub(super) fn resolve_if_acked(&mut self, conn: ConnId) {
        let connection = self.connections.get(conn.0);
        let is_acked =
            |connection: &Connection| connection.is_closing() && connection.unconfirmed.len() == 0;
        if connection.is_some_and(is_acked) {
            self.resolve(conn);
        }
    }

    /// The earlier connection of `address` that may still acknowledge what is in flight.
    pub(super) fn predecessor(&self, address: &Address) -> Option<ConnId> {
        if self.unresolved.is_empty() {
            return None;
        }
        self.unresolved.find(address.as_bytes(), &self.connections)
    }

    /// The socket of a connection is gone; after a `clean` close handshake, the peer may have
    /// acknowledged what is in flight.
    pub(super) fn closed(&mut self, conn: ConnId, clean: bool) {
        let policy = self.config.ack_on_close;
        if clean
            && let Some(connection) = self.connections.get_mut(conn.0)
            && connection.may_ack_by_closing(policy)
        {
            let acked = connection.confirm_all(&mut self.spares, &mut self.shares);
            self.settle(conn, acked);
        }
        self.remove(conn);
    }

    /// Ends a connection: nothing of it is held any more.
    pub(super) fn remove(&mut self, conn: ConnId) {
        if self
            .connections
            .get(conn.0)
            .is_some_and(|connection| !connection.is_closing())
        {
            self.close(conn, CloseCause::Lost);
        }
        self.let_go_waiting(conn);
        self.resolve(conn);
        let Some(connection) = self.connections.remove(conn.0) else {
            self.stats.late += 1;
            return;
        };
        self.shares.leave(connection.place);
        let Phase::Closing(closing) = connection.phase else {
            return;
        };
        self.deadlines.disarm_living(conn.0.index);
        self.deadlines.close.disarm(conn.0.index);
        self.deadlines.reply.disarm(conn.0.index);
        self.stats.closed += 1;
        self.outputs.push_back(Output::Closed {
            conn,
            address: connection.address,
            cause: closing.cause,
        });
        self.check_shutdown();
    }

    /// Ends a shutdown when the last connection has ended and nobody waits for the store.
    pub(super) fn check_shutdown(&mut self) {
        if self.shutdown == Shutdown::Draining
            && self.connections.len() == 0
            && self.tickets.is_settled()
            && self.links.unanswered() == 0
        {
            self.shutdown = Shutdown::Done;
            self.outputs.push_back(Output::ShutDown);
        }
    }

    pub(super) fn shut_down(&mut self) {
        if self.shutdown != Shutdown::No {
            return;
        }
        self.shutdown = Shutdown::Draining;
        for key in self.connections.keys() {
            if self
                .connections
                .get(key)
                .is_some_and(|connection| !connection.is_closing())
            {
                self.close(ConnId(key), CloseCause::GoingAway);
            }
        }
        self.check_shutdown();
    }
}
