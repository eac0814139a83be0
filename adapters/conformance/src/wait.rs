//! Waits that end. They use timers of their own, so that a runtime whose timers are broken fails
//! instead of hanging.

use core::fmt::Display;
use core::future::{Future, IntoFuture};
use core::time::Duration;

use async_io::Timer;
use futures_lite::FutureExt as _;
use futures_util::FutureExt as _;

/// What takes longer than this has gone wrong. It is long because machines that run tests are busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits for `future`, but not for ever.
pub(crate) async fn soon<F: IntoFuture>(what: impl Display, future: F) -> F::Output {
    let late = async {
        Timer::after(LIMIT).await;
        panic!("waited in vain: {what}")
    };
    future.into_future().or(late).await
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: impl Description, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + LIMIT;
    while !condition() {
        assert!(
            std::time::Instant::now() < end,
            "waited in vain: {}",
            what.describe()
        );
        Timer::after(millis(1)).await;
    }
}

/// What is waited for, described when it has not come.
pub(crate) trait Description {
    fn describe(self) -> String;
}

impl Description for &str {
    fn describe(self) -> String {
        self.into()
    }
}

impl<F: FnOnce() -> String> Description for F {
    fn describe(self) -> String {
        self()
    }
}

/// Tells whether the task that `future` would wait in has nothing to do yet.
pub(crate) fn is_pending(future: impl Future) -> bool {
    future.now_or_never().is_none()
}
