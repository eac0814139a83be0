//! How smol's executor is started for a test.

use pinch_conformance::Harness;
use pinch_smol::Smol;

/// The one that the process has.
pub(crate) struct Global;

impl Harness for Global {
    type Runtime = Smol;

    const ENDS: bool = false;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Smol) -> F) -> T {
        smol::block_on(test(Smol))
    }
}
