//! The cases of the suite that look at the process as a whole.

use pinch_async_std::AsyncStd;
use pinch_conformance::Harness;

struct Global;

impl Harness for Global {
    type Runtime = AsyncStd;

    const ENDS: bool = false;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(AsyncStd) -> F) -> T {
        async_std::task::block_on(test(AsyncStd))
    }
}

pinch_conformance::process_suite!(Global);
