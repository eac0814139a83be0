//! Threads for a test, and waiting that ends: what hangs fails.

use core::num::NonZero;
use core::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use pinch_polling::{Polling, block_on};

/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn start(threads: usize) -> Polling {
    Polling::with_threads(NonZero::new(threads).expect("a thread at least")).expect("threads")
}

/// What `future` gives, which comes soon.
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> T {
    // The timer is not one of those that are tested.
    let late = async {
        Timer::after(PATIENCE).await;
        panic!("waited in vain");
    };
    block_on(or(future, late))
}
