//! How threads are started for a test.

use core::num::NonZero;

use pinch_conformance::Harness;
use pinch_polling::{Polling, block_on};

/// As many threads as the type says, for one test.
pub(crate) struct Threads<const COUNT: usize>;

impl<const COUNT: usize> Harness for Threads<COUNT> {
    type Runtime = Polling;

    const ENDS: bool = false;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Polling) -> F) -> T {
        let threads = NonZero::new(COUNT).expect("a thread at least");
        let polling = Polling::with_threads(threads).expect("threads");
        block_on(test(polling))
    }
}
