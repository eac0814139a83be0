//! Days in the lives of relays, in seconds: whatever happens, nothing is lost, and nothing is left.
//!
//! Each is told with a few seeds. `PINCH_SEEDS` says with how many; then `--release` is wise.

use core::num::NonZeroU16;
use core::time::Duration;

use fastrand::Rng;
use pinch_proto::Host;
use pinch_proto::hub::{Config, OnDuplicate, QueueConfig, SlowReader};
use pinch_sim::network::{Conditions, Fate, Habits, World};

const MINUTE: Duration = Duration::from_secs(60);

/// The seeds of a scenario.
fn seeds() -> core::ops::Range<u64> {
    0..std::env::var("PINCH_SEEDS").map_or(3, |seeds| seeds.parse().expect("a number"))
}

/// Relays of one shard, of two with a good bus, and of three with one that loses and repeats.
fn conditions(seed: u64) -> Conditions {
    let mut conditions = Conditions::default();
    let kind = u16::try_from(seed % 3).expect("a small number");
    conditions.shards = NonZeroU16::MIN.saturating_add(kind);
    conditions.bus_loses = if kind == 2 { 5 } else { 0 };
    conditions
}

/// A world in which so many agents have lived for a while.
fn inhabited(seed: u64, agents: u32, habits: Habits) -> World {
    let mut world = World::under(seed, conditions(seed));
    let agents = world.add_agents(agents);
    world.start(agents.clone());
    world.live(agents, habits);
    world.run_for(3 * MINUTE);
    world
}

/// Lets the world come to rest, and looks whether everything has arrived and nothing is held.
fn expect_a_good_end(world: World) {
    let world = at_rest(world);
    assert_eq!(world.ledger().count(Fate::Told), 0, "{world:?}");
    assert_eq!(world.counts().returned, 0, "{world:?}");
}

/// Lets the world come to rest. What is neither delivered nor given back to its sender then, was
/// told: in vain, because a sender has left or its connection has broken, and in that case counted.
fn at_rest(mut world: World) -> World {
    world.calm_down();
    assert!(world.ledger().count(Fate::Delivered) > 0, "{world:?}");
    let left = world.empty();
    assert!(left.is_empty(), "{left:?} in {world:?}");
    for relay in 0..world.relay_count() {
        world.restart_relay(relay, Duration::ZERO);
    }
    world.run_for(MINUTE);
    let (lost, returned) = (world.ledger().lost(), world.counts().returned);
    assert!(lost <= returned, "{lost} of {returned} in {world:?}");
    world
}

#[test]
fn busy_agents_lose_nothing_whatever_happens_to_them() {
    for seed in seeds() {
        expect_a_good_end(inhabited(seed, 20, Habits::busy()));
    }
}

#[test]
fn short_sessions_get_each_envelope_once() {
    for seed in seeds() {
        let mut world = World::under(seed, conditions(seed));
        let agents = world.add_agents(20);
        world.live(agents.clone(), Habits::short_sessions());
        world.start(agents);
        world.run_for(3 * MINUTE);
        assert_eq!(world.ledger().repeated(), 0, "{world:?}");
        expect_a_good_end(world);
    }
}

#[test]
fn a_relay_that_restarts_is_found_again_by_everybody_and_has_lost_nothing() {
    for seed in seeds() {
        let mut world = inhabited(seed, 200, Habits::person());
        let joins = world.counts().joins;
        world.restart_relay(0, Duration::from_secs(20));
        world.run_for(2 * MINUTE);
        assert!(world.counts().joins > joins + 50, "{world:?}");
        expect_a_good_end(world);
    }
}

#[test]
fn a_relay_that_is_killed_keeps_what_its_store_has() {
    for seed in seeds() {
        let mut world = inhabited(seed, 20, Habits::busy());
        world.kill_relay(0, Duration::from_secs(20));
        world.run_for(2 * MINUTE);
        world.kill_relay(0, Duration::ZERO);
        world.run_for(2 * MINUTE);
        expect_a_good_end(world);
    }
}

#[test]
fn a_partition_that_heals_delays_and_loses_nothing() {
    for (seed, seconds) in seeds().zip([5, 20, 120].into_iter().cycle()) {
        let mut world = inhabited(seed, 20, Habits::busy());
        world.partition(0..10);
        world.run_for(Duration::from_secs(seconds));
        world.heal();
        world.run_for(MINUTE);
        expect_a_good_end(world);
    }
}

#[test]
fn readers_that_stop_do_not_concern_others_and_get_everything_later() {
    for seed in seeds() {
        let mut world = inhabited(seed, 20, Habits::busy());
        for round in 0..6 {
            for agent in 0..10 {
                world.stop_reading(agent + round);
            }
            world.run_for(Duration::from_secs(5 + u64::from(round) * 5));
            for agent in 0..10 {
                world.read_on(agent + round);
            }
            world.run_for(Duration::from_secs(10));
        }
        expect_a_good_end(world);
    }
}

#[test]
fn clocks_that_jump_cost_connections_and_nothing_else() {
    for seed in seeds() {
        let mut world = inhabited(seed, 20, Habits::busy());
        for jump in 0..10 {
            world.jump_relay_clock(0, Duration::from_secs(1 << jump));
            world.jump_agent_clock(jump, Duration::from_secs(3600));
            world.run_for(Duration::from_secs(20));
        }
        at_rest(world);
    }
}

#[test]
fn a_seed_is_a_story_that_can_be_told_again() {
    let tell = |seed| {
        let world = inhabited(seed, 10, Habits::busy());
        (world.counts(), world.stats(0))
    };
    assert_eq!(tell(10), tell(10));
    assert_ne!(tell(10), tell(11));
}

/// Settings whose limits are reached all the time.
fn tight(random: &mut Rng) -> Config {
    let queue = QueueConfig::new()
        .recipient_count(random.u64(5..200))
        .sender_bytes(random.u64(100_000..1_000_000))
        .read_bytes(random.usize(1000..100_000));
    let slow_readers = [
        SlowReader::Spill,
        SlowReader::Refuse,
        SlowReader::Disconnect,
    ];
    let on_duplicate = [OnDuplicate::Refuse, OnDuplicate::Replace];
    let host = Host::parse("relay").expect("a host");
    Config::new(host)
        .rate_limit(None)
        .join_limit(None)
        .queue(queue)
        .outbox_bytes(random.usize(70_000..200_000))
        .outbox_count(random.usize(2..100))
        .unconfirmed_bytes(random.usize(10_000..200_000))
        .unconfirmed_count(random.usize(1..50))
        .slow_reader(slow_readers[random.usize(..3)])
        .on_duplicate(on_duplicate[random.usize(..2)])
}

/// Something bad.
fn befall(world: &mut World, agents: u32, random: &mut Rng) {
    let agent = random.u32(..agents);
    let relay = random.u32(..2);
    let some = Duration::from_millis(random.u64(..60_000));
    match random.u8(..12) {
        0 | 1 => world.reset(agent),
        2 => world.cut(agent),
        3 => world.crash(agent),
        4 => world.leave([agent]),
        5 | 6 => world.stop_reading(agent),
        7 => world.read_on(agent),
        8 => world.partition(agent / 2..agent),
        9 => world.heal(),
        10 => world.jump_relay_clock(relay, some),
        _ => world.restart_relay(relay, some),
    }
}

#[test]
fn whatever_befalls_agents_and_relays_nothing_is_lost() {
    const AGENTS: u32 = 24;

    for seed in seeds() {
        let mut random = Rng::with_seed(seed);
        let relays = [tight(&mut random), tight(&mut random)];
        let mut conditions = conditions(seed);
        conditions.link_bytes = random.usize(1000..100_000);
        conditions.store_ms = (0, random.u64(1..3000));
        conditions.bus_ms = (0, random.u64(1..40));
        let mut world = World::with(seed, conditions, &relays);
        let agents = world.add_agents(AGENTS);
        world.start(agents.clone());
        world.live(agents.clone(), Habits::busy());
        for _ in 0..random.u32(1..60) {
            world.run_for(Duration::from_millis(random.u64(..20_000)));
            befall(&mut world, AGENTS, &mut random);
            world.start(agents.clone());
        }
        at_rest(world);
    }
}
