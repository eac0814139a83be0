//! Pings: when one is due, which one is on its way, and how long its pong may take.
//!
//! At most one is on its way. Each is both a marker behind what was sent before it, and a
//! heartbeat; but only a heartbeat has a deadline: a marker behind a burst takes as long as the
//! burst does on a slow link, and that is no reason to call the link dead. What a pong confirms is
//! the outbox's business.

use core::time::Duration;

use bytes::Bytes;

use crate::Time;
use crate::attended::{AttendedClock, AttendedTime};

/// How far the ping of a link is.
///
/// ```text
///          tick          hand_out              taken
///  ┌─ Idle ─────► Due ─────────────► HandedOut ──────► Taken
///  │   ▲          hand_out            ▲    │             │
///  └───┼──────────────────────────────┘    │  its pong   │
///      └───────────────────────────────────┴─────────────┘
/// ```
#[derive(Debug, PartialEq, Eq)]
enum Ping {
    Idle,
    /// A heartbeat wants to be handed out.
    Due,
    /// The socket has not taken it yet.
    HandedOut {
        payload: Bytes,
        is_heartbeat: bool,
    },
    Taken {
        payload: Bytes,
    },
}

/// The pings of one link.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    pong_timeout: Duration,
    ping: Ping,
    next_at: Time,
    deadline: Option<AttendedTime>,
}

impl Heartbeat {
    pub(super) fn new(interval: Duration, pong_timeout: Duration, now: Time) -> Self {
        Self {
            interval,
            pong_timeout,
            ping: Ping::Idle,
            next_at: now + interval,
            deadline: None,
        }
    }

    /// When [`tick`](Self::tick) is due.
    pub(super) const fn next_at(&self) -> Time {
        self.next_at
    }

    /// When the link is dead, unless a sign of life comes before.
    pub(super) const fn deadline(&self) -> Option<AttendedTime> {
        self.deadline
    }

    /// Whether a ping has to be handed out, given whether something was sent that none is behind.
    pub(super) fn wants_ping(&self, has_uncovered: bool) -> bool {
        match self.ping {
            Ping::Idle => has_uncovered,
            Ping::Due => true,
            Ping::HandedOut { .. } | Ping::Taken { .. } => false,
        }
    }

    /// The interval is over: a ping is due, or the one on its way becomes the heartbeat.
    pub(super) fn tick(&mut self, now: Time, attended: &AttendedClock) {
        self.next_at = now + self.interval;
        match &mut self.ping {
            Ping::Idle => self.ping = Ping::Due,
            Ping::Due => {}
            Ping::HandedOut { is_heartbeat, .. } => *is_heartbeat = true,
            Ping::Taken { .. } => {
                self.deadline
                    .get_or_insert(attended.deadline(self.pong_timeout));
            }
        }
    }

    /// A ping goes out.
    pub(super) fn hand_out(&mut self, payload: Bytes, now: Time) {
        let is_heartbeat = self.ping == Ping::Due;
        self.ping = Ping::HandedOut {
            payload,
            is_heartbeat,
        };
        self.next_at = now + self.interval;
    }

    /// The socket has taken everything that was handed out.
    pub(super) fn taken(&mut self, attended: &AttendedClock) {
        if let Ping::HandedOut {
            payload,
            is_heartbeat,
        } = &mut self.ping
        {
            if *is_heartbeat {
                self.deadline = Some(attended.deadline(self.pong_timeout));
            }
            self.ping = Ping::Taken {
                payload: core::mem::take(payload),
            };
        }
    }

    /// The relay lives.
    pub(super) fn alive(&mut self) {
        self.deadline = None;
    }

    /// A pong came: whether it is that of the ping on its way.
    pub(super) fn pong(&mut self, pong: &[u8]) -> bool {
        self.alive();
        match &self.ping {
            Ping::HandedOut { payload, .. } | Ping::Taken { payload } if payload == pong => {
                self.ping = Ping::Idle;
                true
            }
            Ping::HandedOut { .. } | Ping::Taken { .. } | Ping::Idle | Ping::Due => false,
        }
    }
}

/// The payloads of pings: numbers, so that no pong answers a ping of an earlier link.
#[derive(Debug, Default)]
pub(super) struct PingNumbers(u64);

impl PingNumbers {
    pub(super) fn next(&mut self) -> Bytes {
        self.0 = self.0.wrapping_add(1);
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }
}
