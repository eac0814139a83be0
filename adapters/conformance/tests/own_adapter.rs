//! The adapter that pinch-driver's documentation shows passes the suite like any other.

#[allow(unreachable_pub, reason = "it is written for the documentation")]
#[path = "../../driver/docs/own_adapter.rs"]
mod adapter;

use adapter::OneThread;
use pinch_conformance::Harness;

struct Own;

impl Harness for Own {
    type Runtime = OneThread;

    const ENDS: bool = false;

    fn run<T, F: Future<Output = T>>(test: impl FnOnce(OneThread) -> F) -> T {
        async_io::block_on(test(OneThread::start()))
    }
}

pinch_conformance::suite!(Own);
