//! What holds after every step of any sequence of inputs, sensible or not: the books balance,
//! every connection and every envelope ends exactly once, order is kept, limits are limits, and
//! the same inputs give the same outputs.

mod support;
#[path = "support/watched.rs"]
mod watched;

use core::time::Duration;

use pinch_proto::Time;
use pinch_proto::hub::{Admission, Config, Fault, Hub, OnDuplicate, RateLimit};
use proptest::prelude::*;

use support::{PLENTY, START, config, drain, millis};
use watched::{Said, Watched, replay_one};

const AGENTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const OUTBOX_BYTES: usize = 450;
const OUTBOX_COUNT: usize = 3;
const TOTAL_BYTES: usize = 900;
const BUCKETS: usize = 2;
const BLOCKS: usize = 5;
const CONNECTIONS: usize = 5;

/// One thing that happens. Numbers choose among the connections and the agents that there are.
#[derive(Clone, Debug)]
enum Step {
    Register(usize, Admission),
    /// From a connection, to somebody, with so many bytes of ciphertext.
    Message(usize, To, usize),
    Block(usize, usize),
    Unblock(usize, usize),
    Odd(usize, Odd),
    Pong(usize, Payload),
    Writable(usize, usize),
    Blocked(usize, bool),
    Ping(usize),
    Alive(usize),
    Faulty(usize, Fault),
    PeerClosed(usize),
    Closed(usize),
    Shutdown,
    Wait(Duration),
    WaitForWakeup,
    TurnBack(Duration),
}

#[derive(Clone, Debug)]
enum To {
    Connected(usize),
    Agent(usize),
    Nobody,
    NoAddress,
}

/// A message that is no envelope for another agent.
#[derive(Clone, Debug)]
enum Odd {
    Garbage,
    RelayOnly,
    Heartbeat,
}

#[derive(Clone, Debug)]
enum Payload {
    OfLastPing,
    Unasked,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // From six on it may be a connection that has ended.
    let conn = || prop_oneof![15 => 0usize..6, 1 => 6usize..60];
    let agent = || 0..AGENTS.len();
    let admission = prop_oneof![Just(Admission::Proven), Just(Admission::Named)];
    let to = prop_oneof![
        14 => (0usize..6).prop_map(To::Connected),
        4 => agent().prop_map(To::Agent),
        1 => Just(To::Nobody),
        1 => Just(To::NoAddress),
    ];
    let credit = prop_oneof![Just(0), Just(1), Just(150), Just(PLENTY)];
    let fault = prop_oneof![
        Just(Fault::Text),
        Just(Fault::InvalidUtf8),
        Just(Fault::TooBig),
        Just(Fault::Protocol)
    ];
    let odd = prop_oneof![
        1 => Just(Odd::Garbage),
        1 => Just(Odd::RelayOnly),
        4 => Just(Odd::Heartbeat),
    ];
    let payload = prop_oneof![3 => Just(Payload::OfLastPing), 1 => Just(Payload::Unasked)];
    let step = prop_oneof![
        20 => (agent(), admission).prop_map(|(agent, how)| Step::Register(agent, how)),
        80 => (conn(), to, 0usize..150).prop_map(|(conn, to, size)| Step::Message(conn, to, size)),
        3 => (conn(), agent()).prop_map(|(conn, agent)| Step::Block(conn, agent)),
        3 => (conn(), agent()).prop_map(|(conn, agent)| Step::Unblock(conn, agent)),
        4 => (conn(), odd).prop_map(|(conn, odd)| Step::Odd(conn, odd)),
        25 => (conn(), payload).prop_map(|(conn, payload)| Step::Pong(conn, payload)),
        60 => (conn(), credit).prop_map(|(conn, bytes)| Step::Writable(conn, bytes)),
        8 => (conn(), any::<bool>()).prop_map(|(conn, moves)| Step::Blocked(conn, moves)),
        2 => conn().prop_map(Step::Ping),
        2 => conn().prop_map(Step::Alive),
        1 => (conn(), fault).prop_map(|(conn, fault)| Step::Faulty(conn, fault)),
        1 => conn().prop_map(Step::PeerClosed),
        3 => conn().prop_map(Step::Closed),
        20 => (0u64..40).prop_map(|wait| Step::Wait(millis(wait))),
        6 => Just(Step::WaitForWakeup),
        1 => (0u64..100).prop_map(|back| Step::TurnBack(millis(back))),
    ];
    // Most relays run for long; some are shut down along the way.
    (
        prop::collection::vec(step, 0..250),
        prop::option::weighted(0.1, 0usize..250),
    )
        .prop_map(|(mut steps, shutdown)| {
            if let Some(at) = shutdown {
                steps.insert(at.min(steps.len()), Step::Shutdown);
            }
            steps
        })
}

/// Limits so tight, and times so short, that all of them are met.
fn configs() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(replace, limited, patient, narrow)| {
            config()
                .on_duplicate(if replace {
                    OnDuplicate::Replace
                } else {
                    OnDuplicate::Refuse
                })
                .rate_limit(limited.then(|| RateLimit::new(30.0, 5).expect("a limit")))
                .heartbeat_interval(millis(150))
                .pong_timeout(millis(40))
                .join_timeout(millis(50))
                .stall_timeout(millis(if patient { 300 } else { 60 }))
                .close_timeout(millis(90))
                .ack_probe_interval(millis(20))
                .unconfirmed_bytes(if narrow { 150 } else { PLENTY })
                .envelope_bytes(200)
                .message_bytes(230)
                .outbox_bytes(OUTBOX_BYTES)
                .outbox_count(OUTBOX_COUNT)
                .total_outbox_bytes(TOTAL_BYTES)
                .refusal_bytes(700)
                .max_connections(CONNECTIONS)
                .max_parked_buckets(BUCKETS)
                .max_blocks(2, BLOCKS)
                .build()
                .expect("settings that fit")
        },
    )
}

fn run(config: Config, steps: Vec<Step>, by_shutdown: bool) -> Watched {
    let mut watched = Watched::new(config);
    for step in steps {
        watched.take(step);
    }
    watched.everybody_reads();
    watched.everybody_leaves(by_shutdown);
    watched
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_and_everything_ends_once(
        config in configs(), steps in steps(), by_shutdown: bool,
    ) {
        run(config, steps, by_shutdown);
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(config in configs(), steps in steps()) {
        let watched = run(config.clone(), steps, true);
        let mut hub = Hub::new(config, [3; 16], Time::ZERO, START);
        for (logged, said) in watched.log.into_iter().zip(watched.said) {
            prop_assert_eq!(replay_one(&mut hub, logged).0, said);
        }
        prop_assert_eq!(hub.stats(), watched.hub.stats());
    }

    #[test]
    fn turns_that_are_dropped_lose_nothing_and_change_no_order(
        config in configs(), steps in steps(), polls in prop::collection::vec(0usize..3, 1..20),
    ) {
        let watched = run(config.clone(), steps, true);
        let mut hub = Hub::new(config, [3; 16], Time::ZERO, START);
        let mut said = Said::default();
        for ((call, now), polls) in watched.log.into_iter().zip(polls.into_iter().cycle()) {
            let mut turn = call.make(&mut hub, now, &mut said.frames);
            said.outputs.extend((0..polls).map_while(|_| turn.poll_output()));
        }
        said.outputs.extend(drain(hub.handle_timeout(watched.now)).0);
        let mut expected = Said::default();
        for mut turn in watched.said {
            expected.frames.append(&mut turn.frames);
            expected.outputs.append(&mut turn.outputs);
        }
        prop_assert_eq!(said, expected);
    }
}
