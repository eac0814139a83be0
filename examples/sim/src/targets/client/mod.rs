//! The client: whatever happens, it says what its documentation says, loses nothing, and ends once.
//!
//! An input is the life of a client: its settings, and what befalls it. The `world` around it has
//! a driver that keeps its word, and a relay that keeps none but one: it answers no ping that has not
//! arrived. The `model` is a second reading of the documentation, and says what the client must
//! say. On top of that, whatever happened:
//!
//! - every envelope that was taken is confirmed, or given back in the last event, in order, and what
//!   is confirmed has arrived;
//! - a call too early changes nothing; after a call nothing is due;
//! - it ends in one event, in bounded time, and then holds nothing;
//! - the same inputs give the same outputs, also if nobody takes them before the end.

mod model;
mod relay;
mod script;
mod world;

use core::time::Duration;

use self::script::{Finale, Script, Settings};
use self::world::{Outcome, World};
use super::lines;

/// Lets a client live.
///
/// # Panics
///
/// If it breaks a promise.
pub fn run(data: &[u8]) {
    let script = Script::read(data);
    let mut world = World::new(&script.settings);
    if let Err(broken) = world.call_while_due() {
        panic!("{broken}\n{:?}", script.settings);
    }
    for (at, step) in script.steps.iter().enumerate() {
        if let Err(broken) = world.step(step) {
            let lived = lines(&script.steps[..=at]);
            panic!("{broken}\n{:?}\n{lived}", script.settings);
        }
    }
    let settings = &script.settings;
    let end = end(&mut world, script.finale, settings)
        .and_then(|()| world.repeat())
        .and_then(|()| world.expect_emptiness());
    if let Err(broken) = end {
        panic!("{broken}\n{}", story(data));
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let script = Script::read(data);
    let finale = match script.finale {
        Finale::Leave => "in the end the user leaves, and nobody helps",
        Finale::Recover => "in the end the link is good, all is delivered, and the user leaves",
        Finale::Silence => "in the end nobody says anything any more",
    };
    lines([format!("{:?}", script.settings)]) + &lines(&script.steps) + &lines([finale])
}

fn end(world: &mut World, finale: Finale, settings: &Settings) -> Outcome {
    world.call_while_due()?;
    match finale {
        Finale::Leave => leave(world, settings),
        Finale::Recover => recover(world),
        Finale::Silence => fall_silent(world, settings),
    }
}

/// Whoever leaves waits once for what is unconfirmed, and once for the relay's farewell.
fn leave(world: &mut World, settings: &Settings) -> Outcome {
    world.close()?;
    world.sleep(settings.close_timeout * 2)?;
    world.expect_end()
}

/// As soon as a good relay can be reached, everything gets there.
fn recover(world: &mut World) -> Outcome {
    if world.is_dialing() || world.has_link() {
        world.cut()?;
    }
    let was_closing = world.model.flush_until.is_some();
    for _ in 0..400 {
        if world.model.is_ended() {
            let has_arrived = world.model.confirmed == world.model.accepted.len();
            let is_excused = was_closing || world.model.flush_until.is_none();
            return (has_arrived || is_excused)
                .then_some(())
                .ok_or_else(|| "not everything has arrived".into());
        }
        if world.is_dialing() {
            world.join()?;
        } else if world.has_link() {
            world.exchange()?;
            if world.model.outbox().is_empty() {
                world.close()?;
                world.exchange()?;
            }
        } else if let Some(wakeup) = world.wakeup() {
            world.sleep(wakeup.at.since(world.now()))?;
        }
    }
    world.expect_end()
}

/// A relay that says nothing any more is given up within a heartbeat and the time for its pong, and
/// dialled until there are no more tries, or the user leaves.
fn fall_silent(world: &mut World, settings: &Settings) -> Outcome {
    let patience = settings.heartbeat_interval + settings.pong_timeout;
    let mut patience = patience.max(settings.join_timeout) + 2 * settings.step();
    if world.model.flush_until.is_some() {
        patience += settings.close_timeout + 2 * settings.step();
    }
    let mut silent_since = world.now();
    for _ in 0..2000 {
        if !world.has_link() {
            silent_since = world.now();
        }
        while world.has_link() && !world.model.is_asleep() {
            world.write(1000)?;
        }
        let silence = world.now().since(silent_since);
        if silence > patience {
            return Err(format!("nobody minds a silence of {silence:?}"));
        }
        let Some(wakeup) = world.wakeup() else {
            return world.expect_end();
        };
        world.sleep(wakeup.at.since(world.now()).max(Duration::from_nanos(1)))?;
    }
    leave(world, settings)
}
