//! The runtime under the relay: each of its tasks is a thread of shuttle, which may be interrupted
//! wherever it meets others.

use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::{Poll, Waker};
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use pinch_driver::Runtime;
use shuttle::sync::Mutex;
use shuttle::thread::JoinHandle;

use crate::clock::{Clock, Sleep};
use crate::pipe::{Pipe, WIDE, pipe};
use crate::task::start;

#[derive(Clone)]
pub(crate) struct Interleaved {
    pub(crate) clock: Clock,
    /// No task is interrupted while it has this lock, for it is one of the standard library.
    tasks: Arc<std::sync::Mutex<VecDeque<JoinHandle<()>>>>,
    listener: Arc<Mutex<Backlog>>,
}

/// What has connected and was not accepted.
#[derive(Default)]
struct Backlog {
    streams: VecDeque<Pipe>,
    listener: Option<Waker>,
    is_closed: bool,
}

impl Interleaved {
    pub(crate) fn new() -> Self {
        Self {
            clock: Clock::new(),
            tasks: Arc::default(),
            listener: Arc::default(),
        }
    }

    /// Refuses whoever connects, and has connected and was not accepted: that is the system's
    /// part when the listener is gone.
    pub(crate) fn stop_listening(&self) {
        let mut backlog = self.listener.lock().unwrap();
        backlog.is_closed = true;
        let refused = core::mem::take(&mut backlog.streams);
        drop(backlog);
        drop(refused);
    }

    /// Waits until every task has ended.
    pub(crate) fn join(&self) {
        while self.join_next() {}
    }

    /// Waits until the task has ended that was spawned first, of those that nobody has waited for
    /// yet; false if there is none.
    pub(crate) fn join_next(&self) -> bool {
        let next = self.tasks.lock().unwrap().pop_front();
        next.map(|task| task.join().unwrap()).is_some()
    }
}

impl fmt::Debug for Interleaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interleaved").finish_non_exhaustive()
    }
}

impl Runtime for Interleaved {
    const NAME: &'static str = "interleaved";

    type Stream = Pipe;
    type Listener = ();
    type Sleep = Sleep;

    /// Who connects does so in memory, whatever is bound.
    fn listen(&self, _: TcpListener) -> io::Result<()> {
        Ok(())
    }

    async fn accept(&self, (): &()) -> io::Result<(Pipe, SocketAddr)> {
        let stream = poll_fn(|cx| {
            let mut backlog = self.listener.lock().unwrap();
            if let Some(stream) = backlog.streams.pop_front() {
                return Poll::Ready(stream);
            }
            backlog.listener = Some(cx.waker().clone());
            Poll::Pending
        });
        Ok((stream.await, ([127, 0, 0, 1], 2).into()))
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<Pipe> {
        let (near, far) = pipe(WIDE);
        let listener = {
            let mut backlog = self.listener.lock().unwrap();
            if backlog.is_closed {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            backlog.streams.push_back(far);
            backlog.listener.take()
        };
        listener.into_iter().for_each(Waker::wake);
        Ok(near)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = start(task);
        self.tasks.lock().unwrap().push_back(task);
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        self.clock.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }
}
