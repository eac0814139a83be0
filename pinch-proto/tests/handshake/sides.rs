//! Keys, hosts and answers that are right, and ways to change them.

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::handshake::{Agent, AgentError, AwaitingResult, Refusal, Relay};
use pinch_proto::wire::{
    AuthChallenge, AuthResponse, AuthResult, Envelope, Heartbeat, MessageType, Payload,
};
use pinch_proto::{Address, Host, SecretKey, Time, UnixMillis};
use prost::Message as _;

pub(crate) const HOST: &str = "test.relay.example.com";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const START: Time = Time::from_nanos(5_000_000_000);
pub(crate) const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);

/// Seed, address at [`HOST`], and signature over the challenge with [`nonce`]; the signatures were
/// made with another implementation of Ed25519.
pub(crate) const VECTORS: [(&str, &str, &str); 3] = [
    (
        "0000000000000000000000000000000000000000000000000000000000000001",
        "pinch:anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn@test.relay.example.com",
        "12313d8d2f500c201cba3d3c5118f658a7b16e693bc9614acec89d3169cd7116f3fe19705ed882982e5bc8a0003e2e052ae6a2e1a59bcd1bdcf1b6ad596c4c0f",
    ),
    (
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@test.relay.example.com",
        "836f65d50bc32796d13631dbe7c7d93f0087c55a3ae20e7bf0e63dbac0aa480f338c80bc737a4bc4f0f1ecaea82eb794a147c2c4af3c4c7ae9d097fe4f9acd02",
    ),
    (
        "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        "pinch:2wTMAXNcBzkfwvmYVyWVNpLkMdTCzdmYrAZkREHx8EVaL6L3ur@test.relay.example.com",
        "9bdb8e98144f3caf6b7c7c59aa2321158689748147504045da8ddb07e846692ff7cdecba1942cfa93235cd92f2fa79b9276c56bf0a5c5bf26f7a648691870108",
    ),
];

pub(crate) fn nonce() -> [u8; 32] {
    core::array::from_fn(|at| u8::try_from(at).unwrap())
}

pub(crate) fn host() -> Host {
    Host::parse(HOST).unwrap()
}

pub(crate) fn key() -> SecretKey {
    SecretKey::from_seed([0xaa; 32])
}

pub(crate) fn relay() -> Relay {
    Relay::new(host(), TIMEOUT, nonce(), START, UNIX)
}

pub(crate) fn agent() -> Agent {
    Agent::new(key(), host())
}

pub(crate) fn hex<const N: usize>(text: &str) -> [u8; N] {
    core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

pub(crate) fn good_challenge() -> AuthChallenge {
    match Envelope::decode(relay().challenge()).unwrap().payload {
        Some(Payload::AuthChallenge(challenge)) => challenge,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn good_response() -> AuthResponse {
    response_to(&relay().challenge())
}

pub(crate) fn response_to(challenge: &[u8]) -> AuthResponse {
    let (response, _) = agent().handle_challenge(challenge, UNIX).unwrap();
    match Envelope::decode(response).unwrap().payload {
        Some(Payload::AuthResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn envelope(payload: Payload) -> Bytes {
    Envelope::from_relay(payload, UNIX).to_bytes()
}

pub(crate) fn awaiting() -> AwaitingResult {
    agent()
        .handle_challenge(&relay().challenge(), UNIX)
        .unwrap()
        .1
}

/// What the relay makes of an answer at the moment when it asked.
pub(crate) fn judge(message: &[u8]) -> Result<Address, Refusal> {
    let proof = relay().handle_message(message, START)?.verify()?;
    Ok(proof.into_address())
}

pub(crate) fn judge_changed(change: impl FnOnce(&mut AuthResponse)) -> Result<Address, Refusal> {
    let mut response = good_response();
    change(&mut response);
    judge(&envelope(Payload::AuthResponse(response)))
}

pub(crate) fn answer_changed(
    change: impl FnOnce(&mut AuthChallenge),
) -> Result<(Bytes, AwaitingResult), AgentError> {
    let mut challenge = good_challenge();
    change(&mut challenge);
    agent().handle_challenge(&envelope(Payload::AuthChallenge(challenge)), UNIX)
}

pub(crate) fn result_of(result: AuthResult) -> Result<Address, AgentError> {
    awaiting().handle_result(&envelope(Payload::AuthResult(result)), Duration::ZERO)
}

pub(crate) fn heartbeat() -> Payload {
    Payload::Heartbeat(Heartbeat::default())
}

pub(crate) fn typed(message_type: MessageType, payload: Option<Payload>) -> Bytes {
    Envelope {
        version: 1,
        r#type: message_type.into(),
        payload,
        ..Envelope::default()
    }
    .to_bytes()
}
