//! The hub and its model in the same stories: they say the same, frame by frame, and what must always
//! be so is so.
//!
//! When they differ, the story is cut down to the steps that matter, and reads like a log.
//! `PROPTEST_CASES` says how many stories are told.

mod strategy;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use pinch_sim::story::{Broken, Run, Settings, Step, Story};
use pinch_sim::targets::{hub_lifecycle, hub_shards};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use proptest_state_machine::ReferenceStateMachine;

/// What stories are made of. Any step may follow any other, so nothing has to be remembered; the
/// model itself is in the [`Run`], since it learns from the hub what connections are called.
struct Stories;

impl ReferenceStateMachine for Stories {
    type State = Settings;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Settings> {
        strategy::settings().boxed()
    }

    fn transitions(settings: &Settings) -> BoxedStrategy<Step> {
        strategy::step(settings)
    }

    fn apply(settings: Settings, _: &Step) -> Settings {
        settings
    }
}

/// Goes through a story as [`Story::run`] does, and counts the steps that were taken: shrinking
/// begins with those that were not.
fn tell(story: &Story, taken: Option<&Arc<AtomicUsize>>) -> Result<(), Box<Broken>> {
    let mut run = Run::new(story.settings)?;
    for step in &story.steps {
        if let Some(taken) = taken {
            taken.fetch_add(1, Ordering::SeqCst);
        }
        run.take(step)?;
    }
    run.finish()
}

fn fails(broken: impl core::fmt::Display) -> TestCaseError {
    TestCaseError::fail(broken.to_string())
}

/// So many stories take a few seconds, also where nothing is optimized.
const CASES: u32 = 300;

fn config() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if asked { default.cases } else { CASES },
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hub_and_model_say_the_same(
        (story, taken) in Stories::sequential_strategy(1..80)
            .prop_map(|(settings, steps, taken)| (Story { settings, steps }, taken))
    ) {
        tell(&story, taken.as_ref()).map_err(fails)?;
    }

    #[test]
    fn every_sequence_of_bytes_is_a_story(
        story in prop::collection::vec(any::<u8>(), 0..400)
            .prop_map(|bytes| hub_lifecycle::parse(&bytes))
    ) {
        story.run().map_err(fails)?;
    }

    #[test]
    fn every_sequence_of_bytes_is_a_story_of_shards(
        story in prop::collection::vec(any::<u8>(), 0..400)
            .prop_map(|bytes| hub_shards::parse(&bytes))
    ) {
        story.run().map_err(fails)?;
    }
}
