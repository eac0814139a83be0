//! Everything that a fuzzer can be let loose on: functions of bytes that fail if a promise is broken.
//!
//! The fuzzer calls them with bytes of its own, the tests with those that it has found, and `replay`
//! with those of a file, to tell what happened.

pub mod address;
pub mod client;
mod damage;
pub mod driver_bytes;
pub mod envelope_view;
pub mod handshake_agent;
pub mod handshake_relay;
pub mod http;
pub mod hub_lifecycle;
pub mod hub_shards;
mod parties;
pub mod store;
pub mod url;

use core::fmt;

use arbitrary::{Result, Unstructured};

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line, and its folder of inputs.
    pub name: &'static str,
    /// Lets an input happen; panics if a promise is broken.
    pub run: fn(&[u8]),
    /// What an input means, line by line.
    pub story: fn(&[u8]) -> String,
}

macro_rules! target {
    ($name:ident) => {
        Target {
            name: stringify!($name),
            run: $name::run,
            story: $name::story,
        }
    };
}

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    target!(address),
    target!(client),
    target!(driver_bytes),
    target!(envelope_view),
    target!(handshake_agent),
    target!(handshake_relay),
    target!(http),
    target!(hub_lifecycle),
    target!(hub_shards),
    target!(store),
    target!(url),
];

/// The target with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What happens in a story: what `read` makes of the rest of `input`, `most` steps at most.
fn steps<'a, T>(
    input: &mut Unstructured<'a>,
    most: usize,
    read: impl Fn(&mut Unstructured<'a>) -> Result<T>,
) -> Vec<T> {
    let mut steps = vec![];
    while !input.is_empty() && steps.len() < most {
        steps.extend(read(input));
    }
    steps
}

/// Things that happened, one line for each.
fn lines<T: fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    let lines = things.into_iter().map(|thing| format!("{thing}\n"));
    lines.collect()
}
