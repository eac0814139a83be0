//! A client, its clock, and what the tests say of both in short.

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::client::{
    Client, Config, Disconnect, Event, Identity, Input, Output, Unsendable, Wakeup, WakeupReason,
};
use pinch_proto::wire::{Envelope, MessageType};
use pinch_proto::{Address, Frame, Host, SecretKey, Time, UnixMillis};

pub(crate) const ALICE: &str = "pinch:alice@relay.example.com";
pub(crate) const HOST: &str = "relay.example.com";
pub(crate) const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const PLENTY: usize = 1 << 20;

/// Time between two looks at a timeout; more of it does not count.
pub(crate) const STEP: Duration = Duration::from_millis(250);
/// The time that is added to each timeout.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn host() -> Host {
    Host::parse(HOST).unwrap()
}

pub(crate) fn name() -> Identity {
    Identity::Name(Address::parse(ALICE).unwrap())
}

pub(crate) fn key() -> Identity {
    Identity::Key {
        secret: SecretKey::from_seed([0xaa; 32]),
        host: host(),
    }
}

/// An envelope of this sender whose id is `id`.
pub(crate) fn envelope_from(from: &str, id: u64) -> Bytes {
    Envelope {
        version: 1,
        from_address: from.into(),
        to_address: "pinch:bob@relay.example.com".into(),
        r#type: MessageType::Message.into(),
        message_id: Bytes::copy_from_slice(&id.to_be_bytes()),
        ..Envelope::default()
    }
    .to_bytes()
}

pub(crate) fn envelope(id: u64) -> Bytes {
    envelope_from(ALICE, id)
}

pub(crate) fn message(id: u64) -> Output {
    Output::Transmit(Frame::Message(envelope(id)))
}

pub(crate) fn ping(number: u64) -> Output {
    Output::Transmit(Frame::Ping(payload(number)))
}

pub(crate) fn payload(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(crate) fn lost(why: &'static str) -> Disconnect {
    Disconnect::Link(why.into())
}

/// A client and the clock beside it.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) now: Time,
    pub(crate) wakeup: Option<Wakeup>,
}

impl Rig {
    pub(crate) fn new(config: Config, identity: Identity) -> Self {
        let client = Client::new(config, identity, [7; 16], Time::ZERO, UNIX);
        Self {
            client,
            now: Time::ZERO,
            wakeup: None,
        }
    }

    /// A client that has just joined in open mode, at time 0.
    pub(crate) fn joined(config: Config) -> Self {
        let mut rig = Self::new(config, name());
        assert_eq!(rig.timeout(), [Output::Dial]);
        rig.join();
        rig
    }

    /// Lets the client that dialled join in open mode.
    pub(crate) fn join(&mut self) {
        let address = Address::parse(ALICE).unwrap();
        assert_eq!(
            self.input(Input::Connected)[0],
            Output::Event(Event::Joined { address })
        );
    }

    pub(crate) fn input(&mut self, input: Input) -> Vec<Output> {
        let mut turn = self.client.handle_input(input, self.now);
        let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
        self.wakeup = turn.finish();
        outputs
    }

    pub(crate) fn timeout(&mut self) -> Vec<Output> {
        let mut turn = self.client.handle_timeout(self.now);
        let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
        self.wakeup = turn.finish();
        outputs
    }

    pub(crate) fn submit(&mut self, envelope: Bytes) -> Result<Vec<Output>, Unsendable> {
        let mut turn = self
            .client
            .submit(envelope, self.now)
            .map_err(|error| error.reason)?;
        let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
        self.wakeup = turn.finish();
        Ok(outputs)
    }

    pub(crate) fn writable(&mut self, bytes: usize) -> Vec<Output> {
        self.input(Input::Writable { bytes })
    }

    pub(crate) fn pong(&mut self, number: u64) -> Vec<Output> {
        self.input(Input::Pong {
            payload: payload(number),
        })
    }

    pub(crate) fn disconnected(&mut self, why: &'static str) -> Vec<Output> {
        self.input(Input::Disconnected { why: why.into() })
    }

    /// Calls the client whenever it wants to be, until something is due: for this reason.
    pub(crate) fn wait_for(&mut self, reason: WakeupReason) -> Vec<Output> {
        loop {
            let wakeup = self.wakeup.unwrap();
            assert!(wakeup.at >= self.now);
            self.now = wakeup.at;
            let outputs = self.timeout();
            // It only looks at a timeout that a pause would not use up.
            let looks = outputs.is_empty() && wakeup.reason != WakeupReason::Ping;
            if !looks || self.wakeup.is_none() {
                assert_eq!(wakeup.reason, reason, "at {:?}", wakeup.at);
                return outputs;
            }
        }
    }

    pub(crate) fn due(&self) -> (Time, WakeupReason) {
        self.wakeup
            .map(|wakeup| (wakeup.at, wakeup.reason))
            .unwrap()
    }

    /// Lets the client dial again after a failure, which is in `outputs`.
    pub(crate) fn redial(&mut self, outputs: &[Output]) -> (Disconnect, Duration) {
        let [.., Output::Event(Event::Disconnected { why, retry_at })] = outputs else {
            panic!("{outputs:?}")
        };
        assert_eq!(self.due(), (*retry_at, WakeupReason::Dial));
        let delay = retry_at.since(self.now);
        assert_eq!(self.wait_for(WakeupReason::Dial), [Output::Dial]);
        (why.clone(), delay)
    }
}

pub(crate) fn config() -> Config {
    Config::new()
}
