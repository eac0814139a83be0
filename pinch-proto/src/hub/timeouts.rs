//! What happens by itself: pings, missing pongs, sockets that stand still, joins and closes that
//! take too long.
//!
//! A pong that is missing when its time is over may have come: a driver whose thread was held up
//! finds the timer and the pong at the same moment. So what ends a connection runs on attended time
//! ([`crate::attended`]); and a passed deadline only raises a suspicion, and wakes the driver: it is
//! confirmed when the driver has looked at the socket and says so.

use super::connection::{Connection, Phase, Ping};
use super::deadlines::DeadlineList;
use super::io::{CloseCause, ConnId, Output};
use super::shards::Shard;
use super::{Config, Hub};
use crate::attended::{AttendedClock, AttendedTime};

/// How many expired deadlines one turn handles, so that a million heartbeats that fall due at once
/// do not keep a driver's lock for as long as that takes.
const EXPIRED_PER_TURN: usize = 1024;

/// The deadlines of all connections, one list for each class.
#[derive(Debug)]
pub(super) struct Deadlines {
    pub(super) ping: DeadlineList,
    pub(super) pong: DeadlineList<AttendedTime>,
    pub(super) join: DeadlineList,
    /// The gap between two ack probes.
    pub(super) probe: DeadlineList,
    pub(super) stall: DeadlineList<AttendedTime>,
    /// A message that has begun.
    pub(super) message: DeadlineList<AttendedTime>,
    /// A queue that could not be read, and is to be read again.
    pub(super) retry: DeadlineList,
    /// An ack probe that is not answered.
    pub(super) ack: DeadlineList<AttendedTime>,
    /// Replies that wait for the store.
    pub(super) reply: DeadlineList<AttendedTime>,
    pub(super) close: DeadlineList<AttendedTime>,
    /// By the index of a shard: items for it that have no verdict.
    pub(super) resend: DeadlineList,
}

impl Deadlines {
    pub(super) fn new(config: &Config, place: &Shard, attended: &AttendedClock) -> Self {
        let grace = attended.grace();
        Self {
            ping: DeadlineList::new(config.heartbeat_interval),
            pong: DeadlineList::new(config.pong_timeout + grace),
            join: DeadlineList::new(config.join_timeout),
            probe: DeadlineList::new(config.ack_probe_interval),
            stall: DeadlineList::new(config.stall_timeout + grace),
            message: DeadlineList::new(config.message_timeout + grace),
            retry: DeadlineList::new(config.queue.unwrap_or_default().retry_interval),
            ack: DeadlineList::new(config.stall_timeout + grace),
            reply: DeadlineList::new(config.reply_timeout + grace),
            close: DeadlineList::new(config.close_timeout + grace),
            resend: DeadlineList::new(place.resend_after.unwrap_or_default()),
        }
    }

    /// Forgets a connection that lives no longer; its close deadline stays, and that of replies.
    pub(super) fn disarm_living(&mut self, index: u32) {
        for list in [
            &mut self.ping,
            &mut self.join,
            &mut self.probe,
            &mut self.retry,
        ] {
            list.disarm(index);
        }
        self.pong.disarm(index);
        self.stall.disarm(index);
        self.ack.disarm(index);
    }
}

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
        let (now, attended) = (self.now, self.attended.now());
        if let Some(conn) = self.conn_at(|deadlines| deadlines.reply.pop_due(attended)) {
            self.give_up_settling(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.close.pop_due(attended)) {
            self.remove(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.stall.pop_due(attended)) {
            self.suspect(conn, |connection| connection.stalled = true);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.ack.pop_due(attended)) {
            self.ack_due(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.pong.pop_due(attended)) {
            self.suspect(conn, |connection| connection.ping = Ping::Overdue);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.message.pop_due(attended)) {
            self.message_overdue(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.join.pop_due(now)) {
            self.release(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.probe.pop_due(now)) {
            self.probe(conn);
            self.wake(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.retry.pop_due(now)) {
            self.read_on(conn);
        } else if let Some(conn) = self.conn_at(|deadlines| deadlines.ping.pop_due(now)) {
            self.deadlines.ping.arm(conn.0.index, now);
            self.ping(conn);
        } else if let Some(index) = self.deadlines.resend.pop_due(now) {
            self.resend(index);
        } else {
            return self.expire_ticket()
                || self.expire_stored()
                || self.parked.forget_full(now)
                || self.joins.forget_full(now);
        }
        true
    }

    fn conn_at(&mut self, pop: impl FnOnce(&mut Deadlines) -> Option<u32>) -> Option<ConnId> {
        let index = pop(&mut self.deadlines)?;
        self.connections.key_at(index).map(ConnId)
    }

    /// Raises a suspicion, and has the driver look at the socket.
    pub(super) fn suspect(&mut self, conn: ConnId, suspicion: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(conn.0) {
            suspicion(connection);
            connection.asleep = false;
            self.outputs.push_back(Output::Wake { conn });
        }
    }

    /// The driver has looked at the socket: whoever is still suspected is closed.
    pub(super) fn judge(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get(conn.0) else {
            return;
        };
        if connection.is_closing() {
            return;
        }
        if connection.stalled {
            self.stats.stalls += 1;
            self.close(conn, CloseCause::TooSlow);
        } else if connection.ack_overdue && !connection.paused {
            self.stats.ack_timeouts += 1;
            self.close(conn, CloseCause::TooSlow);
        } else if connection.ping == Ping::Overdue && !connection.paused {
            self.stats.heartbeat_timeouts += 1;
            self.close(conn, CloseCause::HeartbeatTimeout);
        }
    }

    /// Queues a ping, unless one is under way.
    pub(super) fn ping(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0)
            && connection.ping == Ping::Idle
        {
            connection.ping = Ping::Queued;
            self.wake(conn);
        }
    }

    /// Queues an ack probe, if something is in flight behind the last one, which was answered.
    fn probe(&mut self, conn: ConnId) {
        let paced = self.deadlines.probe.is_armed(conn.0.index);
        if let Some(connection) = self.connections.get_mut(conn.0) {
            connection.probe_due |= connection.wants_probe(paced);
        }
    }

    /// A pong came: a sign of life, what confirms everything before its ping, and the end of a join
    /// if it is the right one. From a connection that is being closed, it confirms.
    pub(super) fn pong(&mut self, conn: ConnId, payload: &[u8]) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            self.stats.late += 1;
            return;
        };
        if connection.owed_pongs > 0 {
            connection.owed_pongs -= 1;
        } else if !connection.is_closing() && !self.takes_control(conn, 1) {
            return;
        }
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        let answers = connection.is_last_pong(payload);
        let joining = matches!(connection.phase, Phase::Joining { .. });
        if answers {
            connection.ping = Ping::Idle;
            self.deadlines.pong.disarm(conn.0.index);
        }
        let number = payload.try_into().ok().map(u64::from_be_bytes);
        let confirmed = number
            .filter(|number| *number <= connection.ping_number)
            .map(|number| connection.confirm(number, &mut self.spares, &mut self.shares))
            .unwrap_or_default();
        if confirmed.count > 0 {
            self.acked(conn);
        }
        self.settle(conn, confirmed);
        self.stats.pongs += 1;
        self.alive(conn);
        self.probe(conn);
        // There may be room for more.
        self.wake(conn);
        self.read_on(conn);
        if answers && joining {
            self.release(conn);
        }
        self.resolve_if_acked(conn);
    }

    /// The peer has shown life.
    ///
    /// While it joins, only its pong says that it has heard what was handed out.
    pub(super) fn alive(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn.0) else {
            return;
        };
        let answered = match connection.ping {
            Ping::Awaited | Ping::Overdue => true,
            Ping::HandedOut => matches!(connection.phase, Phase::Live),
            Ping::Idle | Ping::Queued => false,
        };
        if answered {
            connection.ping = Ping::Idle;
            self.deadlines.pong.disarm(conn.0.index);
        }
    }

    /// The join is over: traffic may begin. If this is the predecessor of a connection that has joined,
    /// that one has waited long enough for it.
    fn release(&mut self, conn: ConnId) {
        self.deadlines.join.disarm(conn.0.index);
        let connection = self.connections.get(conn.0);
        if connection.is_some_and(Connection::is_closing) {
            return self.resolve(conn);
        }
        if let Some(connection) = self.connections.get_mut(conn.0)
            && matches!(connection.phase, Phase::Joining { .. })
        {
            connection.phase = Phase::Live;
            self.wake(conn);
        }
    }

    /// The connection, if it has not ended and is not being closed; else the input is counted as
    /// late.
    pub(super) fn living(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let connection = self
            .connections
            .get_mut(conn.0)
            .filter(|connection| !connection.is_closing());
        if connection.is_none() {
            self.stats.late += 1;
        }
        connection
    }
}
