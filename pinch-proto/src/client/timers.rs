//! The one timer of a client: what is due next, and what happens then.

use super::Client;
use super::io::{Disconnect, Wakeup, WakeupReason};
use super::state::{Link, State};
use crate::Time;
use crate::attended::AttendedTime;

impl Client {
    pub(super) fn next_wakeup(&self) -> Option<Wakeup> {
        if !self.outputs.is_empty() {
            return Some(Wakeup {
                at: self.now,
                reason: WakeupReason::Backlog,
            });
        }
        self.next_deadline()
    }

    /// Does the first of what is due. If more is, the wake-up after it is due as well.
    pub(super) fn expire(&mut self) {
        let Some(Wakeup { reason, .. }) = self.next_deadline().filter(|due| due.at <= self.now)
        else {
            return;
        };
        match reason {
            WakeupReason::Flush | WakeupReason::Close => self.leave(),
            WakeupReason::Dial => self.dial(),
            WakeupReason::DialTimeout => self.lose(Disconnect::DialTimeout),
            WakeupReason::Join => self.lose(Disconnect::JoinTimeout),
            WakeupReason::Stall => self.lose(Disconnect::Stalled),
            WakeupReason::Pong => self.lose(Disconnect::HeartbeatTimeout),
            WakeupReason::Ping => {
                if let Some(heartbeat) = self.state.heartbeat_mut() {
                    heartbeat.tick(self.now, &self.attended);
                }
                self.wake();
            }
            WakeupReason::Backlog => {}
        }
    }

    fn next_deadline(&self) -> Option<Wakeup> {
        let at = |at: Time, reason| Wakeup { at, reason };
        let by =
            |deadline: AttendedTime, reason| at(self.attended.wakeup(deadline, self.now), reason);
        let first = match &self.state {
            State::Waiting { until } => at(*until, WakeupReason::Dial),
            State::Dialing { deadline, .. } => by(*deadline, WakeupReason::DialTimeout),
            State::Joining(joining) => by(joining.deadline, WakeupReason::Join),
            State::Joined(joined) => {
                let mut first = at(joined.heartbeat.next_at(), WakeupReason::Ping);
                if let Link::Writing { stalls_at } = joined.link {
                    first = first.min(by(stalls_at, WakeupReason::Stall));
                }
                if let Some(deadline) = joined.heartbeat.deadline() {
                    first = first.min(by(deadline, WakeupReason::Pong));
                }
                first
            }
            State::Leaving(leaving) => return Some(by(leaving.deadline, WakeupReason::Close)),
            State::Ended => return None,
        };
        let flush = self.flush_until.map(|until| by(until, WakeupReason::Flush));
        Some(flush.map_or(first, |flush| flush.min(first)))
    }
}
