//! Whether what a client says is what it must say.

use core::time::Duration;

use pinch_proto::client::{Disconnect, Event, Output, Unsendable, Wakeup, WakeupReason};
use pinch_proto::{Frame, Time};

use super::{Model, Phase, Ping};
use crate::targets::client::script::Says;
use crate::targets::client::world::NO_ENVELOPE;

/// An output that must come, as far as it can be known.
#[derive(Clone, Debug)]
pub(in crate::targets::client) enum Want {
    Exactly(Output),
    Response,
    Ping,
    Disconnected(Why),
    GaveUp(Why),
}

/// Why a link ended, as far as it can be known.
#[derive(Clone, Debug)]
pub(in crate::targets::client) enum Why {
    Exactly(Disconnect),
    Join { is_permanent: bool },
    Malformed,
}

impl Model {
    /// Whether `reason` is a good one for not taking `envelope`, about which that much is known.
    pub(in crate::targets::client) fn may_refuse(
        &self,
        reason: &Unsendable,
        envelope: &[u8],
        is_mine: bool,
        is_relay_only: bool,
    ) -> bool {
        let limit = self.settings.envelope_bytes;
        match *reason {
            Unsendable::Closed => self.flush_until.is_some() || self.is_ended(),
            Unsendable::Full => !self.has_room_for(envelope.len()),
            Unsendable::TooLarge { len, limit: told } => {
                len == envelope.len() && told == limit && len > limit
            }
            Unsendable::Malformed(_) => envelope == NO_ENVELOPE,
            Unsendable::NotYourAddress => !is_mine,
            Unsendable::RelayOnly(_) => is_relay_only,
            _ => false,
        }
    }

    /// When a client in this state wants to be called, and what for.
    pub(in crate::targets::client) fn next_due(&self) -> Option<Wakeup> {
        let at = |at: Time, reason| Wakeup { at, reason };
        // While a timeout runs that a pause does not use up, it is looked at once in a step.
        let by = |until: Duration, reason| {
            let left = until.saturating_sub(self.attended);
            at(self.now + left.min(self.settings.step()), reason)
        };
        let mut due = vec![];
        match self.phase {
            Phase::Away { until } => due.push(at(until, WakeupReason::Dial)),
            Phase::Dialing { until, .. } => due.push(by(until, WakeupReason::DialTimeout)),
            Phase::Joining { until, .. } => due.push(by(until, WakeupReason::Join)),
            Phase::Joined { .. } => {
                due.push(at(self.next_ping, WakeupReason::Ping));
                if !self.is_asleep {
                    due.push(by(self.stalls_at, WakeupReason::Stall));
                }
                due.extend(self.pong_due.map(|until| by(until, WakeupReason::Pong)));
            }
            Phase::Leaving { until, .. } => due.push(by(until, WakeupReason::Close)),
            Phase::Ended => {}
        }
        if !matches!(self.phase, Phase::Leaving { .. } | Phase::Ended) {
            due.extend(self.flush_until.map(|until| by(until, WakeupReason::Flush)));
        }
        due.into_iter().min()
    }

    /// What is due now.
    pub(in crate::targets::client) fn is_due(&self) -> Option<WakeupReason> {
        let due = self.next_due().filter(|due| due.at <= self.now);
        due.map(|due| due.reason)
    }

    /// Whether a client in this state wants to be called then.
    pub(in crate::targets::client) fn check_wakeup(
        &self,
        wakeup: Option<Wakeup>,
    ) -> Result<(), String> {
        let expected = self.next_due();
        (wakeup == expected)
            .then_some(())
            .ok_or_else(|| format!("{wakeup:?}, expected {expected:?}"))
    }

    /// Whether these outputs are those that must come.
    pub(in crate::targets::client) fn check_outputs(
        &mut self,
        wants: &[Want],
        outputs: &[Output],
    ) -> Result<(), String> {
        let are_right = wants.len() == outputs.len()
            && wants
                .iter()
                .zip(outputs)
                .all(|(want, output)| self.is_met(want, output));
        are_right
            .then_some(())
            .ok_or_else(|| format!("{outputs:?}, expected {wants:?}"))
    }

    fn is_met(&mut self, want: &Want, output: &Output) -> bool {
        match (want, output) {
            (Want::Exactly(want), output) => want == output,
            (Want::Response, Output::Transmit(Frame::Message(_))) => true,
            (Want::Ping, Output::Transmit(Frame::Ping(payload))) => {
                let is_new = !self.pings.contains(payload) && payload.len() == 8;
                self.pings.push(payload.clone());
                self.ping = Some(Ping {
                    payload: payload.clone(),
                    is_taken: false,
                    is_heartbeat: self.heartbeat_is_due,
                });
                self.covered = self.sent;
                self.heartbeat_is_due = false;
                self.next_ping = self.now + self.settings.heartbeat_interval;
                is_new
            }
            (Want::Disconnected(want), Output::Event(Event::Disconnected { why, retry_at })) => {
                self.phase = Phase::Away { until: *retry_at };
                let delay = retry_at.since(self.now);
                let (least, most) = (self.retry_after, self.retry_after + self.longest_delay());
                want.is(why) && *retry_at >= self.now && (least..=most).contains(&delay)
            }
            (Want::GaveUp(want), Output::Event(Event::GaveUp { why, unsent })) => {
                let is_right = want.is(why) && unsent == self.outbox();
                self.phase = Phase::Ended;
                is_right
            }
            _ => false,
        }
    }

    /// The backoff doubles with each failure, up to its cap.
    fn longest_delay(&self) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(20);
        let delay = self.settings.backoff_base * (1 << doublings);
        delay.min(self.settings.backoff_cap)
    }
}

impl Why {
    pub(super) fn is(&self, why: &Disconnect) -> bool {
        let is_same = match (self, why) {
            (Self::Exactly(want), why) => want == why,
            (Self::Join { .. }, Disconnect::Join(_))
            | (Self::Malformed, Disconnect::Malformed(_)) => true,
            _ => false,
        };
        is_same && self.is_permanent() == why.is_permanent()
    }

    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Exactly(Disconnect::KeyNeeded) => true,
            Self::Exactly(Disconnect::UpgradeRejected(rejection)) => {
                matches!(rejection.status, 301 | 403 | 404 | 426)
            }
            Self::Exactly(Disconnect::Closed(close)) => Says::is_final(close.code.0, &close.reason),
            Self::Join { is_permanent } => *is_permanent,
            Self::Exactly(_) | Self::Malformed => false,
        }
    }

    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Self::Exactly(Disconnect::Closed(close)) if close.code.0 == 4001)
    }
}
