//! The relay's end of the handshake: whoever proves a key in time is admitted, and nobody else.
//!
//! An input is a story of a relay that asks up to four agents at once who they are, and hears right
//! answers and wrong ones, answers to other challenges, and late ones, while its two clocks go as
//! they please. The judge is the protocol, read a second time; since all keys of this world are
//! known, it needs no verification of signatures (see `parties::has_signed`).

mod answers;
mod verdict;

use core::fmt;
use core::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use pinch_proto::handshake::{Claim, Refusal, Relay};
use pinch_proto::wire::{Envelope, Payload};
use pinch_proto::{Time, UnixMillis};
use prost::Message as _;

use self::answers::Answer;
use self::verdict::Challenge;
use super::parties::{self, HOSTS};
use super::{address, lines, steps};

const MAX_STEPS: usize = 16;
const SESSIONS: u8 = 4;

/// Lets a relay hear answers.
///
/// # Panics
///
/// If somebody is admitted who should not be, or the other way round.
pub fn run(data: &[u8]) {
    let script = Script::read(data);
    let mut world = World::new(script.host);
    for (at, step) in script.steps.iter().enumerate() {
        if let Err(broken) = world.step(step) {
            panic!("{broken}\n{}", lines(&script.steps[..=at]));
        }
    }
    if let Err(broken) = world.verify_all() {
        panic!("{broken}\n{}", lines(&script.steps));
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let script = Script::read(data);
    lines([format!("the relay is {}", script.host)]) + &lines(&script.steps)
}

struct Script {
    host: &'static str,
    steps: Vec<Step>,
}

/// Something that happens to the relay.
enum Step {
    Ask {
        session: u8,
        nonce: u8,
        timeout: Duration,
    },
    Answer {
        session: u8,
        answer: Answer,
    },
    /// A message that came before comes again.
    Replay {
        session: u8,
        message: usize,
    },
    Wait {
        monotonic: Duration,
        wall_ms: i64,
    },
    /// The monotonic clock goes on until just before the deadline, or until it, or just behind.
    WaitForDeadline {
        session: u8,
        offset: u64,
    },
    TimeOut {
        session: u8,
    },
    Verify,
}

impl Script {
    fn read(data: &[u8]) -> Self {
        let mut input = Unstructured::new(data);
        let host = input.choose(&HOSTS).copied().unwrap_or(HOSTS[0]);
        let steps = steps(&mut input, MAX_STEPS, Step::read);
        Self { host, steps }
    }
}

impl Step {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let kind = input.int_in_range(0..=9)?;
        let session = input.int_in_range(0..=SESSIONS - 1)?;
        Ok(match kind {
            0 | 1 => Self::Ask {
                session,
                nonce: input.int_in_range(0..=3)?,
                // The machines' clock ends after 584 years; all of these together end before.
                timeout: Duration::from_millis(*input.choose(&[10_000, 10_000, 1, 0, 1 << 36])?),
            },
            2..=4 => Self::Answer {
                session,
                answer: Answer::read(input)?,
            },
            5 => Self::Replay {
                session,
                message: input.int_in_range(0..=7)?,
            },
            6 => Self::Wait {
                monotonic: Duration::from_millis(*input.choose(&[0, 1, 9_999, 10_000, 1 << 36])?),
                wall_ms: *input.choose(&[0, 1, 9_999, 10_000, 10_001, -5_000, 1 << 36])?,
            },
            7 => Self::WaitForDeadline {
                session,
                offset: input.int_in_range(0..=2)?,
            },
            8 => Self::TimeOut { session },
            _ => Self::Verify,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask {
                session,
                nonce,
                timeout,
            } => write!(f, "{session}: asks with nonce {nonce}, for {timeout:?}"),
            Self::Answer { session, answer } => {
                write!(f, "{session}: agent {} answers", answer.agent)?;
                for fault in &answer.faults {
                    write!(f, ", {fault:?}")?;
                }
                for damage in &answer.damage {
                    write!(f, ", {damage}")?;
                }
                Ok(())
            }
            Self::Replay { session, message } => {
                write!(f, "{session}: message {message} comes again")
            }
            Self::Wait { monotonic, wall_ms } => {
                write!(f, "{monotonic:?} pass, {wall_ms} ms on the wall clock")
            }
            Self::WaitForDeadline { session, offset } => {
                let when = ["a nanosecond before", "at", "a nanosecond after"];
                let when = when.get(usize::try_from(*offset).unwrap_or(0));
                write!(f, "it is {} the deadline of {session}", when.unwrap_or(&""))
            }
            Self::TimeOut { session } => write!(f, "{session}: is its time over?"),
            Self::Verify => f.write_str("the oldest signature is verified"),
        }
    }
}

/// A relay that asks several agents at once.
struct World {
    host: &'static str,
    now: Time,
    unix: UnixMillis,
    sessions: [Option<(Relay, Challenge)>; SESSIONS as usize],
    /// What was well-formed, and whether it is proven.
    claims: Vec<(Claim, Challenge, Bytes)>,
    messages: Vec<Bytes>,
}

impl World {
    fn new(host: &'static str) -> Self {
        Self {
            host,
            now: Time::from_nanos(5_000_000_000),
            unix: UnixMillis(1_700_000_000_000),
            sessions: [const { None }; SESSIONS as usize],
            claims: vec![],
            messages: vec![],
        }
    }

    fn step(&mut self, step: &Step) -> core::result::Result<(), String> {
        match step {
            Step::Ask {
                session,
                nonce,
                timeout,
            } => self.ask(*session, *nonce, *timeout),
            Step::Answer { session, answer } => {
                let Some((_, challenge)) = &self.sessions[usize::from(*session)] else {
                    return Ok(());
                };
                let message = answer.message(challenge.host, challenge.nonce);
                self.messages.push(message.clone());
                self.hear(*session, &message)
            }
            Step::Replay { session, message } => match self.messages.get(*message).cloned() {
                Some(message) => self.hear(*session, &message),
                None => Ok(()),
            },
            Step::Wait { monotonic, wall_ms } => {
                self.now = self.now + *monotonic;
                self.unix = UnixMillis(self.unix.0.saturating_add(*wall_ms));
                Ok(())
            }
            Step::WaitForDeadline { session, offset } => {
                if let Some((relay, _)) = &mut self.sessions[usize::from(*session)] {
                    let nanos = relay.timeout().wakeup().as_nanos();
                    let at = Time::from_nanos(nanos.saturating_add(*offset).saturating_sub(1));
                    self.now = self.now.max(at);
                }
                Ok(())
            }
            Step::TimeOut { session } => self.time_out(*session),
            Step::Verify if self.claims.is_empty() => Ok(()),
            Step::Verify => {
                let (claim, challenge, message) = self.claims.remove(0);
                verify(claim, &challenge, &message)
            }
        }
    }

    fn ask(
        &mut self,
        session: u8,
        nonce: u8,
        timeout: Duration,
    ) -> core::result::Result<(), String> {
        let host = parties::host(self.host);
        let relay = Relay::new(host, timeout, [nonce; 32], self.now, self.unix);
        let challenge = Challenge {
            host: parties::lower(self.host),
            nonce,
            looked_at: self.now,
            attended: Duration::ZERO,
            asked_at_unix: self.unix,
            timeout,
        };
        let decoded = Envelope::decode(relay.challenge()).ok();
        if decoded.as_ref() != Some(&challenge.envelope()) {
            return Err(format!("asked {decoded:?}, not {:?}", challenge.envelope()));
        }
        self.sessions[usize::from(session)] = Some((relay, challenge));
        Ok(())
    }

    fn hear(&mut self, session: u8, message: &Bytes) -> core::result::Result<(), String> {
        let Some((relay, mut challenge)) = self.sessions[usize::from(session)].take() else {
            return Ok(());
        };
        challenge.look(self.now);
        let is_good = challenge.is_answered_by(message);
        match relay.handle_message(message, self.now) {
            Ok(claim) if is_good => {
                self.claims.push((claim, challenge, message.clone()));
                Ok(())
            }
            Err(refusal) if !is_good => {
                challenge.check_refusal(&refusal, message)?;
                check_words(&refusal, self.unix)
            }
            other => Err(format!(
                "{other:?}, although good is {is_good}: {message:02x?}"
            )),
        }
    }

    fn time_out(&mut self, session: u8) -> core::result::Result<(), String> {
        let place = &mut self.sessions[usize::from(session)];
        let Some((relay, challenge)) = place else {
            return Ok(());
        };
        challenge.look(self.now);
        let (is_over, wakeup) = (relay.timeout().is_over(self.now), relay.timeout().wakeup());
        if (is_over, wakeup) != (challenge.is_over(), challenge.wakeup()) {
            return Err(format!("over {is_over} at {:?}, then {wakeup:?}", self.now));
        }
        if is_over {
            *place = None;
            check_words(&Refusal::TimedOut, self.unix)?;
        }
        Ok(())
    }

    fn verify_all(&mut self) -> core::result::Result<(), String> {
        self.claims
            .drain(..)
            .try_for_each(|(claim, challenge, message)| verify(claim, &challenge, &message))
    }
}

fn verify(
    claim: Claim,
    challenge: &Challenge,
    message: &Bytes,
) -> core::result::Result<(), String> {
    let key = *claim.public_key().as_bytes();
    let is_proven = challenge.is_proven_by(message);
    match claim.verify() {
        Ok(proof) if is_proven => {
            let address = address::address_of(&key, challenge.host);
            let is_right = proof.public_key().as_bytes() == &key
                && proof.address().as_str() == address
                && proof.into_address().as_str() == address;
            is_right.then_some(()).ok_or("another address".into())
        }
        Err(refusal @ Refusal::WrongSignature { key: refused })
            if !is_proven && refused.as_bytes() == &key =>
        {
            check_words(&refusal, challenge.asked_at_unix)
        }
        other => Err(format!(
            "{other:?}, although proven is {is_proven}: {message:02x?}"
        )),
    }
}

/// What the relay says to those that it refuses: what clients match on, and no more.
fn check_words(refusal: &Refusal, unix: UnixMillis) -> core::result::Result<(), String> {
    let said = refusal.auth_result(unix).map(|bytes| {
        Envelope::decode(bytes)
            .ok()
            .and_then(|envelope| envelope.payload)
    });
    let is_right = match (refusal, said) {
        (Refusal::TimedOut, said) => said.is_none(),
        (_, Some(Some(Payload::AuthResult(result)))) => {
            !result.success
                && result.error_message == "authentication failed"
                && result.assigned_address.is_empty()
        }
        _ => false,
    };
    let is_malformed = matches!(refusal, Refusal::Malformed(_) | Refusal::MalformedPayload);
    let code = if is_malformed { 1007 } else { 1008 };
    (is_right && refusal.close().code.0 == code)
        .then_some(())
        .ok_or_else(|| format!("{refusal:?} is told as {:?}", refusal.close()))
}
