//! The durable queue: whatever becomes of its disk, it does what a queue in memory does, and keeps it.
//!
//! An input is the life of a queue on a disk in memory: batches, and what befalls the process and the
//! disk between them and in their midst. The `judge` has the reference, `MemoryQueue`, and knows what
//! of it may be there. A `world` without mercy asks for that again and again:
//!
//! - each outcome is that of the reference; a batch fails only if the disk did, and says why;
//! - of a batch that has failed nothing is there, unless the disk failed to make it durable, and to
//!   flush it once more: then all of it, or nothing;
//! - what was confirmed is there, byte for byte, when the queue is opened again, whether it was
//!   closed, killed, or the power failed; limits count it, and an operator sees it;
//! - in the end, nothing that the tables count again contradicts them.

mod judge;
mod model;
mod script;
mod world;

use self::script::Script;
use self::world::World;
use super::lines;

/// Lets a queue live.
///
/// # Panics
///
/// If it breaks a promise. The message is its life up to there.
pub fn run(data: &[u8]) {
    let script = Script::read(data);
    let mut world = World::new();
    for (at, step) in script.steps.iter().enumerate() {
        if let Err(broken) = world.step(step) {
            panic!("{}{broken}", lines(&script.steps[..=at]));
        }
    }
    if let Err(broken) = world.end() {
        panic!("{}{broken}", story(data));
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let end = "in the end the disk works, and the queue is closed and opened again";
    lines(Script::read(data).steps) + &lines([end])
}
