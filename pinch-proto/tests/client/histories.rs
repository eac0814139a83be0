//! Random histories: no panic, one end, no envelope lost, the same log with the same outputs.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::client::{Client, Config, Duplicates, Event, Input, Output, UpgradeRejection};
use pinch_proto::wire::{Envelope, MessageType};
use pinch_proto::{Close, CloseCode, Frame, Time};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::duplicates::without_duplicates;
use crate::rig::*;

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
        1 => (prop_oneof![Just(503), Just(404)], 0_u64..3).prop_map(|(status, wait)| {
            Input::UpgradeRejected {
                rejection: UpgradeRejection { status, reason: "".into() },
                retry_after: Some(Duration::from_secs(wait)),
            }
        }),
        6 => received().prop_map(Input::Received),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| Input::Received(bytes.into())),
        1 => prop_oneof![Just(1000), Just(1001), Just(1008), Just(4001)]
            .prop_map(|code| Input::PeerClosed(Close::new(CloseCode(code), ""))),
        8 => (0_usize..300).prop_map(|bytes| Input::Writable { bytes }),
        1 => Just(Input::Close),
    ]
}

/// Few enough that they come again, some of them from the relay itself or without an id.
fn received() -> impl Strategy<Value = Bytes> {
    let senders = prop_oneof![6 => Just("pinch:bob@x"), 2 => Just("pinch:eve@x"), 1 => Just("")];
    let types = prop_oneof![4 => Just(MessageType::Message), 1 => Just(MessageType::QueueFull)];
    let ids = prop_oneof![1 => Just(Bytes::new()), 6 => (0_u64..3).prop_map(payload)];
    (senders, types, ids, 0_i64..2).prop_map(|(from, r#type, message_id, timestamp)| {
        Envelope {
            from_address: from.into(),
            r#type: r#type.into(),
            message_id,
            timestamp,
            ..Envelope::default()
        }
        .to_bytes()
    })
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

fn replay(acts: &[Act], duplicates: Duplicates) -> History {
    let mut rig = Rig::new(small().duplicates(duplicates), name());
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
                    Some(Frame::Pong(_) | Frame::Close(_)) | None => {}
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
        let history = replay(&acts, Duplicates::default());
        history.check();
        prop_assert_eq!(replay(&acts, Duplicates::default()), history);
    }

    /// Whatever happens, the only difference that dropping duplicates makes is that they are gone.
    #[test]
    fn duplicates_are_left_out_and_nothing_else_changes(acts in acts()) {
        let dropping = replay(&acts, Duplicates::Drop { remembered: 3 });
        let mut delivering = replay(&acts, Duplicates::Deliver);
        delivering.outputs = without_duplicates(delivering.outputs, 3);
        prop_assert_eq!(dropping, delivering);
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
    fn backoff_stays_within_its_bounds(seed: [u8; 16], tries in 1_u32..12) {
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
