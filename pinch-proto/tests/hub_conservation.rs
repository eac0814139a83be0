//! Nothing lost: whatever happens to agents and to the store, in whatever order, each envelope that
//! was accepted is confirmed by its recipient, or its sender was told; and each recipient gets what
//! it gets in the order in which it was accepted.

#[path = "support/ledger.rs"]
mod ledger;
mod support;

use core::time::Duration;

use pinch_proto::hub::{Config, OnDuplicate, QueueConfig, SlowReader};
use pinch_proto::queue::Failure;
use proptest::prelude::*;

use ledger::Ledger;
use support::{PLENTY, config, millis};

const AGENTS: [&str; 3] = ["a", "b", "c"];
const OUTBOX_COUNT: usize = 4;
const TOTAL_BYTES: usize = 1500;

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Register(usize),
    /// From an agent to an agent, with so many bytes of ciphertext.
    Message(usize, usize, usize),
    Writable(usize, usize),
    Pong(usize),
    PeerClosed(usize),
    Closed(usize),
    /// The store does the next things that it was asked; nobody hears of it yet.
    Execute(usize),
    /// It does the next thing with a failure.
    Fail(Failure),
    /// One of its outcomes is handed in.
    Answer(usize),
    Shutdown,
    Wait(Duration),
    WaitForWakeup,
}

fn steps(trouble: bool) -> impl Strategy<Value = Vec<Step>> {
    let agent = || 0..AGENTS.len();
    let credit = prop_oneof![Just(1), Just(150), Just(PLENTY)];
    let failure = prop_oneof![
        Just(Failure::DiskFull),
        Just(Failure::ReadOnly),
        Just(Failure::Broken)
    ];
    let step = prop_oneof![
        12 => agent().prop_map(Step::Register),
        60 => (agent(), agent(), 0usize..150).prop_map(|(from, to, size)| Step::Message(from, to, size)),
        40 => (agent(), credit).prop_map(|(conn, bytes)| Step::Writable(conn, bytes)),
        20 => agent().prop_map(Step::Pong),
        2 => agent().prop_map(Step::PeerClosed),
        4 => agent().prop_map(Step::Closed),
        30 => (1usize..4).prop_map(Step::Execute),
        5 => failure.prop_map(move |failure| if trouble { Step::Fail(failure) } else { Step::Execute(1) }),
        40 => (0usize..3).prop_map(Step::Answer),
        15 => (0u64..40).prop_map(|wait| Step::Wait(millis(wait))),
        5 => Just(Step::WaitForWakeup),
    ];
    let shutdown = prop::option::weighted(0.1, 0usize..200);
    (prop::collection::vec(step, 0..200), shutdown).prop_map(|(mut steps, shutdown)| {
        if let Some(at) = shutdown {
            steps.insert(at.min(steps.len()), Step::Shutdown);
        }
        steps
    })
}

fn configs(queue: QueueConfig) -> impl Strategy<Value = Config> {
    let slow = prop_oneof![
        4 => Just(SlowReader::Spill),
        1 => Just(SlowReader::Refuse),
        1 => Just(SlowReader::Disconnect),
    ];
    (any::<bool>(), any::<bool>(), slow).prop_map(move |(replace, narrow, slow)| {
        config()
            .on_duplicate(if replace {
                OnDuplicate::Replace
            } else {
                OnDuplicate::Refuse
            })
            .slow_reader(slow)
            .queue(queue)
            .heartbeat_interval(millis(150))
            .pong_timeout(millis(40))
            .join_timeout(millis(50))
            .stall_timeout(millis(60))
            .close_timeout(millis(90))
            .ack_probe_interval(millis(20))
            .unconfirmed_bytes(if narrow { 150 } else { PLENTY })
            .envelope_bytes(250)
            .message_bytes(300)
            .outbox_bytes(600)
            .outbox_count(OUTBOX_COUNT)
            .total_outbox_bytes(TOTAL_BYTES)
            .build()
            .expect("settings that fit")
    })
}

fn queue() -> QueueConfig {
    QueueConfig::new()
        .read_bytes(300)
        .retry_interval(millis(30))
        .expiry_interval(millis(500))
}

fn run(config: Config, steps: Vec<Step>) -> Ledger {
    let mut ledger = Ledger::new(config);
    for step in steps {
        ledger.take(step);
    }
    ledger.heal();
    ledger
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The store is slow, and never fails: then nobody has to be told of anything but a full
    /// outbox, at once.
    #[test]
    fn with_a_store_that_works_everything_arrives(
        config in configs(queue().answer_timeout(Duration::from_secs(3600))),
        steps in steps(false),
    ) {
        let ledger = run(config, steps);
        ledger.everything_accepted_was_confirmed();
    }

    /// The store fails, fills up, and answers too late.
    #[test]
    fn with_a_store_in_trouble_everything_arrives_or_its_sender_is_told(
        config in configs(
            queue().answer_timeout(millis(100)).recipient_count(8).sender_bytes(3000).unanswered_bytes(4000)
        ),
        steps in steps(true),
    ) {
        let ledger = run(config, steps);
        ledger.everything_accepted_was_confirmed_or_told();
    }
}
