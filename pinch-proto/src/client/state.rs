//! Where a client stands, and the way from one state to the next.

use alloc::borrow::Cow;
use core::mem;
use core::time::Duration;

use bytes::Bytes;

use super::heartbeat::Heartbeat;
use super::io::{Disconnect, Event, Output, UpgradeRejection};
use super::{Client, Identity};
use crate::attended::AttendedTime;
use crate::handshake::{Agent, AgentError, AwaitingResult};
use crate::wire::MessageType;
use crate::{Address, Close, CloseCode, EnvelopeView, Time};

/// ```text
///             Dial            Connected               AUTH_RESULT
///  Waiting ─────────► Dialing ─────────────► Joining ─────────────► Joined
///   ▲   ▲                │ │  in open mode   │   │                   │ │
///   │   │   it failed    │ └─────────────────┼───┼────────────────►  │ │
///   │   └────────────────┴───────────────────┘   │                   │ │
///   │                     the link is lost       │                   │ │
///   └────────────────────────────────────────────┼───────────────────┘ │
///                                                │                     │ Close, and all is
///         no more tries, a permanent failure,    │                     │ confirmed or late
///         Close without a join                   ▼                     ▼
///  any ───────────────────────────────────────► Ended ◄──────────── Leaving
/// ```
#[derive(Debug)]
pub(super) enum State {
    /// There is no link until then.
    Waiting {
        until: Time,
    },
    /// A link is asked for.
    Dialing {
        since: Time,
        deadline: AttendedTime,
    },
    Joining(Joining),
    Joined(Joined),
    Leaving(Leaving),
    /// The last event was said.
    Ended,
}

/// A link on which the handshake goes on.
#[derive(Debug)]
pub(super) struct Joining {
    /// When the dial began, before which the relay has not issued its challenge.
    pub(super) dialed_at: Time,
    pub(super) link: Link,
    pub(super) step: Step,
    pub(super) deadline: AttendedTime,
}

/// How far the handshake is.
#[derive(Debug)]
pub(super) enum Step {
    AwaitingChallenge,
    /// `response` waits to be handed out.
    AwaitingResult {
        awaiting: AwaitingResult,
        response: Option<Bytes>,
    },
}

/// A link on which envelopes flow.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) link: Link,
    pub(super) heartbeat: Heartbeat,
    pub(super) since: Time,
}

/// A link that is being closed. Envelopes still come in, and pongs.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) link: Link,
    pub(super) heartbeat: Heartbeat,
    /// The close frame waits to be handed out.
    pub(super) farewell: Option<Close>,
    pub(super) deadline: AttendedTime,
}

/// Longest wait that a relay's `Retry-After` can cause. Maintenance pages ask for less; more is more
/// likely a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Whose turn it is to write.
///
/// ```text
///             Wake
///  Asleep ─────────────► Writing ◄┐
///    ▲                     │  │   │ Writable that gets something
///    └─────────────────────┘  └───┘
///     Writable that gets nothing
/// ```
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The driver waits for [`Output::Wake`].
    Asleep,
    /// The driver owes a `Writable`.
    Writing { stalls_at: AttendedTime },
}

impl State {
    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match self {
            Self::Joining(Joining { link, .. })
            | Self::Joined(Joined { link, .. })
            | Self::Leaving(Leaving { link, .. }) => Some(link),
            Self::Waiting { .. } | Self::Dialing { .. } | Self::Ended => None,
        }
    }

    pub(super) fn heartbeat_mut(&mut self) -> Option<&mut Heartbeat> {
        match self {
            Self::Joined(Joined { heartbeat, .. }) | Self::Leaving(Leaving { heartbeat, .. }) => {
                Some(heartbeat)
            }
            Self::Waiting { .. } | Self::Dialing { .. } | Self::Joining(_) | Self::Ended => None,
        }
    }
}

impl Client {
    pub(super) fn dial(&mut self) {
        self.backoff.count_try();
        self.state = State::Dialing {
            since: self.now,
            deadline: self.attended.deadline(self.config.dial_timeout),
        };
        self.outputs.push_back(Output::Dial);
    }

    pub(super) fn connected(&mut self) {
        let State::Dialing { since, .. } = self.state else {
            return;
        };
        match &self.identity {
            Identity::Key { .. } => {
                self.state = State::Joining(Joining {
                    dialed_at: since,
                    link: Link::Asleep,
                    step: Step::AwaitingChallenge,
                    deadline: self.attended.deadline(self.config.join_timeout),
                });
            }
            Identity::Name(address) => self.joined(address.clone(), Link::Asleep),
        }
    }

    fn joined(&mut self, address: Address, link: Link) {
        self.address = address.clone();
        self.state = State::Joined(Joined {
            link,
            heartbeat: Heartbeat::new(
                self.config.heartbeat_interval,
                self.config.pong_timeout,
                self.now,
            ),
            since: self.now,
        });
        self.event(Event::Joined { address });
        self.wake();
    }

    pub(super) fn receive(&mut self, message: Bytes) {
        if let Some(heartbeat) = self.state.heartbeat_mut() {
            heartbeat.alive();
            match EnvelopeView::parse(&message) {
                Ok(view) if self.is_challenge_in_open_mode(&view) => {
                    self.lose(Disconnect::KeyNeeded);
                }
                Ok(view) => {
                    // Remembered is what goes to the user now: events outlive the link.
                    let seen = self.seen.as_mut();
                    if seen.is_none_or(|seen| seen.is_new(&view, &message)) {
                        self.event(Event::Received(message));
                    } else {
                        self.dropped_duplicates += 1;
                    }
                }
                Err(error) => self.lose(Disconnect::Malformed(error)),
            }
        } else if let Err(error) = self.continue_join(&message) {
            self.lose(Disconnect::Join(error));
        }
    }

    fn is_challenge_in_open_mode(&self, view: &EnvelopeView<'_>) -> bool {
        matches!(self.identity, Identity::Name(_))
            && view.message_type() == Some(MessageType::AuthChallenge)
    }

    fn continue_join(&mut self, message: &[u8]) -> Result<(), AgentError> {
        let unix = self.unix();
        let (State::Joining(joining), Identity::Key { secret, host }) =
            (&mut self.state, &self.identity)
        else {
            return Ok(());
        };
        match mem::replace(&mut joining.step, Step::AwaitingChallenge) {
            Step::AwaitingChallenge => {
                let agent = Agent::new(secret.clone(), host.clone());
                let (response, awaiting) = agent.handle_challenge(message, unix)?;
                joining.step = Step::AwaitingResult {
                    awaiting,
                    response: Some(response),
                };
                self.wake();
            }
            Step::AwaitingResult { awaiting, .. } => {
                let elapsed = self.now.since(joining.dialed_at);
                let address = awaiting.handle_result(message, elapsed)?;
                let link = mem::replace(&mut joining.link, Link::Asleep);
                self.joined(address, link);
            }
        }
        Ok(())
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        let is_marker = self
            .state
            .heartbeat_mut()
            .is_some_and(|heartbeat| heartbeat.pong(payload));
        if !is_marker {
            return;
        }
        if self.outbox.confirm() {
            self.outputs.push_back(Output::Confirmed {
                total: self.outbox.confirmed(),
            });
        }
        if matches!(self.state, State::Joined(_))
            && self.flush_until.is_some()
            && self.outbox.is_empty()
        {
            self.leave();
        }
        self.wake();
    }

    pub(super) fn peer_closed(&mut self, close: Close) {
        if self.state.link_mut().is_some() {
            self.lose(Disconnect::Closed(close));
        }
    }

    pub(super) fn disconnected(&mut self, why: Cow<'static, str>) {
        self.end_link(Disconnect::Link(why), Duration::ZERO);
    }

    pub(super) fn upgrade_rejected(
        &mut self,
        rejection: UpgradeRejection,
        retry_after: Option<Duration>,
    ) {
        if let State::Dialing { .. } = self.state {
            let wait = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
            self.end_link(Disconnect::UpgradeRejected(rejection), wait);
        }
    }

    /// Gives the link up: drops it, and decides what comes next.
    pub(super) fn lose(&mut self, why: Disconnect) {
        if self.has_link() {
            self.outputs.push_back(Output::Hangup);
        }
        self.end_link(why, Duration::ZERO);
    }

    /// There is no link any more: try again after `wait` and the backoff, or end.
    fn end_link(&mut self, why: Disconnect, wait: Duration) {
        if !self.has_link() {
            return;
        }
        self.outbox.rewind();
        if let State::Leaving(_) = self.state {
            return self.end_closed();
        }
        if let State::Joined(joined) = &self.state
            && self.now.since(joined.since) >= self.config.stable_after
        {
            self.backoff.reset();
        }
        let may_retry =
            !why.is_permanent() || (why.is_replaced() && self.config.rejoin_when_replaced);
        match self.backoff.next_delay().filter(|_| may_retry) {
            Some(delay) => {
                let wait = wait.max(why.retry_after().unwrap_or_default());
                let retry_at = self.now + wait + delay;
                self.state = State::Waiting { until: retry_at };
                self.event(Event::Disconnected { why, retry_at });
            }
            None => {
                self.state = State::Ended;
                let unsent = self.outbox.take();
                self.event(Event::GaveUp { why, unsent });
            }
        }
    }

    /// Whether there is a link, or one is asked for.
    const fn has_link(&self) -> bool {
        !matches!(self.state, State::Waiting { .. } | State::Ended)
    }

    pub(super) fn close(&mut self) {
        if self.flush_until.is_none() && !self.is_ended() {
            self.flush_until = Some(self.attended.deadline(self.config.close_timeout));
            if self.outbox.is_empty() {
                self.leave();
            }
        }
    }

    /// Waits no longer: says goodbye if joined, else ends at once.
    pub(super) fn leave(&mut self) {
        match mem::replace(&mut self.state, State::Ended) {
            State::Joined(Joined {
                link, heartbeat, ..
            }) => {
                self.state = State::Leaving(Leaving {
                    link,
                    heartbeat,
                    farewell: Some(Close::new(CloseCode::NORMAL, "")),
                    deadline: self.attended.deadline(self.config.close_timeout),
                });
                self.wake();
            }
            State::Dialing { .. } | State::Joining(_) | State::Leaving(_) => {
                self.outputs.push_back(Output::Hangup);
                self.end_closed();
            }
            State::Waiting { .. } => self.end_closed(),
            State::Ended => {}
        }
    }

    fn end_closed(&mut self) {
        self.state = State::Ended;
        let unsent = self.outbox.take();
        self.event(Event::Closed { unsent });
    }
}
