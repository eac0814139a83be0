//! Who takes part: agents, the mode in which they join, and a row of the table.

use serde_json::{Value, json};

use crate::HOST;
use crate::peer::{Foreign, Party, to_hex};
use crate::relay::Relay;
use crate::setup::Program;

/// The types of message that are sent here.
pub(crate) const MESSAGE: i32 = 4;
pub(crate) const DELIVERY_CONFIRM: i32 = 5;
pub(crate) const QUEUE_STATUS: i32 = 13;
pub(crate) const QUEUE_FULL: i32 = 14;
pub(crate) const RATE_LIMITED: i32 = 15;

/// Somebody who joins: with a key, or by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent {
    pub(crate) seed: [u8; 32],
    /// The address that belongs to the key: protocol section 1.
    proven: &'static str,
    pub(crate) name: &'static str,
}

pub(crate) const ALICE: Agent = Agent {
    seed: [0xaa; 32],
    proven: "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@test.relay.example.com",
    name: "pinch:alice+1&x=%41@example.com",
};

pub(crate) const BOB: Agent = Agent {
    seed: {
        let mut seed = [0; 32];
        seed[31] = 1;
        seed
    },
    proven: "pinch:anSpcKpdMpR5GgdWktTxJHrow4AapjhmPGBfj3F1qr3HEbMcn@test.relay.example.com",
    name: "pinch:bob@example.com",
};

impl Agent {
    pub(crate) const fn address(&self, mode: Mode) -> &'static str {
        match mode {
            Mode::Challenge => self.proven,
            Mode::Open => self.name,
        }
    }

    /// The command that lets a foreign client join, without the URL.
    pub(crate) fn join_command(&self, mode: Mode) -> Value {
        match mode {
            Mode::Challenge => json!({ "do": "join", "seed": to_hex(&self.seed), "host": HOST }),
            Mode::Open => json!({ "do": "join", "address": self.name }),
        }
    }
}

/// How agents show that an address is theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Challenge,
    Open,
}

impl Mode {
    pub(crate) const fn flag(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Open => "open",
        }
    }
}

/// A row of the table: which client, in which mode.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) program: Program,
    pub(crate) mode: Mode,
}

impl Row {
    pub(crate) async fn relay(&self, flags: &[&str]) -> Relay {
        Relay::start(self.mode, flags).await
    }

    /// A client that has not joined.
    pub(crate) fn client(&self) -> Foreign {
        Foreign::start(&self.program)
    }

    /// A client that has joined.
    pub(crate) async fn joined(&self, relay: &Relay, agent: Agent) -> Foreign {
        let mut client = self.client();
        client.join(relay, agent, self.mode).await;
        client
    }

    pub(crate) async fn party(&self, relay: &Relay, agent: Agent) -> Party {
        Party::foreign(&self.program, relay, agent, self.mode).await
    }

    pub(crate) fn message(&self, from: Agent, to: Agent, number: u8, length: usize) -> Value {
        message(self.mode, from, to, number, length)
    }
}

/// A message, in JSON.
pub(crate) fn message(mode: Mode, from: Agent, to: Agent, number: u8, length: usize) -> Value {
    let ciphertext: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
    json!({
        "version": 1,
        "from_address": from.address(mode),
        "to_address": to.address(mode),
        "type": MESSAGE,
        "message_id": to_hex(&[number; 16]),
        "timestamp": 1_700_000_000_000_i64,
        "encrypted": {
            "nonce": to_hex(&[number; 24]),
            "ciphertext": to_hex(&ciphertext),
            "sender_public_key": to_hex(&[7; 32]),
        },
    })
}
