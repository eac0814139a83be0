//! What happens by itself, and what shows that a peer lives: pings, pongs, acks, sockets that stand
//! still, joins and closes that take too long.
//!
//! A pong that is missing when its time is over may have come: a driver whose thread was held up
//! finds the timer and the pong at the same moment. So what ends a connection runs on attended time
//! ([`crate::attended`]); and a passed deadline only raises a suspicion, and wakes the driver: it is
//! confirmed when the driver has looked at the socket and says so.

use super::Hub;
use super::connection::{Connection, Phase, Ping, Socket};
use super::core::Core;
use super::deadlines::Timer;
use super::io::{CloseCause, ConnId, Output};

/// How many expired deadlines one turn handles, so that a million heartbeats that fall due at once
/// do not keep a driver's lock for as long as that takes.
const EXPIRED_PER_TURN: usize = 1024;

impl Hub {
    pub(super) fn expire(&mut self) {
        for _ in 0..EXPIRED_PER_TURN {
            if !self.expire_one() {
                return;
            }
        }
    }

    /// Handles one deadline that has passed; false if there is none.
    fn expire_one(&mut self) -> bool {
        let core = &mut self.core;
        if let Some(slot) = core.pop_due(Timer::Reply) {
            self.with_slot(slot, Core::release_overdue_replies);
        } else if let Some(slot) = core.pop_due(Timer::Close) {
            if let Some(conn) = self.connections.id_at(slot) {
                self.remove(conn);
            }
        } else if let Some(slot) = core.pop_due(Timer::Stall) {
            self.with_slot(slot, |core, connection| {
                connection.socket = Socket::Stalled;
                core.have_looked_at(connection);
            });
        } else if let Some(slot) = core.pop_due(Timer::Ack) {
            self.with_slot(slot, Core::ack_due);
        } else if let Some(slot) = core.pop_due(Timer::Pong) {
            self.with_slot(slot, |core, connection| {
                connection.ping = Ping::Overdue;
                core.have_looked_at(connection);
            });
        } else if let Some(slot) = core.pop_due(Timer::Message) {
            self.message_overdue(slot);
        } else if let Some(slot) = core.pop_due(Timer::Join) {
            if let Some(conn) = self.connections.id_at(slot) {
                self.end_join(conn);
            }
        } else if let Some(slot) = core.pop_due(Timer::AckProbe) {
            self.with_slot(slot, |core, connection| {
                core.probe(connection);
                core.wake(connection);
            });
        } else if let Some(slot) = core.pop_due(Timer::Read) {
            if let Some(conn) = self.connections.id_at(slot) {
                self.read_on(conn);
            }
        } else if let Some(slot) = core.pop_due(Timer::Ping) {
            core.arm(Timer::Ping, slot);
            self.with_slot(slot, Core::ping);
        } else if let Some(index) = core.pop_due(Timer::Resend) {
            self.core.resend(index);
        } else {
            return self.expire_ticket()
                || self.core.expire_stored()
                || self.core.forget_full_bucket();
        }
        true
    }

    fn with_slot(&mut self, slot: u32, act: impl FnOnce(&mut Core, &mut Connection)) {
        if let Some(connection) = self.connections.at_mut(slot) {
            act(&mut self.core, connection);
        }
    }

    /// The driver has looked at the socket: a connection that is still suspected is closed.
    pub(super) fn close_if_dead(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.open_mut(conn) else {
            return;
        };
        let stats = &mut self.core.stats;
        if connection.socket == Socket::Stalled {
            stats.stalls += 1;
            self.close(conn, CloseCause::TooSlow);
        } else if connection.ack_overdue && !connection.paused {
            stats.ack_timeouts += 1;
            self.close(conn, CloseCause::TooSlow);
        } else if connection.ping == Ping::Overdue && !connection.paused {
            stats.heartbeat_timeouts += 1;
            self.close(conn, CloseCause::HeartbeatTimeout);
        }
    }

    /// A pong came: a sign of life, an ack of everything before its ping, and the end of a join if it
    /// is the right one. From a connection that is being closed, it acknowledges.
    pub(super) fn pong(&mut self, conn: ConnId, payload: &[u8]) {
        let Self { connections, core } = self;
        let Some(connection) = connections.get_mut(conn) else {
            core.stats.late += 1;
            return;
        };
        if connection.owed_pongs > 0 {
            connection.owed_pongs -= 1;
        } else if !connection.is_closing() && !core.take_control(connection, 1) {
            return self.close(conn, CloseCause::ControlFlood);
        }
        let answers = connection.is_last_pong(payload);
        let joining = matches!(connection.phase, Phase::Joining { .. });
        if answers {
            connection.ping = Ping::Idle;
            core.deadlines.disarm(Timer::Pong, conn.slot());
        }
        let number = payload.try_into().ok().map(u64::from_be_bytes);
        if let Some(number) = number.filter(|number| *number <= connection.ping_number) {
            let acked = connection.ack(number, &mut core.pool, &mut core.shares);
            if acked.count > 0 {
                core.restart_ack_deadline(connection);
                core.on_acked(connection, acked);
            }
        }
        core.stats.pongs += 1;
        core.on_activity(connection);
        core.probe(connection);
        // There may be room for more.
        core.wake(connection);
        let is_closing = connection.is_closing();
        if connection.backlog.is_some() {
            self.read_on(conn);
        }
        if answers && joining {
            self.end_join(conn);
        }
        if is_closing {
            self.resolve_if_acked(conn);
        }
    }

    /// The join is over: traffic may begin. If this is the predecessor of a connection that has joined,
    /// that one has waited long enough for it.
    fn end_join(&mut self, conn: ConnId) {
        let Self { connections, core } = self;
        core.deadlines.disarm(Timer::Join, conn.slot());
        let Some(connection) = connections.get_mut(conn) else {
            return;
        };
        match connection.phase {
            Phase::Joining { .. } => {
                connection.phase = Phase::Live;
                core.wake(connection);
            }
            Phase::Live => {}
            Phase::Closing(_) => self.resolve(conn),
        }
    }
}

impl Core {
    /// Has the driver look at the socket of a connection.
    pub(super) fn have_looked_at(&mut self, connection: &mut Connection) {
        if connection.socket == Socket::Asleep {
            connection.socket = Socket::Awake;
        }
        let conn = connection.id;
        self.say(Output::Wake { conn });
    }

    /// Queues a ping, unless one is under way.
    pub(super) fn ping(&mut self, connection: &mut Connection) {
        if connection.ping == Ping::Idle {
            connection.ping = Ping::Queued;
            self.wake(connection);
        }
    }

    /// Queues an ack probe, if something is in flight behind the last one, which was answered.
    fn probe(&self, connection: &mut Connection) {
        let paced = self
            .deadlines
            .is_armed(Timer::AckProbe, connection.id.slot());
        connection.probe_due |= connection.wants_probe(paced);
    }

    /// The peer has shown life.
    ///
    /// While it joins, only its pong says that it has heard what was transmitted.
    pub(super) fn on_activity(&mut self, connection: &mut Connection) {
        let answered = match connection.ping {
            Ping::Sent | Ping::Awaited | Ping::Overdue => true,
            Ping::Unsent => matches!(connection.phase, Phase::Live),
            Ping::Idle | Ping::Queued => false,
        };
        if answered {
            connection.ping = Ping::Idle;
            self.deadlines.disarm(Timer::Pong, connection.id.slot());
        }
    }

    /// A peer has acknowledged something: from here on it has the stall timeout for the rest.
    fn restart_ack_deadline(&mut self, connection: &mut Connection) {
        connection.ack_overdue = false;
        self.deadlines.disarm(Timer::Ack, connection.id.slot());
        self.expect_ack(connection);
    }

    /// Nothing was acknowledged for the stall timeout. While the socket has not taken the probe, the
    /// deadline of the socket counts instead.
    fn ack_due(&mut self, connection: &mut Connection) {
        if connection.is_blocked() {
            return self.arm(Timer::Ack, connection.id.slot());
        }
        connection.ack_overdue = true;
        self.have_looked_at(connection);
    }

    /// Starts the time in which a peer has to answer an ack probe, if one was transmitted. It runs while
    /// the socket still takes bytes: a peer that reads drop by drop acknowledges nothing.
    pub(super) fn expect_ack(&mut self, connection: &Connection) {
        if connection.outbox.last_probe().is_some() && !connection.is_closing() {
            self.arm_if_idle(Timer::Ack, connection.id.slot());
        }
    }
}
