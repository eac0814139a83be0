//! Runs futures on threads of shuttle, and polls them only when they were woken.
//!
//! Shuttle's own `block_on` polls once more whenever the thread had to wait for a lock meanwhile,
//! which would make up for a wake-up that is lost there.

use core::any::type_name_of_val;
use core::future::poll_fn;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

use shuttle::thread::{Builder, JoinHandle};

/// Waking only marks: nobody is interrupted in it, whatever lock is held.
struct Mark {
    is_woken: AtomicBool,
    thread: Waker,
}

impl Mark {
    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::SeqCst)
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.thread.wake_by_ref();
    }
}

/// Runs `future` on a thread of its own, which is named after its type, so that a deadlock says who
/// waits: `pinch_driver::relay::timer::spawn`.
pub(crate) fn start<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let name = type_name_of_val(&future);
    let name = name.split(['<', '{']).next().unwrap_or(name).to_owned();
    Builder::new()
        .name(name)
        .spawn(|| block_on(future))
        .unwrap()
}

/// Runs `future` on this thread. Each poll has a waker of its own, and the one before is worth
/// nothing: whoever keeps an old one wakes nobody.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut last: Option<Arc<Mark>> = None;
    shuttle::future::block_on(poll_fn(|cx| {
        if last.as_ref().is_some_and(|mark| !mark.is_woken()) {
            return Poll::Pending;
        }
        let mark = Arc::new(Mark {
            is_woken: AtomicBool::new(false),
            thread: cx.waker().clone(),
        });
        last = Some(Arc::clone(&mark));
        future
            .as_mut()
            .poll(&mut Context::from_waker(&Waker::from(mark)))
    }))
}
