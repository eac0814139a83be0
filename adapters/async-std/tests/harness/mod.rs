//! How async-std's executor is started for a test.

use pinch_async_std::AsyncStd;
use pinch_conformance::Harness;

/// The one that the process has.
pub(crate) struct Global;

impl Harness for Global {
    type Runtime = AsyncStd;

    const ENDS: bool = false;

    const SHARDS: u16 = 4;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(AsyncStd) -> F) -> T {
        async_std::task::block_on(test(AsyncStd))
    }
}
