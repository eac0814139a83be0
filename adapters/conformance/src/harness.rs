//! How a case is started, and what is looked at when it has ended.

use core::future::Future;

use pinch_driver::Runtime;

use crate::starter::{Starter, set_default_shards};
use crate::tracked::Tracked;
use crate::wait::eventually;

/// Starts a runtime for one test.
pub trait Harness {
    /// The adapter.
    type Runtime: Runtime;

    /// Whether the runtime ends with [`run`](Self::run), and all its tasks with it. One that belongs
    /// to the process goes on.
    const ENDS: bool;

    /// The number of shards of the relays in its tests, unless `PINCH_SHARDS` is set.
    const SHARDS: u16 = 1;

    /// Runs `test` to its end on a runtime of its own, or on the process's where there is only one.
    fn run<T, F: Future<Output = T>>(test: impl FnOnce(Self::Runtime) -> F) -> T;
}

/// Starts relays for one test, which needs nothing of them but a TCP port.
pub trait RelayHarness {
    /// How they are started.
    type Starter: Starter;

    /// Runs `test` to its end.
    fn run_with<T>(test: impl AsyncFnOnce(&Self::Starter) -> T) -> T;
}

impl<H: Harness> RelayHarness for H {
    type Starter = Tracked<H::Runtime>;

    fn run_with<T>(test: impl AsyncFnOnce(&Self::Starter) -> T) -> T {
        set_default_shards(H::SHARDS);
        H::run(async |runtime| test(&Tracked::new(runtime)).await)
    }
}

/// Runs `case`. When it has ended, nothing of what the runtime gave away, or of the relays, may be
/// held: no task, no socket, no timer.
pub(crate) fn run<H: RelayHarness>(case: impl AsyncFnOnce(&H::Starter)) {
    H::run_with(async |starter| {
        // Boxed, for the large ones would fill the stack of a test where a runtime moves them around.
        Box::pin(case(starter)).await;
        // Clients that were dropped say goodbye in the background.
        nothing_is_held(starter).await;
    });
}

/// Waits until nothing of the relays of `starter` lives: neither what they count nor anything else.
pub(crate) async fn nothing_is_held(starter: &impl Starter) {
    eventually(
        || format!("nothing is held, not {:?}", starter.held()),
        || starter.held().is_none(),
    )
    .await;
}
