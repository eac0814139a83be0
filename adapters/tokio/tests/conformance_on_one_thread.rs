//! The suite that every adapter has to pass, on a tokio runtime with one thread.

use pinch_conformance::Harness;
use pinch_tokio::Tokio;
use tokio::runtime::Builder;

struct OneThread;

impl Harness for OneThread {
    type Runtime = Tokio;

    const ENDS: bool = true;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Tokio) -> F) -> T {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(test(Tokio))
    }
}

pinch_conformance::suite!(OneThread);
