//! A clock that stands still until a test has it go on.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use shuttle::sync::Mutex;

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    begin: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    now: Instant,
    sleepers: BTreeMap<usize, (Instant, Waker)>,
    last_sleeper: usize,
    /// Whoever waits until somebody sleeps.
    watcher: Option<Waker>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let begin = Instant::now();
        let state = State {
            now: begin,
            sleepers: BTreeMap::new(),
            last_sleeper: 0,
            watcher: None,
        };
        Self {
            begin,
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.state.lock().unwrap().now
    }

    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let mut state = self.state.lock().unwrap();
        state.last_sleeper += 1;
        Sleep {
            deadline,
            sleeper: state.last_sleeper,
            clock: self.clone(),
        }
    }

    /// Has time go on, from sleeper to sleeper, until it is `after` the beginning: for that, somebody
    /// has to sleep until then.
    pub(crate) async fn reach(&self, after: Duration) {
        let end = self.begin + after;
        while self.now() < end {
            let wakers = poll_fn(|cx| self.poll_next(end, cx)).await;
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Makes it the time at which the next sleeper wakes, if that is not after `end`.
    fn poll_next(&self, end: Instant, cx: &Context<'_>) -> Poll<Vec<Waker>> {
        let mut state = self.state.lock().unwrap();
        let deadlines = state.sleepers.values().map(|(at, _)| *at);
        let ahead = deadlines.filter(|at| *at > state.now && *at <= end);
        let Some(next) = ahead.min() else {
            state.watcher = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.now = next;
        let due = state.sleepers.values().filter(|(at, _)| *at <= next);
        Poll::Ready(due.map(|(_, waker)| waker.clone()).collect())
    }
}

pub(crate) struct Sleep {
    deadline: Instant,
    sleeper: usize,
    clock: Clock,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.state.lock().unwrap();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let sleeping = (self.deadline, cx.waker().clone());
        state.sleepers.insert(self.sleeper, sleeping);
        let watcher = state.watcher.take();
        drop(state);
        watcher.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Sleep {
    /// A sleeper that is gone wakes nobody: that would hide that somebody else forgot to.
    fn drop(&mut self) {
        let mut state = self.clock.state.lock().unwrap();
        state.sleepers.remove(&self.sleeper);
    }
}
