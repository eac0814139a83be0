//! Friends: agents that do what they should, whatever strangers do beside them.

use bytes::Bytes;
use pinch_driver::{Relay, Upgrade};
use pinch_proto::{Address, Host, SecretKey};

use super::ear::{Ear, Heard};
use super::executor::Virtual;
use super::pieces::frame;
use super::socket::{Wire, socket};

const HOST: &str = "relay.example.com";

/// An agent that does what it should.
#[derive(Debug)]
pub(super) struct Friend {
    pub(super) address: Address,
    pub(super) wire: Wire,
    ear: Ear,
    pub(super) messages: Vec<Bytes>,
    pub(super) close: Option<u16>,
}

impl Friend {
    pub(super) fn join(relay: &Relay<Virtual>, number: u8) -> Self {
        let (_, address) = agent(number);
        let (end, wire) = socket(usize::MAX);
        relay.adopt_upgraded(end, Upgrade::trusted().vouched_for(address.clone()));
        Self {
            address,
            wire,
            ear: Ear::new(true),
            messages: vec![],
            close: None,
        }
    }

    /// Hears what the relay has written, and answers; true if it was something.
    pub(super) fn hear(&mut self) -> Result<bool, String> {
        let bytes = self.wire.take();
        for heard in self.ear.hear(&bytes)? {
            match heard {
                Heard::Message(message) => self.messages.push(message),
                Heard::Ping(payload) => self.wire.write(&frame(0x8a, &payload)),
                Heard::Close(Some(code)) => {
                    self.close = Some(code);
                    self.wire.write(&frame(0x88, &code.to_be_bytes()));
                }
                Heard::Status(_) | Heard::Pong(_) | Heard::Close(None) => {
                    return Err(format!("a friend hears {heard:?}"));
                }
            }
        }
        Ok(!bytes.is_empty())
    }
}

pub(super) fn host() -> Host {
    Host::parse(HOST).expect("it is a host")
}

/// The key and the address of an agent.
pub(super) fn agent(number: u8) -> (SecretKey, Address) {
    let key = SecretKey::from_seed([number; SecretKey::SEED_LEN]);
    let address = Address::from_public_key(&key.public_key(), &host());
    (key, address)
}
