//! The same as [`hub_lifecycle`](super::hub_lifecycle), where the relay has two to four shards.

use arbitrary::Unstructured;

use crate::story::Story;

/// Lets the story of `data` happen.
///
/// # Panics
/// If a hub and its model differ, or if something is not so that must always be so.
pub fn run(data: &[u8]) {
    if let Err(broken) = parse(data).run() {
        panic!("{broken}");
    }
}

/// The story of `data`, step by step.
#[must_use]
pub fn story(data: &[u8]) -> String {
    parse(data).to_string()
}

/// Every sequence of bytes is a story, as in [`hub_lifecycle::parse`](super::hub_lifecycle::parse).
///
/// # Panics
/// Never.
#[must_use]
pub fn parse(data: &[u8]) -> Story {
    Story::of_shards(&mut Unstructured::new(data)).expect("bytes that are missing are zeros")
}
