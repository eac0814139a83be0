//! Has shuttle try many schedules of a scenario, or the one that has failed.

use std::env;

use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, RoundRobinScheduler, Scheduler,
};
use shuttle::{Config, Runner};

/// How many schedules each scheduler tries, unless `PINCH_SCHEDULES` says otherwise.
const SCHEDULES: usize = 200;

/// What PCT calls the depth of a bug: one more than the preemptions that it takes.
const DEPTH: usize = 3;

/// The same tests, the same schedules; `SHUTTLE_RANDOM_SEED` makes others.
const SEED: u64 = 42;

/// Runs `scenario` once for each schedule. It fails if it panics, and if all tasks wait for each
/// other; shuttle then says who waits, and prints the schedule that leads there. With that in
/// `PINCH_REPLAY`, the test runs this one only.
pub(crate) fn explore(scenario: fn()) {
    if let Ok(schedule) = env::var("PINCH_REPLAY") {
        let replay = ReplayScheduler::new_from_encoded(schedule.trim());
        run(replay, scenario);
        return;
    }
    let schedules = env::var("PINCH_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    let random = RandomScheduler::new_from_seed(SEED, schedules);
    run(random, scenario);
    let pct = PctScheduler::new_from_seed(SEED, DEPTH, schedules);
    run(pct, scenario);
}

/// Runs `scenario` once, with tasks that take turns.
pub(crate) fn take_turns(scenario: fn()) {
    run(RoundRobinScheduler::new(1), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    // It would say that memory is sequentially consistent here.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(scenario);
}
