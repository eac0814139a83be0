//! How a tokio runtime with several threads is started for a test.

use pinch_conformance::Harness;
use pinch_tokio::Tokio;
use tokio::runtime::Builder;

/// Several threads, as a program has them by default.
pub(crate) struct Threads;

impl Harness for Threads {
    type Runtime = Tokio;

    const ENDS: bool = true;

    const SHARDS: u16 = 2;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Tokio) -> F) -> T {
        let runtime = Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(test(Tokio))
    }
}
