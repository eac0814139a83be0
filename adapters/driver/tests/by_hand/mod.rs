//! A runtime without threads and sockets: the test polls its tasks and moves its clock.

use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::future::{Pending, pending};
use futures_util::io::Cursor;
use pinch_driver::Runtime;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks that the test polls, and a clock.
#[derive(Clone)]
pub(crate) struct ByHand {
    pub(crate) tasks: Arc<Mutex<VecDeque<Task>>>,
    epoch: Instant,
    /// Nanoseconds since the epoch.
    pub(crate) nanos: Arc<AtomicU64>,
    /// Nanoseconds that pass with each look at the clock.
    step: u64,
}

impl ByHand {
    /// Returns a runtime whose clock moves by `step` whenever it is read.
    pub(crate) fn new(step: Duration) -> Self {
        Self {
            tasks: Arc::default(),
            epoch: Instant::now(),
            nanos: Arc::default(),
            step: u64::try_from(step.as_nanos()).expect("a step is short"),
        }
    }
}

impl core::fmt::Debug for ByHand {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ByHand")
    }
}

impl Runtime for ByHand {
    const NAME: &'static str = "by hand";

    type Stream = Cursor<Vec<u8>>;
    type Listener = ();
    type Sleep = Pending<()>;

    fn listen(&self, _: TcpListener) -> io::Result<()> {
        Ok(())
    }

    async fn accept(&self, (): &()) -> io::Result<(Self::Stream, SocketAddr)> {
        pending().await
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<Self::Stream> {
        pending().await
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().expect("no task panics");
        tasks.push_back(Box::pin(task));
    }

    fn sleep_until(&self, _: Instant) -> Pending<()> {
        pending()
    }

    fn now(&self) -> Instant {
        let nanos = self.nanos.fetch_add(self.step, Ordering::Relaxed);
        self.epoch + Duration::from_nanos(nanos)
    }
}
