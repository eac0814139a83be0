//! A runtime without threads, sockets or a clock of its own: tasks run when the story says so, and time
//! passes when it does.
//!
//! Whatever it has given away is counted, so that a story can end by looking whether all of it came
//! back. Streams come by [`Relay::adopt`](pinch_driver::Relay::adopt); there is no network.

use core::future::{self, Future};
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::Instant;

use pinch_driver::Runtime;

use super::socket::Socket;

/// How many polls may follow from one step of a story, whose sockets give a byte at a time at worst.
const MAX_POLLS: usize = 200_000;

/// The beginning of all stories. What instants mean is nobody's business but the runtime's.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The runtime; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub(in crate::targets) struct Virtual(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct State {
    now: Duration,
    /// By number; one that is being polled, or has ended, is `None`.
    tasks: Vec<Option<Boxed>>,
    ended: usize,
    timers: BTreeMap<(Duration, u64), Waker>,
    sleeps: usize,
    next_sleep: u64,
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State")
            .field("now", &self.now)
            .field("tasks", &(self.tasks.len() - self.ended))
            .field("sleeps", &self.sleeps)
            .finish()
    }
}

/// The numbers of the tasks that are to be polled, in the order in which they were woken.
#[derive(Debug, Default)]
struct Ready(Mutex<VecDeque<usize>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = lock(&self.ready.0);
        if !ready.contains(&self.task) {
            ready.push_back(self.task);
        }
    }
}

impl Virtual {
    /// Polls tasks until all of them wait.
    pub(in crate::targets) fn run(&self) -> Result<(), String> {
        for _ in 0..MAX_POLLS {
            let Some(task) = lock(&self.0.ready.0).pop_front() else {
                return Ok(());
            };
            self.poll(task);
        }
        Err(format!(
            "after {MAX_POLLS} polls the relay still has something to do"
        ))
    }

    fn poll(&self, task: usize) {
        let taken = lock(&self.0.state)
            .tasks
            .get_mut(task)
            .and_then(Option::take);
        let Some(mut future) = taken else {
            return;
        };
        let ready = Arc::clone(&self.0.ready);
        let waker = Waker::from(Arc::new(TaskWaker { task, ready }));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            drop(future);
            lock(&self.0.state).ended += 1;
        } else if let Some(slot) = lock(&self.0.state).tasks.get_mut(task) {
            *slot = Some(future);
        }
    }

    /// How much time has passed since the story began.
    pub(in crate::targets) fn elapsed(&self) -> Duration {
        lock(&self.0.state).now
    }

    /// Lets time pass up to `until`, or up to the next timer, if that is earlier; false if there was
    /// none.
    pub(in crate::targets) fn pass_until(&self, until: Duration) -> bool {
        let mut state = lock(&self.0.state);
        let next = state.timers.first_key_value().map(|(&(at, _), _)| at);
        state.now = next.map_or(until, |at| at.min(until)).max(state.now);
        let now = state.now;
        let later = state.timers.split_off(&(now, u64::MAX));
        let due = core::mem::replace(&mut state.timers, later);
        drop(state);
        let has_fired = !due.is_empty();
        due.into_values().for_each(Waker::wake);
        has_fired
    }

    /// Lets time pass until no timer is left, and fails if something has not come back then.
    pub(in crate::targets) fn give_back(&self) -> Result<(), String> {
        const DAY: Duration = Duration::from_secs(86_400);
        self.run()?;
        while self.pass_until(self.elapsed() + DAY) {
            self.run()?;
        }
        match self.held() {
            (0, 0) => Ok(()),
            (tasks, timers) => Err(format!("{tasks} tasks and {timers} timers are left")),
        }
    }

    /// Whether everything has come back: how many tasks and timers have not.
    pub(in crate::targets) fn held(&self) -> (usize, usize) {
        let state = lock(&self.0.state);
        (state.tasks.len() - state.ended, state.sleeps)
    }
}

impl Runtime for Virtual {
    const NAME: &'static str = "virtual";

    type Stream = Socket;
    type Listener = ();
    type Sleep = Sleep;

    fn listen(&self, _: TcpListener) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept(&self, (): &()) -> io::Result<(Socket, SocketAddr)> {
        future::pending().await
    }

    async fn connect(&self, _: SocketAddr) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = lock(&self.0.state);
        let number = state.tasks.len();
        state.tasks.push(Some(Box::pin(task)));
        drop(state);
        lock(&self.0.ready.0).push_back(number);
    }

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        let mut state = lock(&self.0.state);
        state.sleeps += 1;
        state.next_sleep += 1;
        Sleep {
            runtime: self.clone(),
            at: deadline.saturating_duration_since(*BEGINNING),
            number: state.next_sleep,
        }
    }

    fn now(&self) -> Instant {
        *BEGINNING + self.elapsed()
    }
}

/// A timer.
#[derive(Debug)]
pub(in crate::targets) struct Sleep {
    runtime: Virtual,
    at: Duration,
    number: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.runtime.0.state);
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let key = (self.at, self.number);
        state.timers.insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let mut state = lock(&self.runtime.0.state);
        state.sleeps -= 1;
        // A waker may hold the last handle of something that locks.
        let waker = state.timers.remove(&(self.at, self.number));
        drop(state);
        drop(waker);
    }
}
