//! How a runtime is started for one case, and what is looked at when the case has ended.

use core::future::Future;

use pinch_driver::Runtime;

use crate::tracked::Tracked;
use crate::wait::eventually;

/// Starts a runtime for one test.
pub trait Harness {
    /// The adapter.
    type Runtime: Runtime;

    /// Whether the runtime ends with [`run`](Self::run), and all its tasks with it. One that belongs
    /// to the process goes on.
    const ENDS: bool;

    /// Runs `test` to its end on a runtime of its own, or on the process's where there is only one.
    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Self::Runtime) -> F) -> T;
}

/// Runs `case`. When it has ended, nothing of what the runtime gave away may be held: no task, no
/// socket, no timer.
pub(crate) fn run<H: Harness>(case: impl AsyncFnOnce(&Tracked<H::Runtime>)) {
    H::run(async |runtime| {
        let tracked = Tracked::new(runtime);
        // Boxed, for the large ones would fill the stack of a test where a runtime moves them around.
        Box::pin(case(&tracked)).await;
        // Clients that were dropped say goodbye in the background.
        eventually(
            || format!("nothing is held, not {:?}", tracked.held()),
            || tracked.held().is_none(),
        )
        .await;
    });
}
