//! What the threads of a relay share: mailboxes, flags and counters. No message passes through it.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak, mpsc};
use std::thread::{self, Thread};
use std::time::Instant;

use mio::net::TcpListener;
use pinch_driver::parts::{Desk, Health, HealthCounter, Line, Parts, Report, Reports};
use pinch_driver::proto::Time;
use pinch_driver::proto::hub::{HubStats, Input, Parcel, ShardId, Shards};
use pinch_driver::session::{Config, Outcome};
use pinch_driver::{RelayStats, Store, StoreHealth};
use tracing::{error, info};

use crate::Mio;
use crate::conn::Conn;
use crate::mailbox::Mailbox;

/// How long a store may take for what a relay that is dropped leaves behind.
const DROP_GRACE: Duration = Duration::from_secs(10);

/// How long a thread may take to say what it does.
const STATS_PATIENCE: Duration = Duration::from_secs(1);

/// The name of the thread that has the store.
pub(crate) const STORE: &str = "store";

/// A message for the thread that accepts.
#[derive(Debug)]
pub(crate) enum ToFront {
    /// It listens on this, too.
    Listen(TcpListener),
    /// The connection has joined.
    Joined,
    /// The hub has refused the connection.
    Refused(Box<Conn>),
}

/// A message for the thread of a hub.
#[derive(Debug)]
pub(crate) enum ToShard {
    /// A connection has to be entered into the routing table.
    Join(Box<Conn>),
    /// What the hub of another shard has said to this one.
    Forwarded(ShardId, Vec<Parcel>),
    /// The store has answered.
    Stored(Vec<Input>),
    /// Somebody wants to know what the hub does.
    Stats(mpsc::Sender<HubStats>),
}

/// The thread of a hub, as others see it.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) mailbox: Mailbox<ToShard>,
    /// What its hub had done when it ended.
    pub(crate) last: Mutex<HubStats>,
}

/// What all threads of a relay share.
pub(crate) struct Shared {
    pub(crate) places: Shards,
    pub(crate) sessions: Arc<Config>,
    health_counters: Vec<HealthCounter>,
    pub(crate) front: Mailbox<ToFront>,
    pub(crate) shards: Vec<ShardHandle>,
    /// Its thread drops it at its end.
    store: Option<Weak<dyn Store>>,
    pub(crate) store_health: Mutex<StoreHealth>,
    store_thread: OnceLock<Thread>,
    desk: Mutex<Desk>,
    reports: Mutex<Reports>,
    epoch: Instant,
    closing: AtomicBool,
    cut: AtomicBool,
    /// When the store is no longer waited for.
    over_at: OnceLock<Instant>,
    /// The first thread that has panicked.
    dead_thread: OnceLock<&'static str>,
    /// Threads that may still hand something to others when the relay shuts down.
    unfinished: AtomicUsize,
    threads: Mutex<usize>,
    thread_ended: Condvar,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        parts: &Parts,
        places: Shards,
        front: Mailbox<ToFront>,
        shards: Vec<Mailbox<ToShard>>,
    ) -> Self {
        let store_health = match &parts.store {
            Some(_) => StoreHealth::Working,
            None => StoreHealth::None,
        };
        let shards = shards.into_iter().map(|mailbox| ShardHandle {
            mailbox,
            last: Mutex::default(),
        });
        let shards: Vec<_> = shards.collect();
        Self {
            places,
            sessions: Arc::clone(&parts.session),
            health_counters: parts.health_counters.clone(),
            front,
            unfinished: AtomicUsize::new(1 + shards.len()),
            shards,
            store: parts.store.as_ref().map(Arc::downgrade),
            store_health: Mutex::new(store_health),
            store_thread: OnceLock::new(),
            desk: Mutex::new(Desk::new(parts.limits.clone(), parts.seed)),
            reports: Mutex::default(),
            epoch: Instant::now(),
            closing: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            over_at: OnceLock::new(),
            dead_thread: OnceLock::new(),
            threads: Mutex::new(0),
            thread_ended: Condvar::new(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.epoch.elapsed()
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// Logs `report`, or counts it if there was one of its kind just now.
    pub(crate) fn report(&self, report: Report) {
        let line = lock(&self.reports).add(report, self.now());
        if let Some(line) = line {
            line.log();
            // That thread logs what is counted from now on.
            self.front.wake();
        }
    }

    /// Reports why a connection does not join, if the relay rejects it.
    pub(crate) fn report_end(&self, conn: &Conn) {
        let reason = match conn.outcome {
            Outcome::Left | Outcome::Answered => return,
            Outcome::Evicted => "evicted",
            Outcome::Rejected(reason) => reason.as_str(),
        };
        let from = conn.source;
        self.report(Report::Rejected { reason, from });
    }

    /// Logs what was counted and is due, or all of it; returns when there may be more.
    pub(crate) fn log_reports(&self, all: bool) -> Option<Time> {
        let mut reports = lock(&self.reports);
        let lines = if all {
            reports.rest()
        } else {
            reports.due(self.now())
        };
        let next = reports.next_at();
        drop(reports);
        lines.iter().for_each(Line::log);
        next
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    pub(crate) fn start_shutdown(&self) {
        if !self.closing.swap(true, Ordering::AcqRel) {
            info!("shutting down");
        }
        if self.dead_thread.get().is_some_and(|name| *name != STORE) {
            // It would wait for that thread.
            self.cut();
        }
        self.wake_all();
    }

    /// Ends all threads at once.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.end_store(DROP_GRACE);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.front.wake();
        self.shards.iter().for_each(|shard| shard.mailbox.wake());
    }

    /// The caller's thread has nothing more for others.
    pub(crate) fn finish(&self) {
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end_store(Duration::ZERO);
            self.wake_all();
        }
    }

    /// Whether no thread has anything for others, after a shutdown.
    pub(crate) fn is_finished(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) == 0
    }

    fn end_store(&self, grace: Duration) {
        let _ = self.over_at.set(Instant::now() + grace);
        self.store_thread.get().into_iter().for_each(Thread::unpark);
    }

    /// How long the store is still waited for; `None` without limit.
    pub(crate) fn store_patience(&self) -> Option<Duration> {
        let over_at = self.over_at.get()?;
        Some(over_at.saturating_duration_since(Instant::now()))
    }

    /// Whether the thread of the store runs.
    pub(crate) fn has_store(&self) -> bool {
        self.store
            .as_ref()
            .is_some_and(|store| store.strong_count() > 0)
    }

    /// Starts a thread without which this is no relay.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        mio: &Mio,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        *lock(&self.threads) += 1;
        let guard = ThreadGuard {
            shared: Arc::clone(self),
            name,
            _mio: mio.clone(),
        };
        let thread = thread::Builder::new().name(format!("pinch-{name}"));
        let thread = thread.spawn(move || {
            let _guard = guard;
            work();
        })?;
        if name == STORE {
            let _ = self.store_thread.set(thread.thread().clone());
        }
        Ok(())
    }

    /// Waits until all threads have ended.
    pub(crate) fn wait(&self) {
        let threads = lock(&self.threads);
        drop(
            self.thread_ended
                .wait_while(threads, |threads| *threads > 0),
        );
    }

    /// What all threads do. Those of hubs are asked; one that has ended has left its answer behind.
    pub(crate) fn stats(&self) -> RelayStats {
        let asked = self.shards.iter().map(|shard| {
            let (sender, receiver) = mpsc::channel();
            shard.mailbox.post(ToShard::Stats(sender));
            receiver
        });
        let asked: Vec<_> = asked.collect();
        let (pending, handshakes) = self.desk().stats();
        let mut stats = RelayStats::default();
        for (receiver, shard) in asked.iter().zip(&self.shards) {
            let answer = receiver.recv_timeout(STATS_PATIENCE);
            stats.hub += answer.unwrap_or_else(|_| *lock(&shard.last));
        }
        let store = self.store.as_ref().and_then(Weak::upgrade);
        stats.store =
            lock(&self.store_health).with_warning(store.and_then(|store| store.warning()));
        let connections = stats.hub.connections + stats.hub.closing;
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        stats.tasks = *lock(&self.threads) + connections + pending;
        (stats.pending, stats.handshakes) = (pending, handshakes);
        stats
    }

    /// Answers a request for `/health`.
    pub(crate) fn health(&self) -> http::Response<String> {
        let health = Health {
            uptime: self.epoch.elapsed(),
            dead_task: self.dead_thread.get().copied(),
            runtime: Mio::NAME,
            counters: &self.health_counters,
        };
        health.report(&self.stats())
    }
}

/// Counts a thread for as long as it runs.
struct ThreadGuard {
    shared: Arc<Shared>,
    name: &'static str,
    _mio: Mio,
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        let Self { shared, name, .. } = self;
        if thread::panicking() {
            let _ = shared.dead_thread.set(name);
            error!(
                thread = name,
                "a thread of the relay has died; restart the relay"
            );
            if shared.is_closing() && *name != STORE {
                shared.cut();
            }
        }
        *lock(&shared.threads) -= 1;
        shared.thread_ended.notify_all();
    }
}
