//! What falls due for connections: one list, in the order in which the alarms were set.

use core::time::Duration;

use pinch_proto::Time;
use pinch_proto::hub::{ConnId, WakeupReason};

use crate::story::Settings;

/// What an alarm is for. If several are due, the kinds come in this order, and among those of one
/// kind the one that was set first: so what is over ends before what lives goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A connection that is being closed has had its time.
    Close,
    /// A socket has taken nothing for too long.
    Stall,
    /// A pong is missing.
    Pong,
    /// A join is over, pong or not.
    Join,
    /// What was given to a peer wants a ping behind it.
    Marker,
    /// A queue is to be read again.
    Read,
    /// The heartbeat.
    Ping,
}

const ALL: [(Kind, WakeupReason); 7] = [
    (Kind::Close, WakeupReason::Close),
    (Kind::Stall, WakeupReason::Stall),
    (Kind::Pong, WakeupReason::Pong),
    (Kind::Join, WakeupReason::Join),
    (Kind::Marker, WakeupReason::Marker),
    (Kind::Read, WakeupReason::Read),
    (Kind::Ping, WakeupReason::Ping),
];

#[derive(Clone, Copy, Debug)]
struct Alarm {
    kind: Kind,
    conn: ConnId,
    at: Time,
}

/// All alarms that are set: at most one of each kind for each connection.
#[derive(Clone, Debug)]
pub(super) struct Alarms {
    alarms: Vec<Alarm>,
    pong_timeout: u64,
    stall_timeout: u64,
}

impl Alarms {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            alarms: vec![],
            pong_timeout: settings.pong_timeout,
            stall_timeout: settings.stall_timeout,
        }
    }

    /// Sets an alarm, instead of an earlier one.
    pub(super) fn set(&mut self, kind: Kind, conn: ConnId, now: Time) {
        self.clear(kind, conn);
        let wait = match kind {
            Kind::Close => Settings::CLOSE_TIMEOUT,
            Kind::Stall => self.stall_timeout,
            Kind::Pong => self.pong_timeout,
            Kind::Join => Settings::JOIN_TIMEOUT,
            Kind::Marker => Settings::MARKER_INTERVAL,
            Kind::Read => Settings::RETRY_INTERVAL,
            Kind::Ping => Settings::HEARTBEAT_INTERVAL,
        };
        let at = now + Duration::from_millis(wait);
        self.alarms.push(Alarm { kind, conn, at });
    }

    pub(super) fn is_set(&self, kind: Kind, conn: ConnId) -> bool {
        self.alarms
            .iter()
            .any(|alarm| alarm.kind == kind && alarm.conn == conn)
    }

    pub(super) fn clear(&mut self, kind: Kind, conn: ConnId) {
        self.alarms
            .retain(|alarm| alarm.kind != kind || alarm.conn != conn);
    }

    pub(super) fn clear_all(&mut self, conn: ConnId) {
        self.alarms.retain(|alarm| alarm.conn != conn);
    }

    /// Takes the alarm that is to be answered first, of those that are due.
    pub(super) fn next_due(&mut self, now: Time) -> Option<(Kind, ConnId)> {
        let first = |kind| {
            let is_due = |alarm: &Alarm| alarm.kind == kind && alarm.at <= now;
            self.alarms.iter().position(is_due)
        };
        let position = ALL.iter().find_map(|&(kind, _)| first(kind))?;
        let alarm = self.alarms.remove(position);
        Some((alarm.kind, alarm.conn))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Time, WakeupReason)> {
        self.alarms.iter().map(|alarm| {
            let reason = ALL.iter().find(|(kind, _)| *kind == alarm.kind);
            (alarm.at, reason.expect("all kinds are in the list").1)
        })
    }
}
