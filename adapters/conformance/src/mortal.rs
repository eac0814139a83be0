//! A runtime that dies at a moment of the test's choice: it drops all of its tasks, wherever they
//! are.

use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pinch_driver::Runtime;

/// The runtime `R`, until its tasks have been polled as often as they may be.
#[derive(Clone, Debug)]
pub(crate) struct Mortal<R> {
    runtime: R,
    life: Arc<Mutex<Life>>,
}

#[derive(Debug)]
struct Life {
    polls_left: usize,
    /// Of all tasks that have been polled: one for each poll.
    wakers: Vec<Waker>,
}

impl<R: Runtime> Mortal<R> {
    /// The tasks are polled `polls` times, all together; then they are dropped.
    pub(crate) fn new(runtime: R, polls: usize) -> Self {
        let life = Life {
            polls_left: polls,
            wakers: Vec::new(),
        };
        Self {
            runtime,
            life: Arc::new(Mutex::new(life)),
        }
    }

    /// Whether it has died.
    pub(crate) fn is_dead(&self) -> bool {
        lock(&self.life).polls_left == 0
    }
}

fn lock(life: &Mutex<Life>) -> std::sync::MutexGuard<'_, Life> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls `task` once, or drops it if life is over.
fn poll<F: Future<Output = ()>>(
    life: &Mutex<Life>,
    task: &mut Option<Pin<Box<F>>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    {
        let mut life = lock(life);
        if life.polls_left == 0 {
            drop(life);
            *task = None;
            return Poll::Ready(());
        }
        life.polls_left -= 1;
        life.wakers.push(cx.waker().clone());
    }
    let polled = match task {
        Some(task) => task.as_mut().poll(cx),
        None => Poll::Ready(()),
    };
    let mut life = lock(life);
    if life.polls_left == 0 {
        // All of them look once more, and find that it is over.
        for waker in core::mem::take(&mut life.wakers) {
            waker.wake();
        }
    }
    polled
}

impl<R: Runtime> Runtime for Mortal<R> {
    const NAME: &'static str = R::NAME;

    type Stream = R::Stream;
    type Listener = R::Listener;
    type Sleep = R::Sleep;

    fn listen(&self, listener: TcpListener) -> io::Result<R::Listener> {
        self.runtime.listen(listener)
    }

    fn accept(
        &self,
        listener: &R::Listener,
    ) -> impl Future<Output = io::Result<(R::Stream, SocketAddr)>> + Send {
        self.runtime.accept(listener)
    }

    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<R::Stream>> + Send {
        self.runtime.connect(addr)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let life = Arc::clone(&self.life);
        let mut task = Some(Box::pin(task));
        self.runtime
            .spawn(poll_fn(move |cx| poll(&life, &mut task, cx)));
    }

    fn sleep_until(&self, deadline: Instant) -> R::Sleep {
        self.runtime.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }
}
