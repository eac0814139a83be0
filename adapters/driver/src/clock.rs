//! The one place where the clocks of the machine are read and turned into what the machines take.

use core::future::Future;
use core::pin::pin;
use core::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::{Either, select};
use pinch_proto::{Time, Timeout, UnixMillis};

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

    /// Completes with `None` when `timeout`, which began by this clock, is over, if `future` has
    /// not completed by then.
    pub(crate) async fn within<T>(
        &self,
        timeout: &mut Timeout,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        loop {
            let sleep = self.runtime.sleep_until(self.instant(timeout.wakeup()));
            match select(future.as_mut(), pin!(sleep)).await {
                Either::Left((output, _)) => return Some(output),
                Either::Right(_) if timeout.is_over(self.now()) => return None,
                Either::Right(_) => {}
            }
        }
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

/// Completes with `None` when `timeout` is over, if `future` has not completed by then. A pause of
/// the process does not use it up.
pub(crate) async fn within<R: Runtime, T>(
    runtime: &R,
    timeout: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let clock = Clock::new(runtime.clone());
    let mut timeout = Timeout::new(timeout, clock.now());
    clock.within(&mut timeout, future).await
}

/// The wall clock. A clock set before 1970 counts as 1970.
#[must_use]
pub fn unix_now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
