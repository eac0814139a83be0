//! The one place where the clocks of the machine are read and turned into what the machines take.

use core::future::Future;
use core::pin::pin;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::{Either, select};
use pinch_proto::{Time, UnixMillis};

use crate::Runtime;

/// Counts [`Time`] from the moment at which it was made.
#[derive(Clone, Debug)]
pub(crate) struct Clock<R> {
    runtime: R,
    epoch: Instant,
}

impl<R: Runtime> Clock<R> {
    pub(crate) fn new(runtime: R) -> Self {
        let epoch = runtime.now();
        Self { runtime, epoch }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.runtime.now().saturating_duration_since(self.epoch)
    }

    /// The runtime's moment of `time`, or one that lies practically never.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        const FAR: core::time::Duration = core::time::Duration::from_secs(86_400 * 365);
        let after = time.since(Time::ZERO);
        self.epoch
            .checked_add(after)
            .unwrap_or_else(|| self.epoch + FAR)
    }
}

/// Completes with `None` at `until`, if `future` has not completed by then.
pub(crate) async fn within<R: Runtime, T>(
    runtime: &R,
    until: Instant,
    future: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(future), pin!(runtime.sleep_until(until))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// The wall clock. A clock set before 1970 counts as 1970.
pub(crate) fn unix_now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
