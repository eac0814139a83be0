//! What falls due for connections: one list, in the order in which the alarms were set.

use core::time::Duration;

use pinch_proto::Time;
use pinch_proto::hub::{ConnId, WakeupReason};

use super::patience::Patience;
use crate::story::Settings;

/// What an alarm is for. If several are due, the kinds come in this order, and among those of one
/// kind the one that was set first: so what is over ends before what lives goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A reply has waited for the store for long enough.
    Reply,
    /// A connection that is being closed has had its time.
    Close,
    /// A socket has taken nothing for too long.
    Stall,
    /// Nothing was acknowledged for too long.
    Ack,
    /// A pong is missing.
    Pong,
    /// A message has begun and does not end.
    Message,
    /// A join is over, pong or not.
    Join,
    /// The gap between two ack probes is over.
    Probe,
    /// A queue is to be read again.
    Read,
    /// The heartbeat.
    Ping,
}

impl Kind {
    /// Whether it may end a connection: then a pause of the process does not bring it about.
    const fn is_patient(self) -> bool {
        match self {
            Self::Reply | Self::Close | Self::Stall | Self::Ack | Self::Pong | Self::Message => {
                true
            }
            Self::Join | Self::Probe | Self::Read | Self::Ping => false,
        }
    }
}

const ALL: [(Kind, WakeupReason); 10] = [
    (Kind::Reply, WakeupReason::Reply),
    (Kind::Close, WakeupReason::Close),
    (Kind::Stall, WakeupReason::Stall),
    (Kind::Ack, WakeupReason::Ack),
    (Kind::Pong, WakeupReason::Pong),
    (Kind::Message, WakeupReason::Message),
    (Kind::Join, WakeupReason::Join),
    (Kind::Probe, WakeupReason::AckProbe),
    (Kind::Read, WakeupReason::Read),
    (Kind::Ping, WakeupReason::Ping),
];

#[derive(Clone, Copy, Debug)]
struct Alarm {
    kind: Kind,
    conn: ConnId,
    /// In attended time, if the kind is patient.
    at: Time,
}

/// All alarms that are set: at most one of each kind for each connection.
#[derive(Clone, Debug)]
pub(super) struct Alarms {
    alarms: Vec<Alarm>,
    pub(super) patience: Patience,
    pong_timeout: u64,
    stall_timeout: u64,
}

impl Alarms {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            alarms: vec![],
            patience: Patience::new(settings),
            pong_timeout: settings.pong_timeout,
            stall_timeout: settings.stall_timeout,
        }
    }

    /// Sets an alarm, instead of an earlier one.
    pub(super) fn set(&mut self, kind: Kind, conn: ConnId, now: Time) {
        self.clear(kind, conn);
        let wait = match kind {
            Kind::Reply => Settings::REPLY_TIMEOUT,
            Kind::Close => Settings::CLOSE_TIMEOUT,
            Kind::Stall | Kind::Ack => self.stall_timeout,
            Kind::Pong => self.pong_timeout,
            Kind::Message => Settings::MESSAGE_TIMEOUT,
            Kind::Join => Settings::JOIN_TIMEOUT,
            Kind::Probe => Settings::ACK_PROBE_INTERVAL,
            Kind::Read => Settings::RETRY_INTERVAL,
            Kind::Ping => Settings::HEARTBEAT_INTERVAL,
        };
        let at = if kind.is_patient() {
            self.patience.deadline(wait)
        } else {
            now + Duration::from_millis(wait)
        };
        self.alarms.push(Alarm { kind, conn, at });
    }

    /// Whether a patient alarm was set `millis` ago or more.
    pub(super) fn has_waited(&self, kind: Kind, conn: ConnId, patience: Duration) -> bool {
        let wait = self.patience.deadline(self.stall_timeout);
        let is_it = |alarm: &&Alarm| alarm.kind == kind && alarm.conn == conn;
        let mut all = self.alarms.iter().filter(is_it);
        all.any(|alarm| alarm.at + patience <= wait)
    }

    pub(super) fn is_set(&self, kind: Kind, conn: ConnId) -> bool {
        self.alarms
            .iter()
            .any(|alarm| alarm.kind == kind && alarm.conn == conn)
    }

    /// The connection whose alarm of this kind was set first.
    pub(super) fn first(&self, kind: Kind) -> Option<ConnId> {
        let mut alarms = self.alarms.iter();
        alarms
            .find(|alarm| alarm.kind == kind)
            .map(|alarm| alarm.conn)
    }

    pub(super) fn clear(&mut self, kind: Kind, conn: ConnId) {
        self.alarms
            .retain(|alarm| alarm.kind != kind || alarm.conn != conn);
    }

    /// Clears all but those of a reply, if it `keeps` them.
    pub(super) fn clear_living(&mut self, conn: ConnId, keeps: bool) {
        let is_kept = |alarm: &Alarm| keeps && alarm.kind == Kind::Reply;
        self.alarms
            .retain(|alarm| alarm.conn != conn || is_kept(alarm));
    }

    pub(super) fn clear_all(&mut self, conn: ConnId) {
        self.alarms.retain(|alarm| alarm.conn != conn);
    }

    /// Takes the alarm that is to be answered first, of those that are due.
    pub(super) fn next_due(&mut self, now: Time) -> Option<(Kind, ConnId)> {
        let first = |kind: Kind| {
            let now = if kind.is_patient() {
                self.patience.now()
            } else {
                now
            };
            let is_due = |alarm: &Alarm| alarm.kind == kind && alarm.at <= now;
            self.alarms.iter().position(is_due)
        };
        let position = ALL.iter().find_map(|&(kind, _)| first(kind))?;
        let alarm = self.alarms.remove(position);
        Some((alarm.kind, alarm.conn))
    }

    /// When to look after each of them.
    pub(super) fn all(&self, now: Time) -> impl Iterator<Item = (Time, WakeupReason)> {
        self.alarms.iter().map(move |alarm| {
            let reason = ALL.iter().find(|(kind, _)| *kind == alarm.kind);
            let at = if alarm.kind.is_patient() {
                self.patience.look(alarm.at, now)
            } else {
                alarm.at
            };
            (at, reason.expect("all kinds are in the list").1)
        })
    }
}
