//! A client as its documentation has it: what it must say to what happens.
//!
//! It keeps every envelope for ever and counts, it has no queue of outputs, and knows nothing of
//! jitter. What it cannot know (the delay of a reconnect, the payload of a ping, the moment at which
//! a pong is due) it checks against the bounds that are promised.

mod check;
mod link;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::client::{Disconnect, Event, Output, UpgradeRejection, WakeupReason};
use pinch_proto::{Address, Close, Time};

pub(super) use self::check::{Want, Why};
use super::relay::CHALLENGE_LIFETIME;
use super::script::Settings;

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Away {
        until: Time,
    },
    Dialing {
        since: Time,
        /// In attended time, as all that a pause does not bring about.
        until: Duration,
    },
    Joining {
        dialed_at: Time,
        until: Duration,
        step: Step,
    },
    Joined {
        since: Time,
    },
    Leaving {
        until: Duration,
        has_said_so: bool,
    },
    Ended,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Asked,
    Answering,
    Answered,
}

/// What a message of the relay is to a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    Challenge {
        may_be_signed: bool,
        is_permanent: bool,
    },
    Verdict {
        has_joined: bool,
        is_permanent: bool,
        /// Whether it is temporary once the challenge may have expired.
        may_be_late: bool,
    },
    /// An envelope, and whether a second one with the same bytes is a duplicate.
    Envelope {
        can_be_duplicate: bool,
    },
    NoEnvelope,
}

/// A ping that has no pong yet.
#[derive(Debug)]
struct Ping {
    payload: Bytes,
    is_taken: bool,
    /// A pong is due once the socket has taken it.
    is_heartbeat: bool,
}

/// What is known of a client.
#[derive(Debug)]
pub(super) struct Model {
    settings: Settings,
    pub(super) now: Time,
    /// How much time was attended: of the time between two calls, a step at most.
    attended: Duration,
    pub(super) phase: Phase,
    pub(super) address: Address,
    pub(super) accepted: Vec<Bytes>,
    pub(super) confirmed: usize,
    /// How many of the accepted ones were handed out on this link or confirmed before it.
    pub(super) sent: usize,
    covered: usize,
    ping: Option<Ping>,
    pub(super) pings: Vec<Bytes>,
    heartbeat_is_due: bool,
    next_ping: Time,
    /// By when there has to be a sign of life, in attended time.
    pong_due: Option<Duration>,
    /// Whether the driver waits to be woken.
    is_asleep: bool,
    stalls_at: Duration,
    /// How long the relay has asked to stay away.
    retry_after: Duration,
    pub(super) flush_until: Option<Duration>,
    tries: u32,
    remembered: VecDeque<Bytes>,
    pub(super) dropped: u64,
}

impl Model {
    pub(super) fn new(settings: &Settings, address: Address, now: Time) -> Self {
        Self {
            settings: settings.clone(),
            now,
            attended: Duration::ZERO,
            phase: Phase::Away { until: now },
            address,
            accepted: vec![],
            confirmed: 0,
            sent: 0,
            covered: 0,
            ping: None,
            pings: vec![],
            heartbeat_is_due: false,
            next_ping: now,
            pong_due: None,
            is_asleep: true,
            stalls_at: Duration::ZERO,
            retry_after: Duration::ZERO,
            flush_until: None,
            tries: 0,
            remembered: VecDeque::new(),
            dropped: 0,
        }
    }

    /// The client looks at the clock.
    pub(super) fn look(&mut self, now: Time) {
        self.attended += now.since(self.now).min(self.settings.step());
        self.now = self.now.max(now);
    }

    /// The end of a timeout that begins now, in attended time: two steps later than it says.
    fn after(&self, timeout: Duration) -> Duration {
        self.attended + timeout + 2 * self.settings.step()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the WebSocket is up.
    pub(super) fn has_link(&self) -> bool {
        matches!(
            self.phase,
            Phase::Joining { .. } | Phase::Joined { .. } | Phase::Leaving { .. }
        )
    }

    /// What was neither confirmed nor given back.
    pub(super) fn outbox(&self) -> &[Bytes] {
        if self.is_ended() {
            &[]
        } else {
            &self.accepted[self.confirmed..]
        }
    }

    pub(super) fn has_room_for(&self, len: usize) -> bool {
        let held: usize = self.outbox().iter().map(Bytes::len).sum();
        self.outbox().len() < self.settings.outbox_count && held + len <= self.settings.outbox_bytes
    }

    pub(super) fn submitted(&mut self, envelope: Bytes) -> Vec<Want> {
        self.accepted.push(envelope);
        self.wake()
    }

    pub(super) fn connected(&mut self) -> Vec<Want> {
        let Phase::Dialing { since, .. } = self.phase else {
            return vec![];
        };
        self.is_asleep = true;
        if self.settings.has_key {
            self.phase = Phase::Joining {
                dialed_at: since,
                until: self.after(self.settings.join_timeout),
                step: Step::Asked,
            };
            return vec![];
        }
        self.joined()
    }

    fn joined(&mut self) -> Vec<Want> {
        self.phase = Phase::Joined { since: self.now };
        self.next_ping = self.now + self.settings.heartbeat_interval;
        self.pong_due = None;
        self.heartbeat_is_due = false;
        let address = self.address.clone();
        let mut wants = vec![Want::Exactly(Output::Event(Event::Joined { address }))];
        wants.extend(self.wake());
        wants
    }

    pub(super) fn received(
        &mut self,
        message: &Bytes,
        meaning: Meaning,
        assigned: Option<&Address>,
    ) -> Vec<Want> {
        match self.phase {
            Phase::Joined { .. } | Phase::Leaving { .. } => self.heard(message, meaning),
            Phase::Joining {
                dialed_at,
                until,
                step,
            } => match (step, meaning) {
                (
                    Step::Asked,
                    Meaning::Challenge {
                        may_be_signed: true,
                        ..
                    },
                ) => {
                    self.phase = Phase::Joining {
                        dialed_at,
                        until,
                        step: Step::Answering,
                    };
                    self.wake()
                }
                (
                    Step::Answering | Step::Answered,
                    Meaning::Verdict {
                        has_joined: true, ..
                    },
                ) => {
                    self.address = assigned.cloned().expect("a welcome names an address");
                    self.joined()
                }
                (Step::Asked, Meaning::Challenge { is_permanent, .. }) => {
                    self.lose(Why::Join { is_permanent })
                }
                (
                    Step::Answering | Step::Answered,
                    Meaning::Verdict {
                        is_permanent,
                        may_be_late,
                        ..
                    },
                ) => {
                    let is_late = may_be_late && self.now.since(dialed_at) >= CHALLENGE_LIFETIME;
                    self.lose(Why::Join {
                        is_permanent: is_permanent && !is_late,
                    })
                }
                _ => self.lose(Why::Join {
                    is_permanent: false,
                }),
            },
            Phase::Away { .. } | Phase::Dialing { .. } | Phase::Ended => vec![],
        }
    }

    /// An envelope for somebody who has joined.
    fn heard(&mut self, message: &Bytes, meaning: Meaning) -> Vec<Want> {
        self.pong_due = None;
        let event = Want::Exactly(Output::Event(Event::Received(message.clone())));
        match meaning {
            Meaning::NoEnvelope => self.lose(Why::Malformed),
            Meaning::Challenge { .. } if !self.settings.has_key => {
                self.lose(Why::Exactly(Disconnect::KeyNeeded))
            }
            Meaning::Envelope {
                can_be_duplicate: true,
            } => {
                let Some(bound) = self.settings.remembered else {
                    return vec![event];
                };
                if self.remembered.contains(message) {
                    self.dropped += 1;
                    return vec![];
                }
                self.remembered.push_front(message.clone());
                self.remembered
                    .truncate(usize::try_from(bound).unwrap_or(usize::MAX));
                vec![event]
            }
            Meaning::Envelope { .. } | Meaning::Challenge { .. } | Meaning::Verdict { .. } => {
                vec![event]
            }
        }
    }

    pub(super) fn closed_by_peer(&mut self, close: Close) -> Vec<Want> {
        if self.has_link() {
            self.lose(Why::Exactly(Disconnect::Closed(close)))
        } else {
            vec![]
        }
    }

    pub(super) fn lose(&mut self, why: Why) -> Vec<Want> {
        let mut wants = vec![Want::Exactly(Output::Hangup)];
        wants.extend(self.disconnected(why));
        wants
    }

    pub(super) fn rejected(
        &mut self,
        rejection: UpgradeRejection,
        retry_after: Option<Duration>,
    ) -> Vec<Want> {
        let Phase::Dialing { .. } = self.phase else {
            return vec![];
        };
        let wants = self.disconnected(Why::Exactly(Disconnect::UpgradeRejected(rejection)));
        let hour = Duration::from_secs(3600);
        self.retry_after = retry_after.map_or(Duration::ZERO, |wait| wait.min(hour));
        wants
    }

    pub(super) fn disconnected(&mut self, why: Why) -> Vec<Want> {
        self.retry_after = Duration::ZERO;
        match self.phase {
            Phase::Away { .. } | Phase::Ended => return vec![],
            Phase::Leaving { .. } => return self.closed(),
            Phase::Joined { since } if self.now.since(since) >= self.settings.stable_after => {
                self.tries = 0;
            }
            Phase::Joined { .. } | Phase::Joining { .. } | Phase::Dialing { .. } => {}
        }
        self.forget_link();
        let may_retry =
            !why.is_permanent() || why.is_replaced() && self.settings.rejoin_when_replaced;
        if may_retry && self.settings.max_tries.is_none_or(|max| self.tries < max) {
            // Until when is found in the output.
            self.phase = Phase::Away { until: self.now };
            vec![Want::Disconnected(why)]
        } else {
            vec![Want::GaveUp(why)]
        }
    }

    fn forget_link(&mut self) {
        self.sent = self.confirmed;
        self.covered = self.confirmed;
        self.ping = None;
        self.pong_due = None;
        self.heartbeat_is_due = false;
        self.is_asleep = true;
    }

    pub(super) fn close(&mut self) -> Vec<Want> {
        if self.flush_until.is_some() || self.is_ended() {
            return vec![];
        }
        self.flush_until = Some(self.after(self.settings.close_timeout));
        if self.outbox().is_empty() {
            self.leave()
        } else {
            vec![]
        }
    }

    fn leave(&mut self) -> Vec<Want> {
        match self.phase {
            Phase::Joined { .. } => self.leave_if_joined(),
            Phase::Away { .. } => self.closed(),
            Phase::Dialing { .. } | Phase::Joining { .. } | Phase::Leaving { .. } => {
                let mut wants = vec![Want::Exactly(Output::Hangup)];
                wants.extend(self.closed());
                wants
            }
            Phase::Ended => vec![],
        }
    }

    fn leave_if_joined(&mut self) -> Vec<Want> {
        if !matches!(self.phase, Phase::Joined { .. }) {
            return vec![];
        }
        self.phase = Phase::Leaving {
            until: self.after(self.settings.close_timeout),
            has_said_so: false,
        };
        self.wake()
    }

    fn closed(&mut self) -> Vec<Want> {
        let unsent = self.outbox().to_vec();
        self.phase = Phase::Ended;
        vec![Want::Exactly(Output::Event(Event::Closed { unsent }))]
    }

    /// What is done when `reason` is due.
    pub(super) fn expired(&mut self, reason: WakeupReason) -> Vec<Want> {
        let lost = |disconnect| Why::Exactly(disconnect);
        match reason {
            WakeupReason::Dial => {
                self.tries += 1;
                self.phase = Phase::Dialing {
                    since: self.now,
                    until: self.after(self.settings.dial_timeout),
                };
                vec![Want::Exactly(Output::Dial)]
            }
            WakeupReason::Flush | WakeupReason::Close => self.leave(),
            WakeupReason::DialTimeout => self.lose(lost(Disconnect::DialTimeout)),
            WakeupReason::Join => self.lose(lost(Disconnect::JoinTimeout)),
            WakeupReason::Stall => self.lose(lost(Disconnect::Stalled)),
            WakeupReason::Pong => self.lose(lost(Disconnect::HeartbeatTimeout)),
            WakeupReason::Ping => {
                self.next_ping = self.now + self.settings.heartbeat_interval;
                let pong_due = self.after(self.settings.pong_timeout);
                match &mut self.ping {
                    None => self.heartbeat_is_due = true,
                    Some(ping) if ping.is_taken => drop(self.pong_due.get_or_insert(pong_due)),
                    Some(ping) => ping.is_heartbeat = true,
                }
                self.wake()
            }
            WakeupReason::Backlog | _ => vec![],
        }
    }
}
