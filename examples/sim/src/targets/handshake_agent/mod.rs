//! The agent's end of the handshake: what it signs, and what it believes.
//!
//! An input is a number of tries to join, each with a challenge and a verdict: those of an honest
//! relay, with one thing or another wrong. The judge is the protocol, read a second time: signed is
//! nothing but a nonce of 32 bytes for the host that the agent wants, and it believes in nothing
//! but its own address there.

mod messages;

use arbitrary::{Result, Unstructured};
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use pinch_proto::handshake::{Agent, AgentError, AwaitingResult, Relay};
use pinch_proto::wire::{AuthResponse, Envelope, Payload};
use pinch_proto::{Time, UnixMillis};
use prost::Message as _;

use self::messages::{ChallengeFault, VerdictFault, challenge_in, verdict_in};
use super::damage::Damage;
use super::parties::{self, AGENTS, HOSTS};
use super::{address, lines};

const MAX_TRIES: usize = 3;
const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);

/// Lets agents try to join.
///
/// # Panics
///
/// If one signs or believes what it should not, or the other way round.
pub fn run(data: &[u8]) {
    for attempt in read(data) {
        if let Err(broken) = attempt.make() {
            panic!("{broken}\n{attempt}");
        }
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    lines(read(data))
}

fn read(data: &[u8]) -> Vec<Attempt> {
    let mut input = Unstructured::new(data);
    let mut tries = vec![];
    while !input.is_empty() && tries.len() < MAX_TRIES {
        tries.extend(Attempt::read(&mut input));
    }
    tries
}

/// A try to join.
struct Attempt {
    agent: u8,
    /// The relay that the agent wants.
    wanted: &'static str,
    /// The relay that it gets.
    host: &'static str,
    nonce: u8,
    challenge_faults: Vec<ChallengeFault>,
    challenge_damage: Vec<Damage>,
    verdict_faults: Vec<VerdictFault>,
    verdict_damage: Vec<Damage>,
}

impl Attempt {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        let agent = input.int_in_range(0..=AGENTS - 1)?;
        let wanted = *input.choose(&HOSTS)?;
        let host = if input.ratio(1, 4)? {
            input.choose(&HOSTS)?
        } else {
            wanted
        };
        let nonce = input.int_in_range(0..=3)?;
        let count = input.int_in_range(0..=4)?;
        let challenge_faults = (2..count).map(|_| ChallengeFault::read(input));
        let challenge_faults = challenge_faults.collect::<Result<_>>()?;
        let challenge_damage = Damage::several(input);
        let count = input.int_in_range(0..=4)?;
        let verdict_faults = (2..count).map(|_| VerdictFault::read(input));
        Ok(Self {
            agent,
            wanted,
            host,
            nonce,
            challenge_faults,
            challenge_damage,
            verdict_faults: verdict_faults.collect::<Result<_>>()?,
            verdict_damage: Damage::several(input),
        })
    }

    fn make(&self) -> core::result::Result<(), String> {
        let relay = self.relay();
        let mut challenge = relay.challenge();
        for fault in &self.challenge_faults {
            challenge = fault.changed(challenge);
        }
        let challenge = damaged(&challenge, &self.challenge_damage);

        let agent = Agent::new(
            parties::key_of(self.agent).clone(),
            parties::host(self.wanted),
        );
        match agent.handle_challenge(&challenge, UNIX) {
            Ok((response, awaiting)) => {
                self.check_signed(&challenge, &response)?;
                self.check_admitted(relay, &challenge, &response)?;
                self.hear_verdict(awaiting)
            }
            Err(error) => self.check_unsigned(&error, &challenge),
        }
    }

    fn relay(&self) -> Relay {
        let timeout = Duration::from_secs(10);
        let host = parties::host(self.host);
        Relay::new(host, timeout, [self.nonce; 32], Time::ZERO, UNIX)
    }

    /// Whether a challenge may be signed.
    fn may_sign(&self, challenge: &Bytes) -> bool {
        challenge_in(challenge).is_some_and(|challenge| {
            challenge.version == 1
                && challenge.nonce.len() == 32
                && is_same_host(&challenge.relay_host, self.wanted)
                && challenge.expires_at_ms > challenge.issued_at_ms
        })
    }

    fn check_signed(&self, message: &Bytes, response: &Bytes) -> core::result::Result<(), String> {
        let challenge = challenge_in(message).filter(|_| self.may_sign(message));
        let Some(challenge) = challenge else {
            return Err(format!("signed {message:02x?}"));
        };
        let signed = parties::to_be_signed(&challenge.relay_host, &challenge.nonce);
        let signature = parties::signature_of(self.agent, signed);
        let expected = Envelope {
            version: 1,
            r#type: 3,
            timestamp: UNIX.0,
            payload: Some(Payload::AuthResponse(AuthResponse {
                version: 1,
                public_key: Bytes::from_static(parties::public_key_of(self.agent)),
                signature: Bytes::copy_from_slice(signature.as_bytes()),
                nonce: challenge.nonce,
            })),
            ..Envelope::default()
        };
        let answered = Envelope::decode(response.clone());
        (answered.as_ref() == Ok(&expected))
            .then_some(())
            .ok_or_else(|| format!("{answered:?}, expected {expected:?}"))
    }

    /// What an agent signs, the relay that asked for it accepts, and no other one.
    fn check_admitted(
        &self,
        relay: Relay,
        challenge: &Bytes,
        response: &Bytes,
    ) -> core::result::Result<(), String> {
        let is_as_asked = challenge_in(challenge).is_some_and(|challenge| {
            challenge.nonce == vec![self.nonce; 32]
                && challenge.relay_host == parties::lower(self.host)
        });
        let verdict = relay
            .handle_message(response, Time::ZERO)
            .and_then(pinch_proto::handshake::Claim::verify);
        (verdict.is_ok() == is_as_asked)
            .then_some(())
            .ok_or_else(|| format!("{verdict:?}, although as asked is {is_as_asked}"))
    }

    fn check_unsigned(
        &self,
        error: &AgentError,
        message: &Bytes,
    ) -> core::result::Result<(), String> {
        let decoded = Envelope::decode(message.clone());
        let challenge = challenge_in(message);
        let wanted = self.wanted;
        let is_true = match error {
            AgentError::Malformed(_) => decoded.is_err(),
            AgentError::WrongType { type_number, .. } => {
                *type_number != 2 && decoded.map_or(true, |it| it.r#type == *type_number)
            }
            AgentError::MalformedPayload { .. } => challenge.is_none(),
            AgentError::WrongVersion { version } => {
                *version != 1 && challenge.is_some_and(|it| it.version == *version)
            }
            AgentError::WrongNonceLength { len } => {
                *len != 32 && challenge.is_some_and(|it| it.nonce.len() == *len)
            }
            AgentError::WrongHost { expected, found } => {
                expected.as_str() == parties::lower(wanted)
                    && challenge.is_some_and(|it| it.relay_host == *found)
                    && !is_same_host(found, wanted)
            }
            AgentError::Expired => challenge.is_some_and(|it| it.expires_at_ms <= it.issued_at_ms),
            AgentError::Refused { .. } | AgentError::WrongAddress { .. } | _ => false,
        };
        (is_true && !self.may_sign(message) && is_permanent(error) == error.is_permanent())
            .then_some(())
            .ok_or_else(|| format!("{error:?}, but that is not so: {message:02x?}"))
    }

    fn hear_verdict(&self, awaiting: AwaitingResult) -> core::result::Result<(), String> {
        let own = address::address_of(parties::public_key_of(self.agent), self.host);
        let mut verdict = messages::success(&own);
        for fault in &self.verdict_faults {
            verdict = fault.changed(verdict, &own);
        }
        let message = damaged(&verdict, &self.verdict_damage);

        let decoded = Envelope::decode(message.clone());
        let result = verdict_in(&message);
        let believable = result
            .clone()
            .filter(|it| it.success && self.is_own(&it.assigned_address))
            .map(|_| {
                let key = parties::public_key_of(self.agent);
                address::address_of(key, parties::lower(self.wanted))
            });
        let is_true = match awaiting.handle_result(&message, Duration::ZERO) {
            Ok(address) => Some(address.as_str()) == believable.as_deref(),
            Err(error) if is_permanent(&error) != error.is_permanent() => false,
            Err(AgentError::Malformed(_)) => decoded.is_err(),
            Err(AgentError::WrongType { type_number, .. }) => {
                type_number != 9 && decoded.map_or(true, |it| it.r#type == type_number)
            }
            Err(AgentError::MalformedPayload { .. }) => result.is_none(),
            Err(AgentError::Refused { reason }) => {
                result.is_some_and(|it| !it.success && it.error_message == reason)
            }
            Err(AgentError::WrongAddress { found, .. }) => {
                believable.is_none()
                    && result.is_some_and(|it| it.success && it.assigned_address == found)
            }
            Err(_) => false,
        };
        is_true
            .then_some(())
            .ok_or_else(|| format!("the wrong end of a join: {message:02x?}"))
    }

    /// Whether an address is this agent's own at the relay that it wants, in any case of the host.
    fn is_own(&self, assigned: &str) -> bool {
        let own = address::address_of(parties::public_key_of(self.agent), self.wanted);
        let parts = assigned.rsplit_once('@').zip(own.rsplit_once('@'));
        parts.is_some_and(|((name, host), (own_name, own_host))| {
            name == own_name && is_same_host(host, own_host)
        })
    }
}

/// Hosts are the same in whatever case they are written.
fn is_same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn damaged(message: &Bytes, damage: &[Damage]) -> Bytes {
    let damaged = damage
        .iter()
        .fold(message.to_vec(), |bytes, it| it.applied(bytes));
    damaged.into()
}

/// Whether a person has to do something before trying again makes sense.
fn is_permanent(error: &AgentError) -> bool {
    let is_other = matches!(
        error,
        AgentError::WrongVersion { .. }
            | AgentError::WrongHost { .. }
            | AgentError::WrongAddress { .. }
    );
    let of_key = ["authentication failed", "key not registered"];
    is_other || matches!(error, AgentError::Refused { reason } if of_key.contains(&reason.as_str()))
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "agent {} wants {}, is asked by {} with nonce {}",
            self.agent, self.wanted, self.host, self.nonce
        )?;
        for fault in &self.challenge_faults {
            write!(f, ", {fault:?}")?;
        }
        for damage in &self.challenge_damage {
            write!(f, ", {damage}")?;
        }
        write!(f, "; then it hears that it has joined")?;
        for fault in &self.verdict_faults {
            write!(f, ", {fault:?}")?;
        }
        for damage in &self.verdict_damage {
            write!(f, ", {damage}")?;
        }
        Ok(())
    }
}
