//! What a relay delivers twice: handed over once, whatever happens to the link.

use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::UnixMillis;
use pinch_proto::client::{Config, Duplicates, Event, Input, Output, WakeupReason};
use pinch_proto::wire::{Envelope, MessageType, Payload, QueueFull};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use crate::rig::*;

const BOB: &str = "pinch:bob@relay.example.com";

fn from_bob(id: u64) -> Bytes {
    envelope_from(BOB, id)
}

fn received(message: Bytes) -> Vec<Output> {
    vec![Output::Event(Event::Received(message))]
}

fn remembering(remembered: u32) -> Config {
    config().duplicates(Duplicates::Drop { remembered })
}

/// The outputs that are left without what was handed over among the last `remembered`: the slow and
/// obvious way.
pub(crate) fn without_duplicates(outputs: Vec<Output>, remembered: usize) -> Vec<Output> {
    let mut handed_over: VecDeque<Bytes> = VecDeque::new();
    let is_new = |output: &Output| {
        let Output::Event(Event::Received(message)) = output else {
            return true;
        };
        let envelope = Envelope::decode(message.clone()).unwrap();
        if envelope.from_address.is_empty()
            || envelope.message_id.is_empty()
            || envelope.r#type() == MessageType::QueueFull
        {
            return true;
        }
        if handed_over.contains(message) {
            return false;
        }
        handed_over.push_front(message.clone());
        handed_over.truncate(remembered);
        true
    };
    outputs.into_iter().filter(is_new).collect()
}

impl Rig {
    fn receive(&mut self, message: Bytes) -> Vec<Output> {
        self.input(Input::Received(message))
    }

    /// Loses the link, and joins again.
    fn rejoin(&mut self) {
        let outputs = self.disconnected("reset");
        self.redial(&outputs);
        self.join();
    }
}

#[test]
fn what_comes_again_is_dropped_and_counted_on_this_link_and_on_later_ones() {
    let mut rig = Rig::joined(config());
    for id in 1..=3 {
        assert_eq!(rig.receive(from_bob(id)), received(from_bob(id)));
    }
    assert_eq!(rig.receive(from_bob(2)), []);
    assert_eq!(rig.client.dropped_duplicates(), 1);
    for link in 1..=2 {
        rig.rejoin();
        for id in 2..=3 {
            assert_eq!(rig.receive(from_bob(id)), [], "{id} on link {link}");
        }
        let next = from_bob(3 + link);
        assert_eq!(rig.receive(next.clone()), received(next));
    }
    assert_eq!(rig.client.dropped_duplicates(), 5);

    let outputs = rig.input(Input::Close);
    assert_eq!(outputs, [Output::Wake]);
    assert_eq!(rig.receive(from_bob(1)), [], "also when it leaves");
    assert_eq!(rig.receive(from_bob(9)), received(from_bob(9)));
}

#[test]
fn whoever_wants_duplicates_gets_them() {
    let mut rig = Rig::joined(config().duplicates(Duplicates::Deliver));
    for _ in 0..2 {
        for _ in 0..2 {
            assert_eq!(rig.receive(from_bob(1)), received(from_bob(1)));
        }
        rig.rejoin();
    }
    assert_eq!(rig.client.dropped_duplicates(), 0);
}

#[test]
fn a_duplicate_is_a_sign_of_life_and_nothing_else() {
    let mut rig = Rig::joined(config());
    rig.receive(from_bob(1));
    rig.wait_for(WakeupReason::Ping);
    assert_eq!(rig.writable(PLENTY), [ping(1)]);
    assert_eq!(rig.writable(PLENTY), []);
    assert_eq!(rig.due().1, WakeupReason::Pong);
    assert_eq!(rig.receive(from_bob(1)), []);
    assert_eq!(rig.due().1, WakeupReason::Ping);
}

#[test]
fn the_bound_is_that_of_the_settings_and_what_it_forgets_comes_through() {
    let mut rig = Rig::joined(remembering(2));
    for id in 1..=3 {
        rig.receive(from_bob(id));
    }
    rig.rejoin();
    assert_eq!(rig.receive(from_bob(2)), []);
    assert_eq!(rig.receive(from_bob(1)), received(from_bob(1)));

    let mut rig = Rig::joined(config());
    for id in 0..=8192 {
        rig.receive(from_bob(id));
    }
    rig.rejoin();
    assert_eq!(rig.receive(from_bob(1)), []);
    assert_eq!(rig.receive(from_bob(0)), received(from_bob(0)));
}

#[test]
fn what_the_relay_says_itself_may_come_twice() {
    let refusal = Envelope {
        message_id: payload(1),
        to_address: ALICE.into(),
        ..Envelope::from_relay(
            Payload::QueueFull(QueueFull {
                recipient_address: BOB.into(),
                reason: "full".into(),
            }),
            UNIX,
        )
    }
    .to_bytes();
    let nameless = envelope_from("", 1);
    let mut rig = Rig::joined(config());
    for message in [refusal, nameless] {
        for _ in 0..2 {
            assert_eq!(rig.receive(message.clone()), received(message.clone()));
        }
    }
}

#[test]
fn an_id_that_is_used_again_for_something_else_is_no_duplicate() {
    let mut rig = Rig::joined(config());
    let at = |timestamp: UnixMillis| {
        Envelope {
            from_address: BOB.into(),
            message_id: payload(1),
            timestamp: timestamp.0,
            ..Envelope::default()
        }
        .to_bytes()
    };
    for timestamp in [UnixMillis(1), UnixMillis(2)] {
        assert_eq!(rig.receive(at(timestamp)), received(at(timestamp)));
        assert_eq!(rig.receive(at(timestamp)), []);
    }
}

#[test]
fn what_was_not_handed_over_is_not_remembered() {
    let mut rig = Rig::joined(config());
    let outputs = rig.disconnected("reset");
    assert_eq!(rig.receive(from_bob(1)), [], "there is no link");
    rig.redial(&outputs);
    assert_eq!(rig.receive(from_bob(1)), [], "it is not joined");
    rig.join();
    assert_eq!(rig.receive(from_bob(1)), received(from_bob(1)));
}

#[test]
fn what_waits_in_the_outputs_while_the_link_is_cut_is_handed_over_once() {
    let mut rig = Rig::joined(config());
    let input = Input::Received(from_bob(1));
    assert!(rig.client.handle_input(input, rig.now).finish().is_some());
    let outputs = rig.disconnected("reset");
    assert_eq!(outputs[..1], received(from_bob(1)));
    rig.redial(&outputs);
    rig.join();
    assert_eq!(rig.receive(from_bob(1)), []);
}

/// A relay that delivers at least once: it knows what has arrived by what the client confirms, and
/// begins after each cut with all the rest.
#[derive(Debug, Default)]
struct Relay {
    sent: Vec<Bytes>,
    confirmed: usize,
    /// What the link carries.
    under_way: VecDeque<Bytes>,
    /// How many of the first ones have arrived on this link or on an earlier one.
    arrived: usize,
    handed_over: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Send {
        id: u64,
    },
    Arrive,
    /// The relay hears that all has arrived that did, but for the last so many.
    Confirm {
        but: usize,
    },
    Cut,
}

impl Relay {
    fn step(&mut self, rig: &mut Rig, fate: Fate) {
        match fate {
            Fate::Send { id } => {
                let number = self.sent.len();
                let envelope = Envelope {
                    from_address: BOB.into(),
                    message_id: payload(id),
                    timestamp: i64::try_from(number).unwrap(),
                    ..Envelope::default()
                };
                self.sent.push(envelope.to_bytes());
                self.under_way.push_back(envelope.to_bytes());
            }
            Fate::Arrive => {
                if let Some(message) = self.under_way.pop_front() {
                    let outputs = rig.receive(message.clone());
                    if !outputs.is_empty() {
                        assert_eq!(outputs, received(message.clone()));
                        self.handed_over.push(message);
                    }
                    self.arrived = self.arrived.max(self.sent.len() - self.under_way.len());
                }
            }
            Fate::Confirm { but } => {
                self.confirmed = self.confirmed.max(self.arrived.saturating_sub(but));
            }
            Fate::Cut => {
                rig.rejoin();
                self.under_way = self.sent[self.confirmed..].to_vec().into();
            }
        }
    }
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => (0_u64..5).prop_map(|id| Fate::Send { id }),
        6 => Just(Fate::Arrive),
        2 => (0_usize..5).prop_map(|but| Fate::Confirm { but }),
        1 => Just(Fate::Cut),
    ];
    vec(fate, 0..200)
}

proptest! {
    /// At least once by the relay is exactly once for the user, and in order, even if senders use
    /// ids again; as long as no more is unconfirmed than is remembered.
    #[test]
    fn at_least_once_becomes_exactly_once(fates in fates()) {
        let mut rig = Rig::joined(remembering(200).max_tries(None));
        let mut relay = Relay::default();
        for fate in fates {
            relay.step(&mut rig, fate);
            prop_assert_eq!(&relay.handed_over[..], &relay.sent[..relay.handed_over.len()]);
        }
        while !relay.under_way.is_empty() {
            relay.step(&mut rig, Fate::Arrive);
        }
        prop_assert_eq!(relay.handed_over, relay.sent);
    }
}
