//! The driver: whatever bytes come, in whatever pieces, a relay says what the protocol asks for, serves
//! others meanwhile, and lets go of everything in the end.
//!
//! An input is a story of strangers who write HTTP requests, WebSocket frames, envelopes and garbage into
//! sockets that give and take a byte at a time, stall, end and break, while friends go on talking. The
//! relay is the one of `pinch-driver`, on a runtime of the story's own (`executor`) and sockets in memory
//! (`socket`). The judges are second readings of the protocol: `ear` of what a server may write, `rfc6455`
//! and `verdict` of what a client's bytes mean, given all of them at once. On top of that:
//!
//! - what the friends say to each other arrives, once, in order, whatever the strangers do;
//! - nothing is made up, doubled or overtaken on its way to a stranger;
//! - the counters add up, no task spins, and none is left without a stream;
//! - whoever falls silent is given up in time, a shutdown ends in time, and a relay that is dropped ends
//!   at once; then every task, timer and socket has been given back.

mod ear;
pub(super) mod executor;
mod friend;
mod pieces;
mod rfc6455;
mod script;
pub(super) mod socket;
mod stranger;
mod verdict;
mod world;

use self::script::{Finale, Script};
use self::world::World;
use super::lines;

/// Lets a relay live.
///
/// # Panics
/// If it breaks a promise.
pub fn run(data: &[u8]) {
    let script = Script::read(data);
    let told = |upto: usize, broken: String| -> ! {
        let steps = lines(script.steps.iter().take(upto));
        panic!("{broken}\n{:?}\n{steps}", script.settings)
    };
    let mut world = match World::new(&script.settings) {
        Ok(world) => world,
        Err(broken) => told(0, broken),
    };
    for (at, step) in script.steps.iter().enumerate() {
        if let Err(broken) = world.step(step) {
            told(at + 1, broken);
        }
    }
    let end = world.calm_down().and_then(|()| world.end(script.finale));
    if let Err(broken) = end {
        panic!("{broken}\n{}", story(data));
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let script = Script::read(data);
    let finale = match script.finale {
        Finale::Silence => "in the end all strangers fall silent",
        Finale::ShutDown => "in the end the relay is shut down",
        Finale::Drop => "in the end the relay is dropped",
    };
    lines([format!("{:?}", script.settings)]) + &lines(&script.steps) + &lines([finale])
}
