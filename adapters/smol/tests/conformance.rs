//! The suite that every adapter has to pass, on smol's executor.

use pinch_conformance::Harness;
use pinch_smol::Smol;

struct Global;

impl Harness for Global {
    type Runtime = Smol;

    const ENDS: bool = false;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Smol) -> F) -> T {
        smol::block_on(test(Smol))
    }
}

pinch_conformance::suite!(Global);
