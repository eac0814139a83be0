//! How a connection begins and ends.

use pinch_proto::hub::{
    Admission, CloseCause, ConnId, Fault, JoinOptions, JoinRefusal, OnDuplicate, Output,
};
use pinch_proto::wire::{AuthResult, Envelope, Payload};
use pinch_proto::{Address, Frame};

use super::alarms::Kind;
use super::connection::{Connection, Phase, Ping};
use super::{Model, Shutdown, Unnamed, words};

impl Model {
    pub(super) fn register(
        &mut self,
        address: Address,
        admission: Admission,
        options: JoinOptions,
        name: Option<ConnId>,
    ) -> Result<(), Unnamed> {
        let incumbent = self.lookup(address.as_str()).filter(|_| !options.send_only);
        if self.shutdown != Shutdown::No {
            self.refuse(address, JoinRefusal::ShuttingDown);
            return Ok(());
        }
        if let Err(retry_after) = self.pays_for_join(&address) {
            self.refuse(address, JoinRefusal::TooManyJoins { retry_after });
            return Ok(());
        }
        let of_address = |connection: &&Connection| {
            connection.is_open() && connection.options.send_only && connection.address == address
        };
        if options.send_only && self.connections.iter().filter(of_address).count() == 8 {
            self.refuse(address, JoinRefusal::TooManySendOnly);
            return Ok(());
        }
        match (incumbent, self.settings.on_duplicate) {
            (Some(incumbent), OnDuplicate::Refuse) => {
                self.ping(incumbent);
                self.refuse(address, JoinRefusal::AlreadyConnected);
                return Ok(());
            }
            // Those that are being closed take a place still; a takeover is let in nevertheless.
            (None, _) if self.connections.len() + self.others >= self.settings.max_connections => {
                self.refuse(address, JoinRefusal::Full);
                return Ok(());
            }
            (Some(_), OnDuplicate::Replace) | (None, _) => {}
        }
        let Some(conn) = name else {
            return Err(Unnamed(address));
        };
        let mut inherited = vec![];
        if let Some(incumbent) = incumbent {
            if self.settings.queue.is_none()
                && let Some(incumbent) = self.get_mut(incumbent)
            {
                inherited = core::mem::take(&mut incumbent.data);
            }
            self.happened.replaced += 1;
            self.close(incumbent, CloseCause::Replaced);
        }
        let greeting = Payload::AuthResult(AuthResult {
            success: true,
            assigned_address: address.as_str().into(),
            ..AuthResult::default()
        });
        let greeting = match admission {
            Admission::Proven => Some(Envelope::from_relay(greeting, self.unix()).to_bytes()),
            Admission::Named => None,
        };
        let bucket = self.unpark(&address);
        if let Some(predecessor) = self.predecessor(&address)
            && !options.send_only
            && !self.alarms.is_set(Kind::Join, predecessor)
        {
            self.alarms.set(Kind::Join, predecessor, self.now);
        }
        self.join_shares(&address, !options.send_only);
        self.connections.push(Connection {
            conn,
            address: address.clone(),
            options,
            phase: Phase::Joining { greeting },
            control: vec![],
            held: vec![],
            given_up: vec![],
            data: inherited,
            given: vec![],
            unwatched: vec![],
            backlog: None,
            bucket,
            ping: Ping::Queued,
            owed_pongs: 0,
            control_bucket: None,
            begun: 0,
            last_ping: None,
            probe_due: false,
            drained: false,
            is_unresolved: false,
            credits: 0,
            awaits_link: false,
            paused: false,
            asleep: false,
            blocked: false,
            stalled: false,
            ack_overdue: false,
        });
        self.alarms.set(Kind::Ping, conn, self.now);
        self.happened.registered += 1;
        self.see(&address);
        self.outputs.push(Output::Registered { conn, address });
        if !options.send_only {
            self.begin_drain(conn);
        }
        Ok(())
    }

    fn refuse(&mut self, address: Address, refusal: JoinRefusal) {
        if refusal == JoinRefusal::AlreadyConnected {
            self.happened.joins_refused_duplicate += 1;
        } else if matches!(refusal, JoinRefusal::TooManyJoins { .. }) {
            self.happened.joins_refused_rate += 1;
        } else {
            self.happened.joins_refused_capacity += 1;
        }
        self.outputs.push(Output::Refused { address, refusal });
    }

    pub(super) fn faulty(&mut self, conn: ConnId, fault: Fault) {
        let violation = words::violation_of(fault, self.settings.message_bytes());
        self.close(conn, CloseCause::Violation(violation));
    }

    /// Begins the end of a connection that is open.
    pub(super) fn close(&mut self, conn: ConnId, cause: CloseCause) {
        let now = self.now;
        let reads = peer_reads(&cause);
        let by_peer = cause == CloseCause::Peer;
        let has_open_items = self.has_open_items(conn);
        let Some(connection) = self.open(conn) else {
            return;
        };
        let frame = words::close_frame(&cause);
        let answered = false;
        let waits = reads && has_open_items;
        let closing = Phase::Closing {
            cause,
            frame,
            answered,
            waits,
        };
        connection.probe_due = false;
        let had_begun = core::mem::take(&mut connection.begun) > 0;
        connection.asleep &= !had_begun;
        let before = core::mem::replace(&mut connection.phase, closing);
        if let Phase::Joining {
            greeting: Some(greeting),
        } = before
            && (reads || by_peer)
        {
            connection.control.insert(0, Frame::Message(greeting));
        }
        if !by_peer && !waits {
            // Its pings stay unanswered.
            connection.held.clear();
        }
        let (address, bucket) = (connection.address.clone(), connection.bucket);
        self.pass_bucket_on(&address, bucket);
        let reply_waits = by_peer && self.alarms.is_set(Kind::Reply, conn);
        self.alarms.clear_living(conn, reply_waits);
        self.alarms.set(Kind::Close, conn, now);
        if waits {
            self.alarms.set(Kind::Reply, conn, now);
        }
        // Where there is a queue, it has everything before its owner can be back. When the relay
        // ends nobody comes back: then each peer is given first what waits for it.
        let comes_back = self.settings.queue.is_some() && self.shutdown == Shutdown::No;
        if comes_back || !reads {
            self.part_with_waiting(conn);
        }
        if comes_back && !self.awaits_end(conn) {
            self.part_with_given(conn);
        }
        if had_begun {
            // Its driver has something of a message, which nobody wants any more.
            self.outputs.push(Output::Wake { conn });
        }
        self.wake(conn);
    }

    /// The connection of `address` whose peer has closed, and may acknowledge what it was given.
    pub(super) fn predecessor(&self, address: &Address) -> Option<ConnId> {
        let is_it =
            |connection: &&Connection| connection.address == *address && connection.is_unresolved;
        let mut all = self.connections.iter().filter(is_it);
        all.next().map(|connection| connection.conn)
    }

    /// Whether how a peer ends its stream that has closed makes a difference.
    fn awaits_end(&mut self, conn: ConnId) -> bool {
        let settings = self.settings;
        let Some(connection) = self.get_mut(conn) else {
            return false;
        };
        let may_ack = connection.may_ack_by_closing(&settings);
        connection.is_unresolved = may_ack && !connection.given.is_empty();
        connection.is_unresolved
    }

    /// It is known what was acknowledged of what a peer was given that has closed: its successor goes on.
    pub(super) fn resolve(&mut self, conn: ConnId) {
        self.part_with_given(conn);
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        let was_unresolved = core::mem::take(&mut connection.is_unresolved);
        let address = connection.address.clone();
        if was_unresolved && let Some(successor) = self.lookup(address.as_str()) {
            self.read_on(successor);
        }
    }

    /// The socket is gone. If the peer has closed, and then ended its stream in order, it has got
    /// everything.
    pub(super) fn closed(&mut self, conn: ConnId, clean: bool) {
        let settings = self.settings;
        if clean
            && let Some(connection) = self.get_mut(conn)
            && connection.may_ack_by_closing(&settings)
        {
            let given = core::mem::take(&mut connection.given);
            self.confirmed(conn, given);
        }
        self.end(conn);
    }

    /// Ends a connection: nothing of it is left.
    pub(super) fn end(&mut self, conn: ConnId) {
        self.close(conn, CloseCause::Lost);
        self.part_with_waiting(conn);
        self.resolve(conn);
        self.alarms.clear_all(conn);
        let position = self
            .connections
            .iter()
            .position(|connection| connection.conn == conn);
        let Some(position) = position else { return };
        let Connection { address, phase, .. } = self.connections.remove(position);
        if let Phase::Closing { cause, .. } = phase {
            self.happened.closed += 1;
            self.outputs.push(Output::Closed {
                conn,
                address,
                cause,
            });
        }
        self.check_shutdown();
    }

    /// Closes everybody, in the order of their names.
    pub(super) fn shut_down(&mut self) {
        if self.shutdown != Shutdown::No {
            return;
        }
        self.shutdown = Shutdown::Draining;
        let mut all: Vec<_> = self
            .connections
            .iter()
            .map(|connection| connection.conn)
            .collect();
        all.sort_unstable();
        for conn in all {
            self.close(conn, CloseCause::GoingAway);
        }
        self.check_shutdown();
    }

    /// The relay is down when everybody has gone and nobody waits for the store.
    pub(super) fn check_shutdown(&mut self) {
        let awaited = self.owed.iter().any(|owed| !owed.overdue);
        if self.shutdown == Shutdown::Draining
            && self.connections.is_empty()
            && !awaited
            && self.unanswered() == 0
        {
            self.shutdown = Shutdown::Done;
            self.outputs.push(Output::ShutDown);
        }
    }
}

/// Whether a peer can be expected to read on after its connection was closed for this.
fn peer_reads(cause: &CloseCause) -> bool {
    *cause == CloseCause::Replaced
        || *cause == CloseCause::GoingAway
        || matches!(
            cause,
            CloseCause::Violation(_)
                | CloseCause::ControlFlood
                | CloseCause::MessageTimeout
                | CloseCause::MessageEvicted
        )
}
