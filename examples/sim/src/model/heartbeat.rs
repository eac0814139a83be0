//! Sockets and signs of life: what is handed out, when to ping, when to give up.

use pinch_proto::Frame;
use pinch_proto::hub::{CloseCause, ConnId, Output};

use super::Model;
use super::alarms::Kind;
use super::connection::{Connection, Given, Phase, Ping};
use super::fates::Fate;

impl Model {
    /// The socket has taken everything, and takes `credit` bytes more: at least one frame, if not 0.
    pub(super) fn transmit(&mut self, conn: ConnId, credit: usize) {
        self.hand_out(conn, credit);
        self.set_paused(conn);
    }

    /// Decides whether anything is to be read from a connection before its driver comes again.
    fn set_paused(&mut self, conn: ConnId) {
        let (is_congested, now) = (self.is_congested(conn), self.now);
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        let resumes = connection.paused && !is_congested && connection.is_open();
        connection.paused = is_congested;
        // Nothing was read meanwhile: its pong has its time from now on.
        if resumes && connection.ping == Ping::Overdue {
            connection.ping = Ping::Awaited;
            self.alarms.set(Kind::Pong, conn, now);
        }
        let was_overdue = self.get_mut(conn).map(|connection| {
            let resumes = resumes && connection.ack_overdue;
            connection.ack_overdue &= !resumes;
            resumes
        });
        if was_overdue == Some(true) {
            self.expect_ack(conn);
        }
    }

    /// A peer that was given a ping behind envelopes has its time to answer that.
    fn expect_ack(&mut self, conn: ConnId) {
        let now = self.now;
        let awaited = |connection: &Connection| connection.is_open() && marks(connection).is_some();
        if self.get(conn).is_some_and(awaited) && !self.alarms.is_set(Kind::Ack, conn) {
            self.alarms.set(Kind::Ack, conn, now);
        }
    }

    fn hand_out(&mut self, conn: ConnId, bytes: usize) {
        if let Some(connection) = self.get_mut(conn) {
            connection.stalled = false;
        }
        self.judge(conn);
        let (now, settings) = (self.now, self.settings);
        let Some(connection) = self.connections.iter_mut().find(|known| known.conn == conn) else {
            return;
        };
        let was_blocked = core::mem::take(&mut connection.blocked);
        self.alarms.clear(Kind::Stall, conn);
        // The pong is expected from when the ping has left.
        if connection.ping == Ping::Sent {
            connection.ping = Ping::Awaited;
        }
        if connection.is_open() && was_blocked && connection.ping == Ping::Unsent {
            connection.ping = Ping::Awaited;
            self.alarms.set(Kind::Pong, conn, now);
            if connection.is_joining() {
                self.alarms.set(Kind::Join, conn, now);
            }
        }
        let marked_before = marks(connection);
        let mut spent = 0;
        let had_frame = connection.has_frame(&settings);
        while (spent < bytes || (spent > 0 && connection.probe_due))
            && let Some(frame) = connection.next_frame(&mut self.next_ping, &settings)
        {
            spent += frame.len().max(1);
            self.happened.pings += u64::from(matches!(frame, Frame::Ping(_)));
            let is_end = spent >= bytes || !connection.has_frame(&settings);
            let probed = marks(connection) != marked_before;
            let in_gap = probed || self.alarms.is_set(Kind::Probe, conn);
            connection.probe_due |= connection.must_be_probed(&settings)
                || (is_end && connection.may_be_probed(in_gap));
            self.frames.push(frame);
        }
        for letter in connection.unwatched.drain(..) {
            self.fates.set(letter.fate, Fate::Delivered);
        }
        for given in &connection.given {
            self.fates.set(given.letter.fate, Fate::Given);
        }
        connection.asleep = spent < bytes || !had_frame;
        if connection.is_open() {
            if marks(connection) != marked_before {
                self.alarms.set(Kind::Probe, conn, now);
                if !self.alarms.is_set(Kind::Ack, conn) {
                    self.alarms.set(Kind::Ack, conn, now);
                }
            }
            if connection.ping == Ping::Sent {
                self.alarms.set(Kind::Pong, conn, now);
                if connection.is_joining() {
                    self.alarms.set(Kind::Join, conn, now);
                }
            }
        }
        self.read_on(conn);
    }

    /// The socket has not taken everything.
    pub(super) fn blocked(&mut self, conn: ConnId, progressed: bool) {
        let now = self.now;
        if let Some(connection) = self.get_mut(conn)
            && connection.blocked == progressed
        {
            let is_new = !core::mem::replace(&mut connection.blocked, true);
            connection.asleep = false;
            connection.stalled &= !progressed;
            let is_unsent = is_new && connection.is_open() && connection.ping == Ping::Sent;
            if is_unsent {
                connection.ping = Ping::Unsent;
            }
            if connection.is_open() {
                self.alarms.set(Kind::Stall, conn, now);
            }
            if is_unsent {
                // It has not left: nothing is late.
                self.alarms.clear(Kind::Pong, conn);
                self.alarms.clear(Kind::Join, conn);
            }
        }
        self.judge(conn);
        self.set_paused(conn);
    }

    /// The driver has looked at the socket: a suspicion that stands is true.
    fn judge(&mut self, conn: ConnId) {
        let Some(connection) = self.open(conn) else {
            return;
        };
        if connection.stalled {
            self.happened.stalls += 1;
            self.close(conn, CloseCause::TooSlow);
        } else if connection.ack_overdue && !connection.paused {
            self.happened.ack_timeouts += 1;
            self.close(conn, CloseCause::TooSlow);
        } else if connection.ping == Ping::Overdue && !connection.paused {
            self.happened.heartbeat_timeouts += 1;
            self.close(conn, CloseCause::HeartbeatTimeout);
        }
    }

    /// A pong of the last ping or of an earlier one: everything before that ping has arrived.
    pub(super) fn pong(&mut self, conn: ConnId, payload: &[u8]) {
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        if connection.owed_pongs > 0 {
            connection.owed_pongs -= 1;
        } else if connection.is_open() && !self.pays_for_control(conn, 1) {
            return;
        }
        let Some(connection) = self.get_mut(conn) else {
            return;
        };
        let number = payload.try_into().map(u64::from_be_bytes).ok();
        let was_sent = |number: &u64| connection.last_ping.is_some_and(|last| *number <= last);
        let number = number.filter(was_sent);
        let is_last = connection.ping != Ping::Queued && number == connection.last_ping;
        let is_last = is_last && number.is_some();
        let was_joining = connection.is_joining();
        let before = |given: &Given| given.ping.is_some_and(|ping| Some(ping) <= number);
        let (confirmed, left): (Vec<_>, _) = connection.given.drain(..).partition(before);
        connection.given = left;
        let has_acked = !confirmed.is_empty();
        connection.ack_overdue &= !has_acked;
        if is_last {
            connection.ping = Ping::Idle;
            self.alarms.clear(Kind::Pong, conn);
        }
        if has_acked {
            self.alarms.clear(Kind::Ack, conn);
            self.expect_ack(conn);
        }
        self.confirmed(conn, confirmed);
        self.happened.pongs += 1;
        self.alive(conn);
        self.probe(conn);
        self.wake(conn);
        self.read_on(conn);
        if is_last && was_joining {
            self.end_join(conn);
        }
        // It has acknowledged everything: nothing more is waited for.
        let all_acked =
            |connection: &Connection| !connection.is_open() && connection.given.is_empty();
        if self.get(conn).is_some_and(all_acked) {
            self.resolve(conn);
        }
    }

    /// A sign of life. It answers a ping that has left; one that may not have left, only of a peer
    /// that has joined: before, the pong is wanted itself.
    pub(super) fn alive(&mut self, conn: ConnId) {
        let Some(connection) = self.open(conn) else {
            return;
        };
        let has_left = matches!(connection.ping, Ping::Sent | Ping::Awaited | Ping::Overdue);
        if has_left || (connection.ping == Ping::Unsent && !connection.is_joining()) {
            connection.ping = Ping::Idle;
            self.alarms.clear(Kind::Pong, conn);
        }
    }

    /// Queues a ping, unless one is under way.
    pub(super) fn ping(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn)
            && connection.ping == Ping::Idle
        {
            connection.ping = Ping::Queued;
            self.wake(conn);
        }
    }

    /// Queues an ack probe, if nothing is in its way.
    fn probe(&mut self, conn: ConnId) {
        let in_gap = self.alarms.is_set(Kind::Probe, conn);
        if let Some(connection) = self.get_mut(conn) {
            connection.probe_due |= connection.may_be_probed(in_gap);
        }
    }

    fn end_join(&mut self, conn: ConnId) {
        self.alarms.clear(Kind::Join, conn);
        if !self.is_open(conn) {
            // Its successor has waited long enough.
            return self.resolve(conn);
        }
        if let Some(connection) = self.open(conn) {
            connection.phase = Phase::Live;
            self.wake(conn);
        }
    }

    /// Wakes a task that sleeps, if there is something for it.
    pub(super) fn wake(&mut self, conn: ConnId) {
        let settings = self.settings;
        if let Some(connection) = self.get_mut(conn)
            && connection.asleep
            && connection.has_frame(&settings)
        {
            connection.asleep = false;
            self.outputs.push(Output::Wake { conn });
        }
    }

    /// Does one thing that is due; false if nothing is.
    pub(super) fn do_next_due(&mut self) -> bool {
        let Some((kind, conn)) = self.alarms.next_due(self.now) else {
            return self.resend()
                || self.expire_answer()
                || self.expire_stored()
                || self.forget_bucket();
        };
        match kind {
            Kind::Reply => self.give_up_settling(conn),
            Kind::Close => self.end(conn),
            Kind::Stall => self.suspect(conn, |connection| connection.stalled = true),
            Kind::Ack if self.get(conn).is_some_and(|connection| connection.blocked) => {
                // What it has to answer has not left yet.
                self.alarms.set(Kind::Ack, conn, self.now);
            }
            Kind::Ack => self.suspect(conn, |connection| connection.ack_overdue = true),
            Kind::Pong => self.suspect(conn, |connection| connection.ping = Ping::Overdue),
            Kind::Message => self.message_overdue(conn),
            Kind::Join => self.end_join(conn),
            Kind::Read => self.read_on(conn),
            Kind::Probe => {
                self.probe(conn);
                self.wake(conn);
            }
            Kind::Ping => {
                self.alarms.set(Kind::Ping, conn, self.now);
                self.ping(conn);
            }
        }
        true
    }

    /// Raises a suspicion, and has the driver look.
    fn suspect(&mut self, conn: ConnId, suspicion: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.get_mut(conn) {
            suspicion(connection);
            connection.asleep = false;
            self.outputs.push(Output::Wake { conn });
        }
    }
}

/// The last ping that went behind something which is in flight.
fn marks(connection: &Connection) -> Option<u64> {
    connection.given.iter().filter_map(|given| given.ping).max()
}
