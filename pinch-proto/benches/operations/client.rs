//! An agent's own machine.

use core::hint::black_box;

use bytes::Bytes;
use pinch_proto::client::{Client, Config, Duplicates, Event, Identity, Input, Output, Turn};
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload};
use pinch_proto::{Frame, Time, UnixMillis};

use super::live_hub::as_read;
use super::{Addresses, Operation};

/// As by default.
const REMEMBERED: u32 = 8192;

/// Two agents: the client is the first one.
#[derive(Debug)]
struct Joined {
    client: Client,
    addresses: Addresses,
    /// How many envelopes were written.
    written: u64,
}

impl Joined {
    fn new() -> Self {
        let addresses = Addresses::new(2);
        let remembered = Duplicates::Drop {
            remembered: REMEMBERED,
        };
        let config = Config::new().duplicates(remembered).build();
        let config = config.expect("settings that fit");
        let identity = Identity::Name(addresses.of(0));
        let mut client = Client::new(config, identity, [7; 16], Time::ZERO, UnixMillis(0));
        drain(client.handle_timeout(Time::ZERO));
        let (joined, _) = drain(client.handle_input(Input::Connected, Time::ZERO));
        assert_eq!(joined, 1, "it has joined");
        Self {
            client,
            addresses,
            written: 0,
        }
    }

    /// An envelope with an id of its own.
    fn envelope(&mut self, from: usize, to: usize) -> Bytes {
        self.written += 1;
        let payload = EncryptedPayload {
            ciphertext: vec![7; 256].into(),
            ..EncryptedPayload::default()
        };
        let envelope = Envelope {
            version: 1,
            from_address: self.addresses.of(from).as_str().into(),
            to_address: self.addresses.of(to).as_str().into(),
            r#type: MessageType::Message.into(),
            message_id: self.written.to_be_bytes().to_vec().into(),
            timestamp: 1_700_000_000_000,
            payload: Some(Payload::Encrypted(payload)),
        };
        as_read(&envelope)
    }
}

/// Takes all outputs: how many events there were, and what the relay answers to a ping.
fn drain(mut turn: Turn<'_>) -> (usize, Option<Bytes>) {
    let mut events = 0;
    let mut pong = None;
    while let Some(output) = turn.poll_output() {
        match output {
            Output::Transmit(Frame::Ping(payload)) => pong = Some(payload),
            Output::Event(Event::Joined { .. } | Event::Received(_)) => events += 1,
            Output::Dial
            | Output::Wake
            | Output::Transmit(_)
            | Output::Hangup
            | Output::Confirmed { .. }
            | Output::Event(_) => {}
        }
    }
    black_box(turn.finish());
    (events, pong)
}

/// An envelope is submitted and written, and the pong behind it confirms it.
#[derive(Debug)]
pub(crate) struct ClientSend(Joined);

impl ClientSend {
    pub(crate) fn new() -> Self {
        Self(Joined::new())
    }
}

impl Operation for ClientSend {
    type Given = Bytes;

    fn prepare(&mut self) -> Bytes {
        self.0.envelope(0, 1)
    }

    fn run(&mut self, envelope: Bytes) {
        let client = &mut self.0.client;
        let turn = client.submit(envelope, Time::ZERO).expect("there is room");
        drain(turn);
        let writable = || Input::Writable { bytes: 64 << 10 };
        let (_, pong) = drain(client.handle_input(writable(), Time::ZERO));
        drain(client.handle_input(writable(), Time::ZERO));
        let payload = pong.expect("a ping follows");
        drain(client.handle_input(Input::Pong { payload }, Time::ZERO));
        assert!(client.is_flushed(), "it is confirmed");
    }
}

/// An envelope comes that was not seen before.
#[derive(Debug)]
pub(crate) struct ClientReceive(Joined);

impl ClientReceive {
    /// With as many envelopes behind it as a client remembers.
    pub(crate) fn new() -> Self {
        let mut receive = Self(Joined::new());
        for _ in 0..2 * REMEMBERED {
            let envelope = receive.prepare();
            receive.run(envelope);
        }
        receive
    }
}

impl Operation for ClientReceive {
    type Given = Bytes;

    fn prepare(&mut self) -> Bytes {
        self.0.envelope(1, 0)
    }

    fn run(&mut self, envelope: Bytes) {
        let turn = self
            .0
            .client
            .handle_input(Input::Received(envelope), Time::ZERO);
        assert_eq!(drain(turn).0, 1, "it is handed over");
    }
}
