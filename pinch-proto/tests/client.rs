//! A client in virtual time: tables of what goes in and what comes out, and random histories.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::client::{
    Client, Config, ConfigError, Disconnect, Event, Identity, Input, Output, Unsendable, Wakeup,
    WakeupReason,
};
use pinch_proto::handshake::{
    ADDRESS_ALREADY_CONNECTED, AgentError, KEY_NOT_REGISTERED, Relay, auth_failed, auth_succeeded,
};
use pinch_proto::wire::{Envelope, MessageType, Payload, QueueFull};
use pinch_proto::{Address, Close, CloseCode, Frame, Host, SecretKey, Time, UnixMillis};
use proptest::collection::vec;
use proptest::prelude::*;

const ALICE: &str = "pinch:alice@relay.example.com";
const HOST: &str = "relay.example.com";
const UNIX: UnixMillis = UnixMillis(1_700_000_000_000);
const PLENTY: usize = 1 << 20;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn host() -> Host {
    Host::parse(HOST).unwrap()
}

fn name() -> Identity {
    Identity::Name(Address::parse(ALICE).unwrap())
}

fn key() -> Identity {
    Identity::Key {
        secret: SecretKey::from_seed([0xaa; 32]),
        host: host(),
    }
}

/// An envelope of this sender whose id is `id`.
fn envelope_from(from: &str, id: u64) -> Bytes {
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

fn envelope(id: u64) -> Bytes {
    envelope_from(ALICE, id)
}

fn message(id: u64) -> Output {
    Output::Transmit(Frame::Message(envelope(id)))
}

fn ping(number: u64) -> Output {
    Output::Transmit(Frame::Ping(payload(number)))
}

fn payload(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn lost(why: &'static str) -> Disconnect {
    Disconnect::Link(why.into())
}

/// A client and the clock beside it.
struct Rig {
    client: Client,
    now: Time,
    wakeup: Option<Wakeup>,
}

impl Rig {
    fn new(config: Config, identity: Identity) -> Self {
        let client = Client::new(config, identity, 7, Time::ZERO, UNIX);
        Self {
            client,
            now: Time::ZERO,
            wakeup: None,
        }
    }

    /// A client that has just joined in open mode, at time 0.
    fn joined(config: Config) -> Self {
        let mut rig = Self::new(config, name());
        assert_eq!(rig.timeout(), [Output::Dial]);
        rig.join();
        rig
    }

    /// Lets the client that dialled join in open mode.
    fn join(&mut self) {
        let address = Address::parse(ALICE).unwrap();
        assert_eq!(
            self.input(Input::Connected)[0],
            Output::Event(Event::Joined { address })
        );
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let mut turn = self.client.handle_input(input, self.now);
        let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
        self.wakeup = turn.finish();
        outputs
    }

    fn timeout(&mut self) -> Vec<Output> {
        let mut turn = self.client.handle_timeout(self.now);
        let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
        self.wakeup = turn.finish();
        outputs
    }

    fn submit(&mut self, envelope: Bytes) -> Result<Vec<Output>, Unsendable> {
        let mut turn = self
            .client
            .submit(envelope, self.now)
            .map_err(|error| error.reason)?;
        let outputs = core::iter::from_fn(|| turn.poll_output()).collect();
        self.wakeup = turn.finish();
        Ok(outputs)
    }

    fn writable(&mut self, bytes: usize) -> Vec<Output> {
        self.input(Input::Writable { bytes })
    }

    fn pong(&mut self, number: u64) -> Vec<Output> {
        self.input(Input::Pong {
            payload: payload(number),
        })
    }

    fn disconnected(&mut self, why: &'static str) -> Vec<Output> {
        self.input(Input::Disconnected { why: why.into() })
    }

    /// Sleeps until the client wants to be called, checks what for, and calls it.
    fn wait_for(&mut self, reason: WakeupReason) -> Vec<Output> {
        let wakeup = self.wakeup.unwrap();
        assert_eq!(wakeup.reason, reason, "at {:?}", wakeup.at);
        assert!(wakeup.at >= self.now);
        self.now = wakeup.at;
        self.timeout()
    }

    fn due(&self) -> (Time, WakeupReason) {
        self.wakeup
            .map(|wakeup| (wakeup.at, wakeup.reason))
            .unwrap()
    }

    /// Lets the client dial again after a failure, which is in `outputs`.
    fn redial(&mut self, outputs: &[Output]) -> (Disconnect, Duration) {
        let [.., Output::Event(Event::Disconnected { why, retry_at })] = outputs else {
            panic!("{outputs:?}")
        };
        assert_eq!(self.due(), (*retry_at, WakeupReason::Dial));
        let delay = retry_at.since(self.now);
        assert_eq!(self.wait_for(WakeupReason::Dial), [Output::Dial]);
        (why.clone(), delay)
    }
}

fn config() -> Config {
    Config::new()
}

#[test]
fn envelopes_leave_in_batches_with_one_ping_on_its_way() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.submit(envelope(1)), Ok(vec![Output::Wake]));
    assert_eq!(rig.submit(envelope(2)), Ok(vec![]), "one wake is enough");
    assert_eq!(rig.submit(envelope(3)), Ok(vec![]));
    let room = envelope(1).len() + 1;
    assert_eq!(rig.writable(room), [message(1), message(2), ping(1)]);
    assert_eq!(
        rig.writable(1),
        [message(3)],
        "the ping is still on its way"
    );
    assert_eq!(rig.writable(PLENTY), []);

    assert_eq!((rig.client.submitted(), rig.client.confirmed()), (3, 0));
    assert_eq!(
        rig.pong(1),
        [Output::Confirmed { total: 2 }, Output::Wake],
        "3 needs a ping of its own"
    );
    assert!(!rig.client.is_flushed());
    assert_eq!(rig.writable(PLENTY), [ping(2)]);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.pong(2), [Output::Confirmed { total: 3 }]);
    assert!(rig.client.is_flushed());
    assert_eq!(rig.pong(2), [], "a second pong confirms nothing");
}

#[test]
fn a_writable_without_room_hands_out_nothing_and_does_not_send_the_driver_to_sleep() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.submit(envelope(1)), Ok(vec![Output::Wake]));
    assert_eq!(rig.writable(0), []);
    assert_eq!(rig.submit(envelope(2)), Ok(vec![]));
    assert_eq!(rig.writable(PLENTY), [message(1), message(2), ping(1)]);
}

#[test]
fn what_is_unconfirmed_when_the_link_ends_is_sent_again_in_order() {
    let mut rig = Rig::joined(config());
    for id in 1..=3 {
        rig.submit(envelope(id)).unwrap();
    }
    assert_eq!(rig.writable(1), [message(1), ping(1)]);
    assert_eq!(rig.writable(1), [message(2)]);
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 1 }]);
    assert_eq!(rig.writable(1), [message(3), ping(2)]);
    let outputs = rig.disconnected("reset");
    rig.submit(envelope(4)).unwrap();
    assert_eq!(rig.redial(&outputs).0, lost("reset"));
    rig.join();
    assert_eq!(rig.pong(2), [], "a pong of the old link confirms nothing");
    assert_eq!(
        rig.writable(PLENTY),
        [message(2), message(3), message(4), ping(3)]
    );
    assert_eq!(rig.pong(3), [Output::Confirmed { total: 4 }]);
}

#[test]
fn a_key_joins_by_answering_the_challenge() {
    let mut rig = Rig::new(config(), key());
    let address = rig.client.address().clone();
    let envelope = envelope_from(address.as_str(), 1);
    rig.submit(envelope.clone()).unwrap();
    assert_eq!(rig.timeout(), [Output::Dial]);
    assert_eq!(rig.input(Input::Connected), []);
    assert_eq!(
        rig.writable(PLENTY),
        [],
        "nothing is said before the relay asks"
    );

    let relay = Relay::new(host(), secs(10), [3; 32], rig.now, UNIX);
    assert_eq!(
        rig.input(Input::Received(relay.challenge())),
        [Output::Wake]
    );
    let outputs = rig.writable(PLENTY);
    let [Output::Transmit(Frame::Message(response))] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let proof = relay
        .handle_message(response, rig.now, UNIX)
        .unwrap()
        .verify()
        .unwrap();
    assert_eq!(proof.address(), &address);
    assert_eq!(
        rig.writable(PLENTY),
        [],
        "envelopes wait for the end of the handshake"
    );

    let joined = auth_succeeded(&address, UNIX);
    assert_eq!(
        rig.input(Input::Received(joined)),
        [Output::Event(Event::Joined { address }), Output::Wake]
    );
    assert_eq!(
        rig.writable(PLENTY),
        [Output::Transmit(Frame::Message(envelope)), ping(1)]
    );
}

#[test]
fn the_address_takes_the_spelling_of_the_relay() {
    let mut rig = Rig::new(config(), key());
    rig.timeout();
    rig.input(Input::Connected);
    let relay = Relay::new(
        Host::parse("Relay.Example.COM").unwrap(),
        secs(10),
        [3; 32],
        rig.now,
        UNIX,
    );
    rig.input(Input::Received(relay.challenge()));
    let address = Address::parse(
        &rig.client
            .address()
            .as_str()
            .replace(HOST, "Relay.Example.COM"),
    )
    .unwrap();
    rig.input(Input::Received(auth_succeeded(&address, UNIX)));
    assert_eq!(rig.client.address(), &address);
    assert!(rig.submit(envelope_from(address.as_str(), 1)).is_ok());
}

#[test]
fn a_failed_handshake_is_tried_again_unless_that_is_pointless() {
    let other = Host::parse("other.example.com").unwrap();
    let challenge =
        |host: &Host| Relay::new(host.clone(), secs(10), [3; 32], Time::ZERO, UNIX).challenge();
    let refused = |reason: &str| AgentError::Refused {
        reason: reason.into(),
    };
    let cases = [
        (
            vec![challenge(&other)],
            AgentError::WrongHost {
                expected: host(),
                found: other.to_string(),
            },
            false,
        ),
        (
            vec![challenge(&host()), auth_failed(KEY_NOT_REGISTERED, UNIX)],
            refused(KEY_NOT_REGISTERED),
            false,
        ),
        (
            vec![
                challenge(&host()),
                auth_failed(ADDRESS_ALREADY_CONNECTED, UNIX),
            ],
            refused(ADDRESS_ALREADY_CONNECTED),
            true,
        ),
    ];
    for (messages, error, may_retry) in cases {
        let mut rig = Rig::new(config(), key());
        rig.timeout();
        let mut outputs = rig.input(Input::Connected);
        for message in messages {
            outputs = rig.input(Input::Received(message));
        }
        assert_eq!(outputs[0], Output::Hangup);
        let why = Disconnect::Join(error);
        if may_retry {
            assert_eq!(rig.redial(&outputs).0, why);
        } else {
            assert_eq!(
                outputs[1..],
                [Output::Event(Event::GaveUp {
                    why,
                    unsent: vec![]
                })]
            );
            assert_eq!(rig.wakeup, None);
        }
    }
}

#[test]
fn dialling_and_joining_have_deadlines() {
    let mut rig = Rig::new(config().dial_timeout(secs(3)).join_timeout(secs(4)), key());
    rig.timeout();
    let outputs = rig.wait_for(WakeupReason::DialTimeout);
    assert_eq!(
        (rig.now, &outputs[0]),
        (Time::ZERO + secs(3), &Output::Hangup)
    );
    assert_eq!(rig.redial(&outputs).0, Disconnect::DialTimeout);
    let connected_at = rig.now;
    rig.input(Input::Connected);
    let outputs = rig.wait_for(WakeupReason::Join);
    assert_eq!(
        (rig.now, &outputs[0]),
        (connected_at + secs(4), &Output::Hangup)
    );
    assert_eq!(rig.redial(&outputs).0, Disconnect::JoinTimeout);
}

#[test]
fn a_silent_relay_is_given_up_after_interval_and_timeout() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.due(), (Time::ZERO + secs(25), WakeupReason::Ping));
    assert_eq!(rig.wait_for(WakeupReason::Ping), [Output::Wake]);
    rig.now = rig.now + secs(2);
    assert_eq!(rig.writable(PLENTY), [ping(1)]);
    assert_eq!(
        rig.due().1,
        WakeupReason::Ping,
        "the socket has not taken the ping: no deadline yet"
    );
    rig.now = rig.now + secs(2);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(
        rig.due(),
        (Time::ZERO + secs(25 + 2 + 2 + 7), WakeupReason::Pong)
    );
    let outputs = rig.wait_for(WakeupReason::Pong);
    assert_eq!(outputs[0], Output::Hangup);
    assert_eq!(rig.redial(&outputs).0, Disconnect::HeartbeatTimeout);
}

#[test]
fn any_data_and_any_pong_is_a_sign_of_life() {
    for life in [
        Input::Received(envelope(1)),
        Input::Pong {
            payload: Bytes::new(),
        },
    ] {
        let mut rig = Rig::joined(config());
        rig.wait_for(WakeupReason::Ping);
        assert_eq!(rig.writable(PLENTY), [ping(1)]);
        rig.writable(PLENTY);
        assert_eq!(rig.due().1, WakeupReason::Pong);
        rig.input(life);
        assert_eq!(rig.due(), (Time::ZERO + secs(50), WakeupReason::Ping));
        // The ping's own pong is still missing; its absence counts again after the next interval.
        assert_eq!(rig.wait_for(WakeupReason::Ping), []);
        assert_eq!(rig.due(), (Time::ZERO + secs(57), WakeupReason::Pong));
        assert_eq!(rig.pong(1), []);
        assert_eq!(rig.due(), (Time::ZERO + secs(75), WakeupReason::Ping));
    }
}

#[test]
fn a_marker_has_no_deadline_before_the_next_heartbeat() {
    let mut rig = Rig::joined(config());
    rig.now = rig.now + secs(10);
    rig.submit(envelope(1)).unwrap();
    assert_eq!(rig.writable(PLENTY), [message(1), ping(1)]);
    rig.writable(PLENTY);
    assert_eq!(
        rig.due(),
        (Time::ZERO + secs(35), WakeupReason::Ping),
        "it counts as the heartbeat"
    );
    assert_eq!(rig.wait_for(WakeupReason::Ping), []);
    assert_eq!(rig.due(), (Time::ZERO + secs(42), WakeupReason::Pong));
}

#[test]
fn a_marker_that_the_socket_takes_late_is_the_heartbeat_then() {
    let mut rig = Rig::joined(config().heartbeat_interval(secs(10)));
    rig.submit(envelope(1)).unwrap();
    assert_eq!(rig.writable(PLENTY), [message(1), ping(1)]);
    assert_eq!(rig.wait_for(WakeupReason::Ping), []);
    assert_eq!(
        rig.due().1,
        WakeupReason::Ping,
        "no deadline while the socket has not taken it"
    );
    rig.now = rig.now + secs(1);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.due(), (Time::ZERO + secs(18), WakeupReason::Pong));
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    let mut rig = Rig::joined(config().heartbeat_interval(secs(1000)));
    rig.submit(envelope(1)).unwrap();
    assert_eq!(
        rig.due(),
        (Time::ZERO + secs(30), WakeupReason::Stall),
        "a wake wants an answer too"
    );
    rig.now = rig.now + secs(5);
    rig.writable(PLENTY);
    assert_eq!(rig.due(), (Time::ZERO + secs(35), WakeupReason::Stall));
    let outputs = rig.wait_for(WakeupReason::Stall);
    assert_eq!(outputs[0], Output::Hangup);
    assert_eq!(rig.redial(&outputs).0, Disconnect::Stalled);
}

#[test]
fn backoff_grows_to_its_cap_is_jittered_and_ends() {
    let mut longest = [Duration::ZERO; 9];
    for seed in 0..200 {
        let config = config()
            .backoff(secs(1), secs(30))
            .max_tries(Some(10))
            .build()
            .unwrap();
        let mut rig = Rig::new(config.clone(), name());
        rig.client = Client::new(config, name(), seed, Time::ZERO, UNIX);
        rig.submit(envelope(1)).unwrap();
        rig.timeout();
        for longest in &mut longest {
            let outputs = rig.disconnected("refused");
            let (why, delay) = rig.redial(&outputs);
            assert_eq!(why, lost("refused"));
            *longest = delay.max(*longest);
        }
        let gave_up = Event::GaveUp {
            why: lost("refused"),
            unsent: vec![envelope(1)],
        };
        assert_eq!(rig.disconnected("refused"), [Output::Event(gave_up)]);
        assert_eq!(rig.wakeup, None);
        assert!(rig.client.is_ended());
    }
    for (longest, ceiling) in longest
        .into_iter()
        .zip([1, 2, 4, 8, 16, 30, 30, 30, 30].map(secs))
    {
        assert!(
            longest <= ceiling && longest > ceiling * 9 / 10,
            "{longest:?} of {ceiling:?}"
        );
    }
}

#[test]
fn only_a_join_that_lasted_makes_failures_forgotten() {
    for (lifetime, tries_left) in [(secs(29), false), (secs(30), true)] {
        let mut rig = Rig::new(
            config().max_tries(Some(3)).heartbeat_interval(secs(1000)),
            name(),
        );
        rig.timeout();
        for _ in 0..2 {
            let outputs = rig.disconnected("refused");
            rig.redial(&outputs);
        }
        rig.join();
        rig.now = rig.now + lifetime;
        let outputs = rig.disconnected("reset");
        assert_eq!(
            matches!(outputs[..], [Output::Event(Event::Disconnected { .. })]),
            tries_left,
            "{outputs:?}"
        );
    }
}

#[test]
fn a_close_by_the_relay_is_final_only_if_coming_back_would_repeat_it() {
    let cases = [
        (1000, "", false),
        (1001, "going away", false),
        (1002, "", false),
        (1003, "", true),
        (1007, "", true),
        (1008, "heartbeat timeout", false),
        (1008, "from_address is not yours", true),
        (1009, "", true),
        (1013, "relay is full", false),
        (4001, "replaced by a new connection", true),
    ];
    for (code, reason, is_final) in cases {
        let mut rig = Rig::joined(config());
        rig.submit(envelope(1)).unwrap();
        rig.writable(PLENTY);
        let close = Close::new(CloseCode(code), reason);
        let outputs = rig.input(Input::PeerClosed(close.clone()));
        assert_eq!(outputs[0], Output::Hangup);
        let why = Disconnect::Closed(close);
        assert_eq!(why.is_permanent(), is_final, "{code}");
        if is_final {
            let unsent = vec![envelope(1)];
            assert_eq!(outputs[1..], [Output::Event(Event::GaveUp { why, unsent })]);
        } else {
            assert_eq!(rig.redial(&outputs).0, why);
        }
    }
    let mut rig = Rig::joined(config().rejoin_when_replaced(true));
    let outputs = rig.input(Input::PeerClosed(Close::new(CloseCode::REPLACED, "")));
    rig.redial(&outputs);
}

#[test]
fn what_is_said_about_a_link_that_does_not_exist_is_ignored() {
    let strays = [
        Input::Received(envelope(1)),
        Input::Writable { bytes: PLENTY },
        Input::Pong {
            payload: payload(1),
        },
        Input::PeerClosed(Close::new(CloseCode::REPLACED, "")),
    ];
    let mut rig = Rig::new(config(), name());
    rig.submit(envelope(1)).unwrap();
    for input in [
        Input::Connected,
        Input::Disconnected {
            why: "early".into(),
        },
    ]
    .iter()
    .chain(&strays)
    {
        assert_eq!(rig.input(input.clone()), [], "{input:?} before dialling");
    }
    assert_eq!(rig.timeout(), [Output::Dial]);
    for input in strays {
        assert_eq!(rig.input(input.clone()), [], "{input:?} while dialling");
    }
    rig.join();
    assert_eq!(rig.input(Input::Connected), [], "it is connected already");
}

#[test]
fn what_comes_from_the_relay_is_handed_on_verbatim() {
    let mut rig = Rig::joined(config());
    let refusal = Payload::QueueFull(QueueFull {
        recipient_address: "pinch:bob@x".into(),
        reason: "full".into(),
    });
    let unknown = Envelope {
        r#type: 99,
        ..Envelope::default()
    }
    .to_bytes();
    for message in [
        envelope(1),
        Envelope::from_relay(refusal, UNIX).to_bytes(),
        unknown,
    ] {
        assert_eq!(
            rig.input(Input::Received(message.clone())),
            [Output::Event(Event::Received(message))]
        );
    }
    let outputs = rig.input(Input::Received(Bytes::from_static(&[0xff])));
    assert_eq!(outputs[0], Output::Hangup);
    assert!(matches!(rig.redial(&outputs).0, Disconnect::Malformed(_)));

    rig.join();
    let challenge = Relay::new(host(), secs(10), [3; 32], rig.now, UNIX).challenge();
    let gave_up = Event::GaveUp {
        why: Disconnect::KeyNeeded,
        unsent: vec![],
    };
    assert_eq!(
        rig.input(Input::Received(challenge)),
        [Output::Hangup, Output::Event(gave_up)]
    );
}

#[test]
fn an_envelope_that_cannot_be_sent_comes_back_with_the_reason() {
    let mut rig = Rig::new(config().outbox_count(2).envelope_bytes(200), name());
    let stranger = envelope_from("pinch:mallory@relay.example.com", 1);
    let from_alice = |r#type: i32, id: usize| {
        let message_id = vec![0; id].into();
        Envelope {
            from_address: ALICE.into(),
            r#type,
            message_id,
            ..Envelope::default()
        }
        .to_bytes()
    };
    let too_large = from_alice(4, 300);
    let len = too_large.len();
    for (bytes, reason) in [
        (stranger, Unsendable::NotYourAddress),
        (Bytes::new(), Unsendable::NotYourAddress),
        (too_large, Unsendable::TooLarge { len, limit: 200 }),
        (
            from_alice(2, 0),
            Unsendable::RelayOnly(MessageType::AuthChallenge),
        ),
        (
            from_alice(15, 0),
            Unsendable::RelayOnly(MessageType::RateLimited),
        ),
    ] {
        let error = rig.client.submit(bytes.clone(), Time::ZERO).unwrap_err();
        assert_eq!((error.envelope, error.reason), (bytes, reason));
    }
    assert!(matches!(
        rig.submit(Bytes::from_static(&[0xff])),
        Err(Unsendable::Malformed(_))
    ));

    rig.submit(envelope(1)).unwrap();
    rig.submit(envelope(2)).unwrap();
    assert!(!rig.client.has_room_for(1));
    assert_eq!(rig.submit(envelope(3)), Err(Unsendable::Full));
    rig.timeout();
    rig.join();
    rig.writable(PLENTY);
    assert_eq!(
        rig.submit(envelope(3)),
        Err(Unsendable::Full),
        "handed out is not confirmed"
    );
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 2 }]);
    assert!(rig.client.has_room_for(1));
    rig.submit(envelope(3)).unwrap();
    rig.input(Input::Close);
    assert_eq!(rig.submit(envelope(4)), Err(Unsendable::Closed));
}

#[test]
fn the_outbox_is_limited_in_bytes() {
    let len = envelope(1).len();
    let mut rig = Rig::new(config().envelope_bytes(len).outbox_bytes(2 * len), name());
    rig.submit(envelope(1)).unwrap();
    assert!(rig.client.has_room_for(len) && !rig.client.has_room_for(len + 1));
    rig.submit(envelope(2)).unwrap();
    assert_eq!(rig.submit(envelope(3)), Err(Unsendable::Full));
}

#[test]
fn closing_waits_for_confirmation_then_says_goodbye() {
    let mut rig = Rig::joined(config());
    rig.submit(envelope(1)).unwrap();
    assert_eq!(rig.input(Input::Close), []);
    assert_eq!(rig.writable(PLENTY), [message(1), ping(1)]);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.pong(1), [Output::Confirmed { total: 1 }, Output::Wake]);
    let goodbye = Frame::Close(Close::new(CloseCode::NORMAL, ""));
    assert_eq!(rig.writable(PLENTY), [Output::Transmit(goodbye)]);
    assert_eq!(rig.writable(PLENTY), []);
    let late = envelope(9);
    assert_eq!(
        rig.input(Input::Received(late.clone())),
        [Output::Event(Event::Received(late))]
    );
    assert_eq!(rig.input(Input::Close), [], "once is enough");
    let closed = Output::Event(Event::Closed { unsent: vec![] });
    assert_eq!(
        rig.input(Input::PeerClosed(Close::new(CloseCode::NORMAL, ""))),
        [Output::Hangup, closed]
    );
    assert_eq!(rig.wakeup, None);
}

#[test]
fn closing_does_not_wait_for_ever() {
    // For the confirmation, nor for the relay's close frame; a late pong still counts.
    for (pong, unsent) in [(None, vec![envelope(1)]), (Some(1), vec![])] {
        let mut rig = Rig::joined(config());
        rig.submit(envelope(1)).unwrap();
        rig.writable(PLENTY);
        rig.writable(PLENTY);
        rig.input(Input::Close);
        assert_eq!(rig.wait_for(WakeupReason::Flush), [Output::Wake]);
        assert!(matches!(
            rig.writable(PLENTY)[..],
            [Output::Transmit(Frame::Close(_))]
        ));
        if let Some(number) = pong {
            assert_eq!(rig.pong(number), [Output::Confirmed { total: 1 }]);
        }
        let closed = Output::Event(Event::Closed { unsent });
        assert_eq!(rig.wait_for(WakeupReason::Close), [Output::Hangup, closed]);
        assert_eq!(rig.now, Time::ZERO + secs(10));
    }
}

#[test]
fn closing_without_a_join_says_nothing_to_the_relay() {
    type Prepare = fn(&mut Rig);
    let closed = |unsent: Vec<Bytes>| Output::Event(Event::Closed { unsent });
    let cases: [(Prepare, &[Output]); 3] = [
        (|_| {}, &[]),
        (|rig| drop(rig.timeout()), &[Output::Hangup]),
        (
            |rig| drop((rig.timeout(), rig.input(Input::Connected))),
            &[Output::Hangup],
        ),
    ];
    for (prepare, hangup) in cases {
        let mut rig = Rig::new(config(), key());
        prepare(&mut rig);
        assert_eq!(
            rig.input(Input::Close),
            [hangup, &[closed(vec![])]].concat()
        );

        // With something to send, it goes on trying for a while.
        let mut rig = Rig::new(config(), key());
        let envelope = envelope_from(rig.client.address().as_str(), 1);
        rig.submit(envelope.clone()).unwrap();
        rig.timeout();
        rig.input(Input::Close);
        rig.input(Input::Connected);
        assert_eq!(
            rig.wait_for(WakeupReason::Flush),
            [Output::Hangup, closed(vec![envelope])]
        );
        assert_eq!(rig.now, Time::ZERO + secs(5));
    }
}

#[test]
fn a_link_that_ends_while_closing_is_the_end() {
    let mut rig = Rig::joined(config());
    assert_eq!(rig.input(Input::Close), [Output::Wake]);
    assert_eq!(
        rig.disconnected("reset"),
        [Output::Event(Event::Closed { unsent: vec![] })]
    );
}

#[test]
fn after_the_end_nothing_happens() {
    let mut rig = Rig::joined(config());
    rig.input(Input::Close);
    rig.disconnected("reset");
    for input in [
        Input::Connected,
        Input::Received(envelope(1)),
        Input::Writable { bytes: PLENTY },
        Input::Pong {
            payload: payload(1),
        },
        Input::PeerClosed(Close::new(CloseCode::REPLACED, "")),
        Input::Disconnected {
            why: "again".into(),
        },
        Input::Close,
    ] {
        rig.now = rig.now + secs(100);
        assert_eq!(rig.input(input.clone()), [], "{input:?}");
        assert_eq!(rig.wakeup, None);
        assert_eq!(rig.timeout(), []);
    }
}

#[test]
fn outputs_that_are_left_in_a_turn_stay_and_are_due_at_once() {
    let mut rig = Rig::joined(config());
    rig.submit(envelope(1)).unwrap();
    let mut turn = rig
        .client
        .handle_input(Input::Writable { bytes: PLENTY }, rig.now);
    assert_eq!(turn.poll_output(), Some(message(1)));
    assert_eq!(
        turn.finish(),
        Some(Wakeup {
            at: rig.now,
            reason: WakeupReason::Backlog
        })
    );
    assert_eq!(rig.timeout(), [ping(1)]);
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut rig = Rig::joined(config());
    rig.now = Time::ZERO + secs(20);
    rig.writable(PLENTY);
    rig.now = Time::ZERO;
    rig.submit(envelope(1)).unwrap();
    rig.writable(PLENTY);
    assert_eq!(rig.due(), (Time::ZERO + secs(45), WakeupReason::Ping));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert!(config().build().is_ok());
    let zero = |setting| Err(ConfigError::Zero { setting });
    let cases = [
        (
            config().heartbeat_interval(Duration::ZERO),
            zero("heartbeat interval"),
        ),
        (config().max_tries(Some(0)), zero("number of tries")),
        (config().backoff(Duration::ZERO, secs(1)), zero("backoff")),
        (
            config().backoff(secs(2), secs(1)),
            Err(ConfigError::BackoffAboveCap {
                base: secs(2),
                cap: secs(1),
            }),
        ),
        (
            config().outbox_bytes(65_535),
            Err(ConfigError::OutboxTooSmall {
                outbox_bytes: 65_535,
                envelope_bytes: 65_536,
            }),
        ),
    ];
    for (config, expected) in cases {
        assert_eq!(config.build(), expected);
    }
}

#[test]
fn a_client_can_move_to_another_thread() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Client>();
}

/// Something that a driver, honest or not, does to a client.
#[derive(Clone, Debug)]
enum Act {
    Submit,
    Do(Input),
    /// The pong of one of the last pings.
    Pong {
        back: u64,
    },
    Sleep(u64),
    /// Sleep until the wake-up.
    Wait,
    /// A timeout although nothing is due.
    Spurious,
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => Just(Input::Connected),
        2 => Just(Input::Disconnected { why: "lost".into() }),
        2 => Just(Input::Received(envelope(0))),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| Input::Received(bytes.into())),
        1 => prop_oneof![Just(1000), Just(1001), Just(1008), Just(4001)]
            .prop_map(|code| Input::PeerClosed(Close::new(CloseCode(code), ""))),
        8 => (0_usize..300).prop_map(|bytes| Input::Writable { bytes }),
        1 => Just(Input::Close),
    ]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => Just(Act::Submit),
        12 => inputs().prop_map(Act::Do),
        4 => (0_u64..3).prop_map(|back| Act::Pong { back }),
        2 => (0_u64..40_000).prop_map(Act::Sleep),
        6 => Just(Act::Wait),
        2 => Just(Act::Spurious),
    ];
    vec(act, 0..150)
}

/// What became of a client and its envelopes.
#[derive(Debug, Default, PartialEq)]
struct History {
    outputs: Vec<Output>,
    submitted: Vec<Bytes>,
    confirmed: u64,
    unsent: Option<Vec<Bytes>>,
}

impl History {
    /// Notes outputs, and checks that nothing follows the last event.
    fn note(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            assert_eq!(self.unsent, None, "{output:?} after the end");
            match &output {
                Output::Confirmed { total } => {
                    assert!(*total > self.confirmed);
                    self.confirmed = *total;
                }
                Output::Event(Event::GaveUp { unsent, .. } | Event::Closed { unsent }) => {
                    self.unsent = Some(unsent.clone());
                }
                Output::Dial
                | Output::Wake
                | Output::Transmit(_)
                | Output::Hangup
                | Output::Event(_) => {}
            }
            self.outputs.push(output);
        }
    }

    /// Everything that was submitted is confirmed or has come back, in order.
    fn check(&self) {
        let confirmed = usize::try_from(self.confirmed).unwrap();
        assert_eq!(self.unsent.as_deref(), Some(&self.submitted[confirmed..]));
    }
}

fn small() -> Config {
    config().max_tries(Some(4)).outbox_count(8).build().unwrap()
}

/// Closes a client and does nothing else for it: it must end by itself.
fn close_and_wait(rig: &mut Rig, history: &mut History) {
    let outputs = rig.input(Input::Close);
    history.note(outputs);
    for _ in 0..100 {
        let Some(wakeup) = rig.wakeup else { return };
        rig.now = rig.now.max(wakeup.at);
        let outputs = rig.timeout();
        history.note(outputs);
    }
    panic!("it does not end: {:?}", rig.client);
}

fn replay(acts: &[Act]) -> History {
    let mut rig = Rig::new(small(), name());
    let mut history = History::default();
    let outputs = rig.timeout();
    history.note(outputs);
    let mut id = 0;
    for act in acts {
        let outputs = match act {
            Act::Submit => {
                id += 1;
                let outputs = rig.submit(envelope(id));
                if outputs.is_ok() {
                    history.submitted.push(envelope(id));
                }
                outputs.unwrap_or_default()
            }
            Act::Do(input) => rig.input(input.clone()),
            Act::Pong { back } => {
                let pings = history
                    .outputs
                    .iter()
                    .filter(|it| matches!(it, Output::Transmit(Frame::Ping(_))));
                let number = (pings.count() as u64).saturating_sub(*back);
                rig.pong(number)
            }
            Act::Sleep(ms) => {
                rig.now = rig.now + Duration::from_millis(*ms);
                rig.timeout()
            }
            Act::Wait => {
                rig.now = rig.wakeup.map_or(rig.now, |wakeup| wakeup.at.max(rig.now));
                rig.timeout()
            }
            Act::Spurious => {
                let before = rig.wakeup;
                if before.is_none_or(|wakeup| wakeup.at > rig.now) {
                    assert_eq!(rig.timeout(), []);
                    assert_eq!(rig.wakeup, before);
                }
                vec![]
            }
        };
        history.note(outputs);
    }
    close_and_wait(&mut rig, &mut history);
    history
}

/// A driver that keeps its word, a network that may fail at any moment, and a relay behind it.
#[derive(Debug, Default)]
struct World {
    is_dialling: bool,
    is_up: bool,
    wants_writable: bool,
    to_relay: VecDeque<Frame>,
    to_client: VecDeque<Bytes>,
    at_relay: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Submit,
    Connect,
    Write(usize),
    ReachRelay,
    ReachClient,
    Cut,
    Wait,
}

impl World {
    fn follow(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Dial => self.is_dialling = true,
                Output::Wake => self.wants_writable = true,
                Output::Transmit(frame) => self.to_relay.push_back(frame.clone()),
                Output::Hangup => self.cut(),
                Output::Confirmed { .. } | Output::Event(_) => {}
            }
        }
    }

    fn cut(&mut self) {
        let at_relay = core::mem::take(&mut self.at_relay);
        *self = Self {
            at_relay,
            ..Self::default()
        };
    }

    fn step(&mut self, rig: &mut Rig, fate: Fate, id: &mut u64, history: &mut History) {
        let outputs = match fate {
            Fate::Submit => {
                *id += 1;
                let outputs = rig.submit(envelope(*id));
                if outputs.is_ok() {
                    history.submitted.push(envelope(*id));
                }
                outputs.unwrap_or_default()
            }
            Fate::Connect if self.is_dialling => {
                self.is_dialling = false;
                self.is_up = true;
                rig.input(Input::Connected)
            }
            Fate::Write(bytes) if self.wants_writable => {
                let outputs = rig.writable(bytes);
                self.wants_writable = bytes == 0 || !outputs.is_empty();
                outputs
            }
            Fate::ReachRelay => {
                match self.to_relay.pop_front() {
                    Some(Frame::Message(message)) => self.at_relay.push(message),
                    Some(Frame::Ping(payload)) => self.to_client.push_back(payload),
                    Some(Frame::Close(_)) | None => {}
                }
                vec![]
            }
            Fate::ReachClient => match self.to_client.pop_front() {
                Some(payload) => rig.input(Input::Pong { payload }),
                None => vec![],
            },
            Fate::Cut if self.is_up || self.is_dialling => {
                self.cut();
                rig.disconnected("cut")
            }
            Fate::Wait if rig.wakeup.is_some() => {
                rig.now = rig.wakeup.map_or(rig.now, |wakeup| wakeup.at);
                rig.timeout()
            }
            Fate::Connect | Fate::Write(_) | Fate::Cut | Fate::Wait => vec![],
        };
        self.follow(&outputs);
        history.note(outputs);
    }

    /// The relay has everything that is confirmed, and, duplicates aside, in the right order.
    fn check(&self, history: &History) {
        let mut first_times: Vec<&Bytes> = vec![];
        for message in &self.at_relay {
            if !first_times.contains(&message) {
                first_times.push(message);
            }
        }
        assert!(
            first_times
                .iter()
                .copied()
                .eq(history.submitted.iter().take(first_times.len()))
        );
        assert!(first_times.len() as u64 >= history.confirmed);
    }
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        6 => Just(Fate::Submit),
        3 => Just(Fate::Connect),
        8 => (0_usize..300).prop_map(Fate::Write),
        12 => Just(Fate::ReachRelay),
        6 => Just(Fate::ReachClient),
        1 => Just(Fate::Cut),
        2 => Just(Fate::Wait),
    ];
    vec(fate, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a driver does: no panic, one end, no envelope lost; and the same log gives the same
    /// outputs.
    #[test]
    fn any_history_has_one_end_and_loses_nothing(acts in acts()) {
        let history = replay(&acts);
        history.check();
        prop_assert_eq!(replay(&acts), history);
    }

    /// With an honest driver and relay, confirmed means arrived, whenever the network fails.
    #[test]
    fn what_is_confirmed_has_arrived_in_order(fates in fates()) {
        let mut rig = Rig::new(config().max_tries(None).outbox_count(8), name());
        let (mut world, mut history, mut id) = (World::default(), History::default(), 0);
        let outputs = rig.timeout();
        world.follow(&outputs);
        for fate in fates {
            world.step(&mut rig, fate, &mut id, &mut history);
            world.check(&history);
        }
        // Then the network recovers, and everything arrives.
        for _ in 0..1000 {
            if rig.client.is_flushed() && world.is_up {
                break;
            }
            if !world.is_up && !world.is_dialling {
                world.step(&mut rig, Fate::Wait, &mut id, &mut history);
            }
            for fate in [Fate::Connect, Fate::Write(300), Fate::ReachRelay, Fate::ReachClient] {
                world.step(&mut rig, fate, &mut id, &mut history);
            }
            world.check(&history);
        }
        prop_assert_eq!(history.confirmed, id_count(&history));
        close_and_wait(&mut rig, &mut history);
        history.check();
    }

    /// No bytes that a relay sends during or after a handshake make a client panic.
    #[test]
    fn no_relay_makes_a_client_panic(messages in vec(vec(any::<u8>(), 0..100), 0..5), joins: bool) {
        let mut rig = if joins { Rig::joined(small()) } else { Rig::new(small(), key()) };
        rig.timeout();
        rig.input(Input::Connected);
        for message in messages {
            rig.input(Input::Received(message.into()));
        }
    }

    #[test]
    fn backoff_stays_within_its_bounds(seed: u64, tries in 1_u32..12) {
        let config = config().max_tries(None);
        let mut rig = Rig::new(config.clone(), name());
        rig.client = Client::new(config, name(), seed, Time::ZERO, UNIX);
        rig.timeout();
        for exponent in 0..tries {
            let outputs = rig.disconnected("refused");
            let (_, delay) = rig.redial(&outputs);
            prop_assert!(delay <= Duration::from_millis(500 << exponent).min(secs(30)));
        }
    }
}

fn id_count(history: &History) -> u64 {
    history.submitted.len() as u64
}
