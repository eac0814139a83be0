//! The cases of the suite that look at the process as a whole.

use pinch_conformance::Harness;
use pinch_tokio::Tokio;
use tokio::runtime::Builder;

struct Threads;

impl Harness for Threads {
    type Runtime = Tokio;

    const ENDS: bool = true;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Tokio) -> F) -> T {
        let runtime = Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(test(Tokio))
    }
}

pinch_conformance::process_suite!(Threads);
