//! What the threads of a relay share: mailboxes, flags and counters. No message passes through it.

use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::io;
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, mpsc};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use mio::net::TcpListener;
use pinch_driver::parts::{Desk, Health, HealthCounter, Line, Parts, Report, Reports};
use pinch_driver::proto::Time;
use pinch_driver::proto::hub::{HubStats, Input, Parcel, ShardId, Shards};
use pinch_driver::proto::peers::PendingId;
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

/// A message for the loop of a hub.
#[derive(Debug)]
pub(crate) enum Message {
    /// It listens on this, too.
    Listen(TcpListener),
    /// The connection asks to be entered into the routing table.
    Join(Box<Conn>),
    /// A handshake that has moved here gives way.
    Evict(PendingId),
    /// What another hub has said to this one.
    Forwarded(ShardId, Vec<Parcel>),
    /// What the store has answered.
    Stored(Vec<Input>),
    /// Somebody wants to know what the hub does.
    Stats(mpsc::Sender<HubStats>),
}

/// What all threads of a relay share.
pub(crate) struct Shared {
    pub(crate) places: Shards,
    pub(crate) sessions: Arc<Config>,
    /// By [`ShardId::index`].
    pub(crate) mailboxes: Vec<Mailbox<Message>>,
    /// Number of connections of each hub.
    pub(crate) connections: Vec<AtomicUsize>,
    /// What the hubs did a moment ago, or when they ended.
    pub(crate) last: Vec<Mutex<HubStats>>,
    pub(crate) store_health: Mutex<StoreHealth>,
    health_counters: Vec<HealthCounter>,
    /// Its thread drops it at its end.
    store: Option<Weak<dyn Store>>,
    desk: Mutex<Desk>,
    reports: Mutex<Reports>,
    epoch: Instant,
    closing: AtomicBool,
    cut: AtomicBool,
    /// When the store is no longer waited for.
    over_at: OnceLock<Instant>,
    /// The first thread that has panicked.
    dead_thread: OnceLock<&'static str>,
    /// Loops that may still hand something to others when the relay shuts down.
    unfinished: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
    store_thread: OnceLock<Thread>,
    /// Held by who waits for the threads.
    waiting: Mutex<()>,
    /// Each thread has a clone.
    running: Arc<()>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(parts: &Parts, places: Shards, mailboxes: Vec<Mailbox<Message>>) -> Self {
        Self {
            places,
            sessions: Arc::clone(&parts.session),
            last: mailboxes.iter().map(|_| Mutex::default()).collect(),
            connections: mailboxes.iter().map(|_| AtomicUsize::new(0)).collect(),
            unfinished: AtomicUsize::new(mailboxes.len()),
            mailboxes,
            store_health: Mutex::new(match &parts.store {
                Some(_) => StoreHealth::Working,
                None => StoreHealth::None,
            }),
            health_counters: parts.health_counters.clone(),
            store: parts.store.as_ref().map(Arc::downgrade),
            desk: Mutex::new(Desk::new(parts.limits.clone(), parts.seed)),
            reports: Mutex::default(),
            epoch: Instant::now(),
            closing: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            over_at: OnceLock::new(),
            dead_thread: OnceLock::new(),
            threads: Mutex::default(),
            store_thread: OnceLock::new(),
            waiting: Mutex::default(),
            running: Arc::default(),
        }
    }

    /// Number of connections of all hubs but that of `shard`.
    pub(crate) fn other_connections(&self, shard: ShardId) -> usize {
        let others = self.connections.iter().enumerate();
        let others = others.filter(|(index, _)| *index != shard.index());
        others.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
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
            // The first loop logs what is counted from now on.
            self.mailboxes.iter().take(1).for_each(Mailbox::wake);
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
        let lines = match all {
            true => reports.rest(),
            false => reports.due(self.now()),
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
        self.cut_without_loop();
        self.wake_all();
    }

    /// Ends all threads at once.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.end_store(DROP_GRACE);
        self.wake_all();
    }

    /// A shutdown that a loop has not survived would never end.
    fn cut_without_loop(&self) {
        if self.is_closing() && self.dead_thread.get().is_some_and(|name| *name != STORE) {
            self.cut();
        }
    }

    fn wake_all(&self) {
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    /// The caller's loop has nothing more for others.
    pub(crate) fn finish(&self) {
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end_store(Duration::ZERO);
            self.wake_all();
        }
    }

    /// Whether no loop has anything for others, after a shutdown.
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

    /// Whether an answer of the store may come that a relay which was cut waits for.
    pub(crate) fn awaits_store(&self) -> bool {
        let is_there = |store: &Weak<_>| store.strong_count() > 0;
        self.store.as_ref().is_some_and(is_there) && self.store_patience() != Some(Duration::ZERO)
    }

    /// Starts a thread without which this is no relay.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        mio: &Mio,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(self);
        let running = (mio.clone(), Arc::clone(&self.running));
        let thread = thread::Builder::new().name(format!("pinch-{name}"));
        let thread = thread.spawn(move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                let _ = shared.dead_thread.set(name);
                error!(
                    thread = name,
                    "a thread of the relay has died; restart the relay"
                );
                shared.cut_without_loop();
            }
            drop(running);
        })?;
        if name == STORE {
            let _ = self.store_thread.set(thread.thread().clone());
        }
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// Waits until all threads have ended.
    pub(crate) fn wait(&self) {
        let _waiting = lock(&self.waiting);
        while let Some(thread) = { lock(&self.threads).pop() } {
            // It has told itself if it has panicked.
            drop(thread.join());
        }
    }

    /// What all threads do. A loop does not wait for others: it says what its `own` hub does, and takes
    /// what they have left behind.
    pub(crate) fn stats(&self, own: Option<(ShardId, HubStats)>) -> RelayStats {
        let asked = self.mailboxes.iter().map(|mailbox| {
            let (sender, receiver) = mpsc::channel();
            if own.is_none() {
                mailbox.post(Message::Stats(sender));
            }
            receiver
        });
        let asked: Vec<_> = asked.collect();
        let mut stats = RelayStats::default();
        (stats.pending, stats.handshakes) = self.desk().stats();
        if let Some((id, stats)) = own {
            *lock(&self.last[id.index()]) = stats;
        }
        for (receiver, last) in asked.iter().zip(&self.last) {
            let answer = receiver.recv_timeout(STATS_PATIENCE);
            stats.hub += answer.unwrap_or_else(|_| *lock(last));
        }
        let store = self.store.as_ref().and_then(Weak::upgrade);
        stats.store =
            lock(&self.store_health).with_warning(store.and_then(|store| store.warning()));
        let connections = usize::try_from(stats.hub.connections + stats.hub.closing);
        let threads = Arc::strong_count(&self.running) - 1;
        stats.tasks = threads + connections.unwrap_or(usize::MAX) + stats.pending;
        stats
    }

    /// Answers a request for `/health` that came to the loop of a hub.
    pub(crate) fn health(&self, own: ShardId, stats: HubStats) -> http::Response<String> {
        let health = Health {
            uptime: self.epoch.elapsed(),
            dead_task: self.dead_thread.get().copied(),
            runtime: Mio::NAME,
            counters: &self.health_counters,
        };
        health.report(&self.stats(Some((own, stats))))
    }
}
