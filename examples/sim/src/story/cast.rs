//! Who takes part in a story.

use core::fmt;
use std::sync::LazyLock;

use pinch_proto::{Address, Host, SecretKey};

use super::settings::HOST;

/// Somebody with an address at the relay: a key, but for Bob, who has nothing but a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "they are only names")]
pub enum Agent {
    Alice,
    Bob,
    Carol,
    Dave,
}

/// The addresses of all agents, and one whose key nobody has.
static ADDRESSES: LazyLock<[Address; 5]> = LazyLock::new(|| {
    let host = Host::parse(HOST).expect("a host");
    let of_key = |seed| {
        let key = SecretKey::from_seed([seed; SecretKey::SEED_LEN]).public_key();
        Address::from_public_key(&key, &host)
    };
    let bob = Address::parse(&format!("pinch:b@{HOST}")).expect("an address");
    [of_key(1), bob, of_key(3), of_key(4), of_key(5)]
});

impl Agent {
    /// All of them; the first few have joined when a story begins.
    pub const ALL: [Self; 4] = [Self::Alice, Self::Bob, Self::Carol, Self::Dave];

    /// Where to reach it.
    #[must_use]
    pub fn address(self) -> Address {
        ADDRESSES[self as usize].clone()
    }

    /// Whose address `text` is.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let address = Address::parse(text).ok()?;
        Self::ALL
            .into_iter()
            .find(|agent| ADDRESSES[*agent as usize] == address)
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alice => "alice",
            Self::Bob => "bob",
            Self::Carol => "carol",
            Self::Dave => "dave",
        })
    }
}

/// One of the connections of an agent, chosen among those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// Whose.
    pub agent: Agent,
    /// Not its newest one but the one before, which has ended or is about to; if there is none, the
    /// newest.
    pub earlier: bool,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.agent.fmt(f)?;
        if self.earlier {
            f.write_str(" (on an earlier connection)")?;
        }
        Ok(())
    }
}

/// What an envelope has as its recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// An agent, connected or not.
    Agent(Agent),
    /// Its sender.
    Themselves,
    /// An address that is a key, but nobody's.
    Stranger,
    /// A name that is no key.
    Named,
    /// An agent's key at another host.
    OtherHost(Agent),
    /// A text that is no address, and long.
    Malformed,
    /// Nobody: it is for the relay.
    Nobody,
}

impl To {
    /// What stands in the envelope, if `sender` writes it.
    #[must_use]
    pub fn text(self, sender: Agent) -> String {
        match self {
            Self::Agent(agent) => agent.address().as_str().into(),
            Self::Themselves => sender.address().as_str().into(),
            Self::Stranger => ADDRESSES[4].as_str().into(),
            Self::Named => format!("pinch:somebody@{HOST}"),
            Self::OtherHost(agent) => format!("pinch:{}@elsewhere", agent.address().name()),
            Self::Malformed => format!("{}é", "x".repeat(255)),
            Self::Nobody => String::new(),
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => agent.fmt(f),
            Self::Themselves => f.write_str("themselves"),
            Self::Stranger => f.write_str("a stranger"),
            Self::Named => f.write_str("a name that is no key"),
            Self::OtherHost(agent) => write!(f, "{agent} at another host"),
            Self::Malformed => f.write_str("no address"),
            Self::Nobody => f.write_str("the relay"),
        }
    }
}
