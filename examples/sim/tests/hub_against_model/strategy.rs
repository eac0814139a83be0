//! Stories by proptest: the same steps as the fuzzer's, chosen so that most of them mean much.

use pinch_sim::story::{
    Agent, Carry, Clock, Credit, Manner, Pong, Queue, Session, Settings, Size, Socket, Step, Store,
    To, What, Who,
};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn one_of<T: Copy + core::fmt::Debug + 'static, const N: usize>(
    values: [T; N],
) -> BoxedStrategy<T> {
    select(values.to_vec()).boxed()
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let policies = (
        one_of(Settings::PRESENT),
        one_of(Settings::ADDRESSING),
        one_of(Settings::ON_DUPLICATE),
        one_of(Settings::SLOW_READER),
        one_of(Settings::DELIVERY),
        one_of(Settings::ACK_ON_CLOSE),
        one_of(Settings::RATE_LIMIT),
        one_of(Settings::PONG_TIMEOUT),
        one_of(Settings::STALL_TIMEOUT),
    );
    let of_connections = (
        one_of(Settings::ENVELOPE_BYTES),
        one_of(Settings::OUTBOX_BYTES),
        one_of(Settings::OUTBOX_COUNT),
        one_of(Settings::UNCONFIRMED_BYTES),
        one_of(Settings::UNCONFIRMED_COUNT),
        one_of(Settings::REFUSAL_BYTES),
    );
    let of_the_hub = (
        one_of(Settings::TOTAL_OUTBOX_BYTES),
        one_of(Settings::MAX_CONNECTIONS),
        one_of(Settings::MAX_PARKED_BUCKETS),
        one_of(Settings::MAX_BLOCKS),
        option::weighted(0.7, queue()),
        one_of(Settings::SHARDS),
        any::<bool>(),
    );
    (policies, of_connections, of_the_hub).prop_map(|(policies, of_connections, of_the_hub)| {
        let (
            present,
            addressing,
            on_duplicate,
            slow_reader,
            delivery,
            ack_on_close,
            rate_limit,
            pong_timeout,
            stall_timeout,
        ) = policies;
        let (
            envelope_bytes,
            outbox_bytes,
            outbox_count,
            unconfirmed_bytes,
            unconfirmed_count,
            refusal_bytes,
        ) = of_connections;
        let (
            total_outbox_bytes,
            max_connections,
            max_parked_buckets,
            max_blocks,
            queue,
            shards,
            bus_loses,
        ) = of_the_hub;
        Settings {
            present,
            addressing,
            on_duplicate,
            slow_reader,
            delivery,
            ack_on_close,
            envelope_bytes,
            outbox_bytes,
            outbox_count,
            total_outbox_bytes,
            unconfirmed_bytes,
            unconfirmed_count,
            refusal_bytes,
            max_connections,
            max_parked_buckets,
            max_blocks,
            pong_timeout,
            stall_timeout,
            rate_limit,
            queue,
            shards,
            bus_loses,
            ..Settings::default()
        }
    })
}

fn queue() -> impl Strategy<Value = Queue> {
    let numbers = (
        one_of(Queue::RECIPIENT_COUNT),
        one_of(Queue::SENDER_BYTES),
        one_of(Queue::TOTAL_BYTES),
        one_of(Queue::TTL),
        one_of(Queue::ANSWER_TIMEOUT),
        one_of(Queue::UNANSWERED_BYTES),
        one_of(Queue::READ_BYTES),
    );
    numbers.prop_map(
        |(
            recipient_count,
            sender_bytes,
            total_bytes,
            ttl,
            answer_timeout,
            unanswered_bytes,
            read_bytes,
        )| Queue {
            recipient_count,
            sender_bytes,
            total_bytes,
            ttl,
            answer_timeout,
            unanswered_bytes,
            read_bytes,
        },
    )
}

pub(crate) fn step(settings: &Settings) -> BoxedStrategy<Step> {
    let has_bus = u32::from(settings.shards > 1);
    prop_oneof![
        1 + 50 * has_bus => carry().prop_map(Step::Bus),
        12 => (agent(), any::<bool>(), session()).prop_map(|(agent, by_key, session)| Step::Join(agent, by_key, session)),
        25 => (who(), agent(), any::<u8>()).prop_map(|(from, to, more)| Step::Send {
            from,
            to: To::Agent(to),
            what: What::Message,
            size: Size::Small(more),
        }),
        12 => (who(), to(), what(), size()).prop_map(|(from, to, what, size)| Step::Send { from, to, what, size }),
        18 => (who(), credit()).prop_map(|(who, credit)| Step::Writable(who, credit)),
        11 => (who(), pong()).prop_map(|(who, pong)| Step::Pong(who, pong)),
        8 => who().prop_map(Step::Catch),
        10 => (who(), socket()).prop_map(|(who, socket)| Step::Socket(who, socket)),
        22 => store().prop_map(Step::Store),
        16 => clock().prop_map(Step::Clock),
        2 => Just(Step::Forget),
        1 => (who(), agent()).prop_map(|(from, to)| Step::Flood(from, to)),
        1 => Just(Step::Shutdown),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
    .boxed()
}

fn agent() -> BoxedStrategy<Agent> {
    one_of(Agent::ALL)
}

fn session() -> impl Strategy<Value = Session> {
    prop_oneof![
        5 => Just(Session::Plain),
        2 => Just(Session::SendOnly),
        1 => Just(Session::Deduplicates),
        1 => Just(Session::Browser),
    ]
}

fn who() -> impl Strategy<Value = Who> {
    let earlier = prop::bool::weighted(0.08);
    (agent(), earlier).prop_map(|(agent, earlier)| Who { agent, earlier })
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        6 => agent().prop_map(To::Agent),
        1 => Just(To::Themselves),
        1 => Just(To::Stranger),
        1 => Just(To::Named),
        1 => agent().prop_map(To::OtherHost),
        1 => Just(To::Malformed),
        2 => Just(To::Nobody),
    ]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => Just(What::Message),
        2 => Just(What::Confirm),
        3 => (0..=What::MAX_TYPE).prop_map(What::OfType),
        1 => Just(What::LongId),
        2 => Just(What::Heartbeat),
        1 => agent().prop_map(What::Foreign),
        1 => Just(What::Garbage),
        1 => Just(What::Empty),
        3 => agent().prop_map(What::Block),
        3 => agent().prop_map(What::Unblock),
        1 => Just(What::BlockNobody),
        1 => Just(What::UnblockNobody),
        1 => any::<bool>().prop_map(What::Mislabelled),
    ]
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        4 => any::<u8>().prop_map(Size::Small),
        2 => Just(Size::Limit),
        1 => Just(Size::OverLimit),
        1 => Just(Size::TooBig),
        4 => Just(Size::Large),
    ]
}

fn credit() -> impl Strategy<Value = Credit> {
    prop_oneof![Just(Credit::Plenty), any::<u8>().prop_map(Credit::Bytes)]
}

fn pong() -> impl Strategy<Value = Pong> {
    prop_oneof![
        6 => Just(Pong::Last),
        4 => Just(Pong::First),
        1 => Just(Pong::Again),
        1 => (0..40_u8).prop_map(Pong::Number),
        1 => Just(Pong::Unasked),
        1 => Just(Pong::Garbled),
    ]
}

fn socket() -> impl Strategy<Value = Socket> {
    prop_oneof![
        4 => any::<bool>().prop_map(Socket::Blocked),
        3 => any::<u8>().prop_map(Socket::Ping),
        2 => (any::<u8>(), 0..4_u8).prop_map(|(bytes, short)| Socket::Partial(bytes, short)),
        1 => one_of(Socket::FAULTS).prop_map(Socket::Faulty),
        3 => any::<bool>().prop_map(Socket::PeerClosed),
        3 => any::<bool>().prop_map(Socket::Closed),
    ]
}

fn store() -> impl Strategy<Value = Store> {
    let manner = prop_oneof![
        8 => Just(Manner::Asked),
        2 => one_of(Manner::FAILURES).prop_map(Manner::Fails),
        1 => one_of(Manner::REFUSALS).prop_map(Manner::Refuses),
        2 => Just(Manner::Sparing),
        1 => Just(Manner::Nonsense),
        1 => Just(Manner::MakesUp),
    ];
    prop_oneof![
        10 => (1..=5_u8).prop_map(Store::Serve),
        8 => manner.prop_map(Store::Do),
        8 => (0..4_u8).prop_map(Store::Answer),
        1 => (0..4_u8).prop_map(Store::Lose),
        1 => any::<u8>().prop_map(Store::Unknown),
    ]
}

fn carry() -> impl Strategy<Value = Carry> {
    prop_oneof![
        12 => (any::<u8>(), 1..=5_u8).prop_map(|(pair, count)| Carry::Deliver(pair, count)),
        1 => any::<u8>().prop_map(Carry::Lose),
        1 => any::<u8>().prop_map(Carry::Repeat),
        1 => any::<u8>().prop_map(Carry::Delay),
    ]
}

fn clock() -> impl Strategy<Value = Clock> {
    prop_oneof![
        6 => any::<u8>().prop_map(Clock::Pass),
        3 => any::<u8>().prop_map(Clock::Skip),
        6 => Just(Clock::Due),
        3 => Just(Clock::AlmostDue),
        1 => Just(Clock::Long),
        1 => any::<u8>().prop_map(Clock::Back),
        3 => Just(Clock::Timeout),
    ]
}
