//! A hub goes through a story that was made of bytes, beside its model; then everybody leaves, and
//! nothing is held.

use arbitrary::{Arbitrary as _, Unstructured};

use crate::story::Story;

/// Lets the story of `data` happen.
///
/// # Panics
/// If hub and model differ, or if something is not so that must always be so. The message is the
/// story, as a log, up to there.
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

/// Every sequence of bytes is a story; one that ends in the middle of a step goes on with zeros.
///
/// # Panics
/// Never.
#[must_use]
pub fn parse(data: &[u8]) -> Story {
    Story::arbitrary(&mut Unstructured::new(data)).expect("bytes that are missing are zeros")
}
