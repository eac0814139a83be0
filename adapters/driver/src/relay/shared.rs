//! What all tasks of a relay share, and how they end.

use core::sync::atomic::Ordering;
use core::task::Waker;
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use event_listener::EventListener;
use pinch_proto::Time;
use pinch_proto::hub::{Hub, HubStats, Input, Parcel, Shard, ShardId, Shards};
use tracing::{debug, error, info};

use super::builder::Parts;
use super::desk::Desk;
use super::health::{Health, HealthCounter};
use super::hubs::{HubState, Left, Note};
use super::keeper::StoreHealth;
use super::pending::Handshakes;
use super::reports::{Line, Report, Reports};
use super::sync::{AtomicBool, AtomicUsize, Event, Mutex, MutexGuard};
use super::{RelayStats, timer};
use crate::clock::{Clock, unix_now};
use crate::{Runtime, Store, session};

/// Number of shards that one visit leads to. What they have for others is fetched by timers.
const HOPS: usize = 16;

/// What all tasks of a relay share.
pub(super) struct Shared<R> {
    pub(super) runtime: R,
    pub(super) session: Arc<session::Config>,
    health_counters: Vec<HealthCounter>,
    pub(super) clock: Clock<R>,
    pub(super) shards: Shards,
    /// By [`ShardId::index`].
    hubs: Box<[ShardState]>,
    pub(super) handshakes: Mutex<Handshakes>,
    /// Its task drops it at its end.
    store: Option<Weak<dyn Store>>,
    pub(super) store_health: Mutex<StoreHealth>,
    /// The task that has the store do what the hubs want.
    keeper: Mutex<Option<Waker>>,
    /// Number of shards that have not shut down.
    living: AtomicUsize,
    /// No more connections: the listener and what has not joined yet have to end.
    closing: AtomicBool,
    /// Everything has to end, at once.
    cut: AtomicBool,
    /// One of the two was set, or the last task has ended.
    changed: Event,
    /// What was counted and is not in the log yet.
    reports: Mutex<Reports>,
    /// There may be something in it.
    has_reports: AtomicBool,
    /// The first task that has panicked of those without which this is no relay.
    dead_task: OnceLock<&'static str>,
    pub(super) tasks: AtomicUsize,
}

/// One shard: a hub with all that it concerns, and its part of the connections.
struct ShardState {
    hub: Mutex<HubState>,
    /// What other shards have for it, in order. It is taken with the lock of one hub at most: that of
    /// the shard that leaves something, or fetches it.
    inbox: Mutex<Vec<(ShardId, Vec<Parcel>)>>,
    /// Something was left there since it was fetched: the usual visit needs one lock.
    has_mail: AtomicBool,
    /// Number of its connections, as of the last visit.
    connections: AtomicUsize,
}

impl<R: Runtime> Shared<R> {
    /// The hubs begin with what the store holds, if there is one.
    pub(super) fn new(runtime: R, parts: &Parts) -> Self {
        let clock = Clock::new(runtime.clone());
        let shards = Shards::new(parts.shards, parts.seed);
        let restored = parts.store.as_deref().map(Store::restored);
        let restored = shards.split(restored.unwrap_or_default());
        let (now, unix) = (clock.now(), unix_now());
        let hubs = shards.all().zip(restored).map(|(shard, restored)| {
            let shard = Shard::new(shards.clone(), shard);
            let hub = Hub::new_shard(parts.hub.clone(), shard, now, unix);
            let hub = hub.with_restored(restored);
            ShardState {
                hub: Mutex::new(HubState::new(hub)),
                inbox: Mutex::new(Vec::new()),
                has_mail: AtomicBool::new(false),
                connections: AtomicUsize::new(0),
            }
        });
        let store_health = match &parts.store {
            Some(_) => StoreHealth::Working,
            None => StoreHealth::None,
        };
        let desk = Desk::new(parts.limits.clone(), parts.seed);
        Self {
            runtime,
            session: Arc::clone(&parts.session),
            health_counters: parts.health_counters.clone(),
            clock,
            hubs: hubs.collect(),
            shards,
            handshakes: Mutex::new(Handshakes::new(desk)),
            store: parts.store.as_ref().map(Arc::downgrade),
            store_health: Mutex::new(store_health),
            keeper: Mutex::new(None),
            living: AtomicUsize::new(parts.shards.get().into()),
            closing: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            changed: Event::new(),
            reports: Mutex::new(Reports::default()),
            has_reports: AtomicBool::new(false),
            dead_task: OnceLock::new(),
            tasks: AtomicUsize::new(0),
        }
    }

    fn state(&self, shard: ShardId) -> &ShardState {
        let state = self.hubs.get(shard.index());
        state.expect("shards are named by the same relay")
    }

    /// A panic under the lock leaves a hub that still holds its rules, for machines do not panic and
    /// the rest is bookkeeping.
    fn lock(&self, shard: ShardId) -> MutexGuard<'_, HubState> {
        let hub = self.state(shard).hub.lock();
        hub.unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self, shard: ShardId) -> MutexGuard<'_, Vec<(ShardId, Vec<Parcel>)>> {
        let inbox = self.state(shard).inbox.lock();
        inbox.unwrap_or_else(PoisonError::into_inner)
    }

    /// Visits a hub: `act` has it as long as its lock is held. What is left to do then is done with
    /// `left`, which is empty before and after: other hubs get what this one has for them, each in one
    /// visit.
    pub(super) fn visit<T>(
        &self,
        shard: ShardId,
        left: &mut Left,
        act: impl FnOnce(&mut HubState, Time) -> T,
    ) -> T {
        let result = self.visit_one(shard, left, act);
        for _ in 0..HOPS {
            let Some(shard) = left.concerned.pop() else {
                return result;
            };
            self.visit_one(shard, left, |_, _| ());
        }
        for shard in left.concerned.drain(..) {
            let timer = self.lock(shard).wake_timer();
            timer.into_iter().for_each(Waker::wake);
        }
        result
    }

    fn visit_one<T>(
        &self,
        shard: ShardId,
        left: &mut Left,
        act: impl FnOnce(&mut HubState, Time) -> T,
    ) -> T {
        let mut concerned = core::mem::take(&mut left.concerned);
        let mut state = self.lock(shard);
        // Read under the lock, so that the hub's time does not run backwards.
        let now = self.clock.now();
        if self.state(shard).has_mail.swap(false, Ordering::AcqRel) {
            state.fetch(&mut self.inbox(shard));
            state.hand_in_fetched(now);
        }
        let result = act(&mut state, now);
        // Left there under the lock: what one shard has for another stays in its order.
        for (to, parcels) in state.parcels() {
            self.inbox(to).push((shard, parcels));
            self.state(to).has_mail.store(true, Ordering::Release);
            if !concerned.contains(&to) {
                concerned.push(to);
            }
        }
        if self.hubs.len() > 1 {
            let count = state.hub().connection_count();
            self.state(shard)
                .connections
                .store(count, Ordering::Relaxed);
        }
        state.swap_left(left);
        drop(state);
        left.concerned = concerned;
        left.wakers.drain(..).for_each(Waker::wake);
        for note in left.notes.drain(..) {
            self.note(note);
        }
        if core::mem::take(&mut left.has_requests) {
            self.wake_keeper();
        }
        if core::mem::take(&mut left.has_shut_down)
            && self.living.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.changed.notify(usize::MAX);
            self.wake_keeper();
            for shard in self.shards.all() {
                let timer = self.lock(shard).wake_timer();
                timer.into_iter().for_each(Waker::wake);
            }
        }
        result
    }

    /// Number of connections of all shards but this one.
    pub(super) fn other_connections(&self, shard: ShardId) -> usize {
        let others = self.hubs.iter().enumerate();
        let others = others.filter(|(index, _)| *index != shard.index());
        others
            .map(|(_, state)| state.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// Tells a hub one thing.
    pub(super) fn tell(&self, shard: ShardId, input: Input) {
        self.visit(shard, &mut Left::default(), |state, now| {
            state.handle(input, now);
        });
    }

    fn note(&self, note: Note) {
        match note {
            Note::Joined(conn, address) => debug!(?conn, %address, "joined"),
            Note::JoinRefused(address, refusal) => debug!(%address, %refusal, "join refused"),
            Note::Ended(conn, address, peer, cause) => {
                debug!(?conn, %address, %peer, %cause, "ended");
                if let Some(report) = Report::of_end(&address, peer, &cause) {
                    self.report(report);
                }
            }
        }
    }

    /// Logs `report`, or counts it if there was one of its kind just now.
    pub(super) fn report(&self, report: Report) {
        let line = {
            let mut reports = self.reports();
            self.has_reports.store(true, Ordering::Release);
            reports.add(report, self.clock.now())
        };
        if let Some(line) = line {
            line.log();
            // It has to look when the next line of this kind is due.
            let timer = self.lock(ShardId::default()).wake_timer();
            timer.into_iter().for_each(Waker::wake);
        }
    }

    /// Logs what was counted and is due; returns when there may be more.
    pub(super) fn log_due_reports(&self) -> Option<Time> {
        if !self.has_reports.load(Ordering::Acquire) {
            return None;
        }
        let mut reports = self.reports();
        let due = reports.due(self.clock.now());
        let next_at = reports.next_at();
        self.has_reports.store(next_at.is_some(), Ordering::Release);
        drop(reports);
        due.iter().for_each(Line::log);
        next_at
    }

    /// Logs what was counted, due or not.
    pub(super) fn log_all_reports(&self) {
        let rest = self.reports().rest();
        rest.iter().for_each(Line::log);
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task has panicked without which this is no relay. From then on, `/health` says so.
    pub(super) fn task_died(&self, task: &'static str) {
        let _ = self.dead_task.set(task);
        error!(task, "a task of the relay has died; restart the relay");
        if self.is_closing() {
            self.cut_without_timer();
        }
    }

    /// Ends all tasks at once if the timer, without which a shutdown may never end, has died.
    fn cut_without_timer(&self) {
        if self.dead_task.get() == Some(&timer::NAME) {
            self.cut();
        }
    }

    pub(super) fn stats(&self) -> RelayStats {
        let (pending, handshakes) = self.handshakes().desk.stats();
        let store = self.store.as_ref().and_then(Weak::upgrade);
        let warning = store.and_then(|store| store.warning());
        let mut hub = HubStats::default();
        for shard in self.shards.all() {
            hub += self.lock(shard).stats();
        }
        RelayStats {
            hub,
            store: self.store_health().with_warning(warning),
            tasks: self.tasks.load(Ordering::Relaxed),
            pending,
            handshakes,
        }
    }

    pub(super) fn store_health(&self) -> MutexGuard<'_, StoreHealth> {
        self.store_health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The report for `/health`.
    pub(super) fn health(&self) -> http::Response<String> {
        let health = Health {
            uptime: self.clock.now().since(Time::ZERO),
            dead_task: self.dead_task.get().copied(),
            runtime: R::NAME,
            counters: &self.health_counters,
        };
        health.report(&self.stats())
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    pub(super) fn shut_down(&self) {
        if !self.closing.swap(true, Ordering::AcqRel) {
            info!("shutting down");
            for shard in self.shards.all() {
                self.tell(shard, Input::Shutdown);
            }
            self.wake_handshakes();
        }
        self.changed.notify(usize::MAX);
        self.cut_without_timer();
    }

    /// Ends all tasks at once.
    pub(super) fn cut(&self) {
        // In this order, so that no task takes the end for a shutdown.
        self.cut.store(true, Ordering::Release);
        self.closing.store(true, Ordering::Release);
        self.changed.notify(usize::MAX);
        self.wake_handshakes();
        for shard in self.shards.all() {
            self.visit(shard, &mut Left::default(), |state, _| state.wake_all());
        }
        self.wake_keeper();
    }

    /// Whether the caller's task is the only one that is left.
    pub(super) fn is_last_task(&self) -> bool {
        self.tasks.load(Ordering::Acquire) == 1
    }

    /// A task has ended.
    pub(super) fn task_ended(&self, was_last: bool) {
        if was_last {
            self.changed.notify(usize::MAX);
        }
        // The keeper ends as the last one. Looked at under the lock under which it counts: otherwise this
        // task may not see that the relay was cut, while the keeper, woken for that, still counts it.
        let keeper = {
            let mut keeper = self.keeper();
            self.is_cut().then(|| keeper.take())
        };
        keeper.flatten().into_iter().for_each(Waker::wake);
    }

    fn keeper(&self) -> MutexGuard<'_, Option<Waker>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_keeper(&self) {
        let keeper = self.keeper().take();
        keeper.into_iter().for_each(Waker::wake);
    }

    /// Has `waker`, the keeper's, called when there is something to do; returns whether no other task is
    /// left of a relay that was cut.
    pub(super) fn wait_for_requests(&self, waker: &Waker) -> bool {
        let mut keeper = self.keeper();
        *keeper = Some(waker.clone());
        self.is_cut() && self.is_last_task()
    }

    /// Whether all shards have shut down.
    pub(super) fn has_shut_down(&self) -> bool {
        self.living.load(Ordering::Acquire) == 0
    }

    /// Completes when the store is not waited for any longer: all shards have shut down, or everything
    /// has to end at once.
    pub(super) async fn is_over(&self) {
        self.wait_until(|| self.has_shut_down() || self.is_cut())
            .await;
    }

    /// Completes when no more connections are wanted.
    pub(super) async fn closed(&self) {
        self.wait_until(|| self.is_closing()).await;
    }

    /// Completes when everything has to end at once.
    pub(super) async fn was_cut(&self) {
        self.wait_until(|| self.is_cut()).await;
    }

    /// Completes when all tasks have ended.
    pub(super) async fn ended(&self) {
        self.wait_until(|| self.tasks.load(Ordering::Acquire) == 0)
            .await;
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            let listener: EventListener = self.changed.listen();
            if condition() {
                return;
            }
            listener.await;
        }
    }
}
