//! The two ends of a handshake, each by itself.

use core::hint::black_box;
use core::time::Duration;

use bytes::Bytes;
use pinch_proto::handshake::{Agent, Relay, auth_succeeded};
use pinch_proto::{Address, Host, SecretKey, Time, UnixMillis};

use super::Operation;

const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);

fn host() -> Host {
    Host::parse("relay.example.com").expect("a host")
}

fn relay(host: Host) -> Relay {
    Relay::new(host, Duration::from_secs(10), [7; 32], Time::ZERO, UNIX)
}

fn agent() -> Agent {
    Agent::new(SecretKey::from_seed([0xaa; 32]), host())
}

/// The relay writes a challenge and reads the answer; if it is `verified`, it checks the signature,
/// too, and writes its verdict.
#[derive(Debug)]
pub(crate) struct HandshakeRelay {
    host: Host,
    response: Bytes,
    verified: bool,
}

impl HandshakeRelay {
    pub(crate) fn new(verified: bool) -> Self {
        let challenge = relay(host()).challenge();
        let (response, _) = agent()
            .handle_challenge(&challenge, UNIX)
            .expect("a challenge");
        Self {
            host: host(),
            response,
            verified,
        }
    }
}

impl Operation for HandshakeRelay {
    type Given = ();

    fn prepare(&mut self) {}

    fn run(&mut self, (): ()) {
        let relay = relay(self.host.clone());
        black_box(relay.challenge());
        let claim = relay
            .handle_message(&self.response, Time::ZERO)
            .expect("an answer");
        if self.verified {
            let proof = claim.verify().expect("the right signature");
            black_box(auth_succeeded(proof.address(), UNIX));
        } else {
            black_box(claim.public_key());
        }
    }
}

/// An agent signs a challenge and reads the verdict. Making its key is not measured.
#[derive(Debug)]
pub(crate) struct HandshakeAgent {
    challenge: Bytes,
    result: Bytes,
}

impl HandshakeAgent {
    pub(crate) fn new() -> Self {
        let key = SecretKey::from_seed([0xaa; 32]).public_key();
        let address = Address::from_public_key(&key, &host());
        Self {
            challenge: relay(host()).challenge(),
            result: auth_succeeded(&address, UNIX),
        }
    }
}

impl Operation for HandshakeAgent {
    type Given = Agent;

    fn prepare(&mut self) -> Agent {
        agent()
    }

    fn run(&mut self, agent: Agent) {
        let (response, agent) = agent
            .handle_challenge(&self.challenge, UNIX)
            .expect("a challenge");
        black_box(response);
        black_box(
            agent
                .handle_result(&self.result, Duration::ZERO)
                .expect("it has joined"),
        );
    }
}
