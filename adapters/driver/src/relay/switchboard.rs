//! The hub behind its lock, and who has to be woken when it says so.
//!
//! A [`Switchboard`] is what the lock protects: the hub and one waker for each connection. A
//! [`Shared`] is what all tasks of a relay hold. The lock is taken once for a burst of messages;
//! wakers are called, and logs written, after it was released.

use core::sync::atomic::Ordering;
use core::task::Waker;
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use event_listener::EventListener;
use pinch_proto::hub::{
    self, Admission, CloseCause, ConnId, Hub, Input, JoinOptions, JoinRefusal, Output, Turn, Wakeup,
};
use pinch_proto::peers::Source;
use pinch_proto::queue::Request;
use pinch_proto::{Address, Frame, Time};
use tracing::{Level, debug, enabled, error, info};

use super::keeper::StoreHealth;
use super::peers::Desk;
use super::reports::{Line, Report, Reports};
use super::sync::{AtomicBool, AtomicUsize, Event, Mutex, MutexGuard};
use super::{RelayStats, Settings, timer};
use crate::clock::{Clock, unix_now};
use crate::{Runtime, Store};

/// What all tasks of a relay share.
pub(super) struct Shared<R> {
    pub(super) runtime: R,
    pub(super) settings: Settings,
    pub(super) clock: Clock<R>,
    switchboard: Mutex<Switchboard>,
    pub(super) desk: Mutex<Desk>,
    /// Its task drops it at its end.
    store: Option<Weak<dyn Store>>,
    /// No more connections: the listener and what has not joined yet have to end.
    closing: AtomicBool,
    /// Everything has to end, at once.
    cut: AtomicBool,
    /// One of the two was set, or the last task has ended.
    changed: Event,
    /// What was counted and is not in the log yet.
    reports: Mutex<Reports>,
    /// The first task that has panicked of those without which this is no relay.
    dead_task: OnceLock<&'static str>,
    pub(super) tasks: AtomicUsize,
}

/// What the lock protects.
pub(super) struct Switchboard {
    hub: Hub,
    /// By [`ConnId::index`].
    wakers: Vec<Option<Waker>>,
    /// Where connections come from, by [`ConnId::index`].
    sources: Vec<Option<Source>>,
    timer: Option<Waker>,
    /// When the timer will look at the hub by itself.
    timer_at: Option<Time>,
    store: StoreDesk,
    shut_down: bool,
}

/// What goes to the store, and who takes it there.
#[derive(Default)]
struct StoreDesk {
    requests: Vec<Request>,
    keeper: Option<Waker>,
    health: StoreHealth,
}

/// What is left to do when the lock is released.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    wakers: Vec<Waker>,
    notes: Vec<Note>,
}

/// What the hub did to a connection, for the log.
#[derive(Debug)]
enum Note {
    Joined(ConnId, Address),
    JoinRefused(Address, JoinRefusal),
    Ended(ConnId, Address, Option<Source>, CloseCause),
}

impl<R: Runtime> Shared<R> {
    /// The hub begins with what `store` holds, if there is one.
    pub(super) fn new(
        runtime: R,
        settings: Settings,
        config: hub::Config,
        seed: [u8; 16],
        store: Option<&Arc<dyn Store>>,
    ) -> Self {
        let clock = Clock::new(runtime.clone());
        let mut store_desk = StoreDesk::default();
        let mut hub = Hub::new(config, seed, clock.now(), unix_now());
        if let Some(store) = store {
            store_desk.health = StoreHealth::Working;
            hub = hub.with_restored(store.restored());
        }
        let switchboard = Switchboard {
            hub,
            wakers: Vec::new(),
            sources: Vec::new(),
            timer: None,
            timer_at: None,
            store: store_desk,
            shut_down: false,
        };
        let desk = Desk::new(settings.limits.clone(), seed);
        Self {
            runtime,
            desk,
            settings,
            clock,
            switchboard: Mutex::new(switchboard),
            store: store.map(Arc::downgrade),
            closing: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            changed: Event::new(),
            reports: Mutex::new(Reports::default()),
            dead_task: OnceLock::new(),
            tasks: AtomicUsize::new(0),
        }
    }

    /// The hub and its wakers. A panic under the lock leaves a hub that still holds its rules, for
    /// machines do not panic and the rest is bookkeeping.
    pub(super) fn lock(&self) -> MutexGuard<'_, Switchboard> {
        self.switchboard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the hub one thing, wakes whom it concerns, and hands what only the caller can do to
    /// `on_own`.
    pub(super) fn tell(&self, input: Input, on_own: impl FnMut(Own)) {
        let mut wakes = Wakes::default();
        let mut switchboard = self.lock();
        // Read under the lock, so that the hub's time does not run backwards.
        switchboard.handle(input, self.clock.now(), &mut wakes, on_own);
        drop(switchboard);
        self.after_lock(&mut wakes);
    }

    /// Enters a connection from `source` into the routing table.
    pub(super) fn register(
        &self,
        address: Address,
        admission: Admission,
        options: JoinOptions,
        source: Source,
    ) -> Result<ConnId, JoinRefusal> {
        let mut outcome = Err(JoinRefusal::ShuttingDown);
        let mut wakes = Wakes::default();
        let mut switchboard = self.lock();
        let input = Input::Register {
            address,
            admission,
            options,
        };
        switchboard.handle(input, self.clock.now(), &mut wakes, |own| match own {
            Own::Registered(conn) => outcome = Ok(conn),
            Own::Refused(refusal) => outcome = Err(refusal),
        });
        if let Ok(conn) = outcome {
            switchboard.set_source(conn, source);
        }
        drop(switchboard);
        self.after_lock(&mut wakes);
        outcome
    }

    /// Does what is left to do when the lock is released: calls wakers, then writes logs.
    pub(super) fn after_lock(&self, wakes: &mut Wakes) {
        wakes.wakers.drain(..).for_each(Waker::wake);
        for note in wakes.notes.drain(..) {
            match note {
                Note::Joined(conn, address) => debug!(?conn, %address, "joined"),
                Note::JoinRefused(address, refusal) => debug!(%address, %refusal, "join refused"),
                Note::Ended(conn, address, source, cause) => {
                    let peer = source.unwrap_or(Source::of(None));
                    debug!(?conn, %address, %peer, %cause, "ended");
                    if let Some(report) = Report::of_end(&address, peer, &cause) {
                        self.report(report);
                    }
                }
            }
        }
    }

    /// Logs `report`, or counts it if there was one of its kind just now.
    pub(super) fn report(&self, report: Report) {
        let line = self.reports().add(report, self.clock.now());
        if let Some(line) = line {
            line.log();
            // It has to look when the next line of this kind is due.
            let timer = self.lock().timer.take();
            timer.into_iter().for_each(Waker::wake);
        }
    }

    /// Logs what was counted and is due; returns when there may be more.
    pub(super) fn log_due_reports(&self, now: Time) -> Option<Time> {
        let due = self.reports().due(now);
        due.iter().for_each(Line::log);
        self.reports().next_at()
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
        if self.dead_task() == Some(timer::NAME) {
            self.cut();
        }
    }

    /// The task that has died, if one has.
    pub(super) fn dead_task(&self) -> Option<&'static str> {
        self.dead_task.get().copied()
    }

    pub(super) fn stats(&self) -> RelayStats {
        let (pending, handshakes) = self.desk().stats();
        let store = self.store.as_ref().and_then(Weak::upgrade);
        let warning = store.and_then(|store| store.warning());
        let switchboard = self.lock();
        let health = match (switchboard.store.health, warning) {
            (StoreHealth::Working, Some(warning)) => StoreHealth::Warning(warning),
            (health, _) => health,
        };
        RelayStats {
            hub: switchboard.hub.stats(),
            store: health,
            tasks: self.tasks.load(Ordering::Relaxed),
            pending,
            handshakes,
        }
    }

    /// How long the relay has been running.
    pub(super) fn uptime(&self) -> core::time::Duration {
        self.clock.now().since(Time::ZERO)
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
            self.tell(Input::Shutdown, |_| ());
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
        let mut wakes = Wakes::default();
        {
            let mut switchboard = self.lock();
            let Switchboard {
                wakers,
                timer,
                store,
                ..
            } = &mut *switchboard;
            let connections = wakers.iter_mut().filter_map(Option::take);
            let others = [timer.take(), store.keeper.take()].into_iter().flatten();
            wakes.wakers.extend(connections.chain(others));
        }
        self.after_lock(&mut wakes);
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
        // The keeper ends as the last one. Looked at under the lock: otherwise this task may not see
        // that the relay was cut, while the keeper, woken for that, still counts this task.
        let keeper = {
            let mut switchboard = self.lock();
            self.is_cut().then(|| switchboard.store.keeper.take())
        };
        keeper.flatten().into_iter().for_each(Waker::wake);
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

impl Switchboard {
    /// Hands `input` to the hub and does what it says; what only the caller can do goes to
    /// `on_own`.
    pub(super) fn handle(
        &mut self,
        input: Input,
        now: Time,
        wakes: &mut Wakes,
        on_own: impl FnMut(Own),
    ) {
        let wakeup = self.turn(input, now, wakes, on_own).finish();
        self.reset_timer(wakeup, wakes);
    }

    /// As [`handle`](Self::handle), for all inputs of a burst but the last: the timer is looked at
    /// once. None of them leads to something that only the caller can do.
    pub(super) fn hand_in(&mut self, input: Input, now: Time, wakes: &mut Wakes) {
        let _ = self.turn(input, now, wakes, |_| ());
    }

    /// Takes what there is to write to the socket of `conn`, which has taken everything before.
    pub(super) fn poll_transmit(
        &mut self,
        conn: ConnId,
        credit: usize,
        now: Time,
        wakes: &mut Wakes,
        transmit: impl FnMut(Frame),
    ) {
        let (hub, outside) = self.split();
        let turn = hub.poll_transmit(conn, credit, now, transmit);
        let wakeup = outside.drain(turn, wakes, |_| ()).finish();
        self.reset_timer(wakeup, wakes);
    }

    /// The turn that `input` leads to, with all that it says done.
    fn turn(
        &mut self,
        input: Input,
        now: Time,
        wakes: &mut Wakes,
        on_own: impl FnMut(Own),
    ) -> Turn<'_> {
        let (hub, outside) = self.split();
        outside.drain(hub.handle_input(input, now), wakes, on_own)
    }

    /// Lets the hub do what is due at `now`, and says when there will be more. `waker` is the timer's.
    pub(super) fn handle_timeout(&mut self, now: Time, wakes: &mut Wakes, waker: &Waker) -> Due {
        let (hub, outside) = self.split();
        // What is stored outlives this process, and any mistake of the clock when it began.
        hub.set_wall_clock(unix_now(), now);
        let wakeup = outside
            .drain(hub.handle_timeout(now), wakes, |_| ())
            .finish();
        self.timer = Some(waker.clone());
        self.timer_at = wakeup.map(|wakeup| wakeup.at);
        match self.timer_at {
            _ if self.shut_down => Due::Never,
            Some(at) if at <= now => Due::Now,
            Some(at) => Due::At(at),
            None => Due::Unknown,
        }
    }

    /// Whether what comes from `conn` is taken.
    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        self.hub.is_open(conn)
    }

    /// Whether nothing is to be read from `conn` now.
    pub(super) fn is_paused(&self, conn: ConnId) -> bool {
        self.hub.is_paused(conn)
    }

    /// Whether `conn` has not ended; if so, `waker` is called when something waits for it, or when
    /// it ends.
    pub(super) fn sleep(&mut self, conn: ConnId, waker: &Waker) -> bool {
        if !self.hub.holds(conn) {
            return false;
        }
        if self.wakers.len() <= conn.index() {
            self.wakers.resize(conn.index() + 1, None);
        }
        if let Some(slot) = self.wakers.get_mut(conn.index()) {
            match slot {
                Some(known) => known.clone_from(waker),
                None => *slot = Some(waker.clone()),
            }
        }
        true
    }

    /// What the hub wants of the store since this was asked before; `waker`, the keeper's, is called
    /// when there is something, or when it is to end.
    pub(super) fn take_requests(&mut self, waker: &Waker) -> Vec<Request> {
        self.wait_for_end(waker);
        core::mem::take(&mut self.store.requests)
    }

    /// Has the keeper woken when it is to end.
    pub(super) fn wait_for_end(&mut self, waker: &Waker) {
        self.store.keeper = Some(waker.clone());
    }

    pub(super) const fn has_shut_down(&self) -> bool {
        self.shut_down
    }

    pub(super) const fn store_health(&self) -> StoreHealth {
        self.store.health
    }

    pub(super) fn set_store_health(&mut self, health: StoreHealth) {
        self.store.health = health;
    }

    fn set_source(&mut self, conn: ConnId, source: Source) {
        if self.sources.len() <= conn.index() {
            self.sources.resize(conn.index() + 1, None);
        }
        if let Some(slot) = self.sources.get_mut(conn.index()) {
            *slot = Some(source);
        }
    }

    fn split(&mut self) -> (&mut Hub, Outside<'_>) {
        let outside = Outside {
            wakers: &mut self.wakers,
            sources: &self.sources,
            store: &mut self.store,
            shut_down: &mut self.shut_down,
        };
        (&mut self.hub, outside)
    }

    /// Wakes the timer if it would come too late for `wakeup`.
    fn reset_timer(&mut self, wakeup: Option<Wakeup>, wakes: &mut Wakes) {
        let sooner = wakeup.is_some_and(|wakeup| self.timer_at.is_none_or(|at| wakeup.at < at));
        if sooner || self.shut_down {
            self.timer_at = wakeup.map(|wakeup| wakeup.at);
            wakes.wakers.extend(self.timer.take());
        }
    }
}

/// When the timer has to look at the hub again.
pub(super) enum Due {
    /// At once: more is due than one turn does.
    Now,
    /// At that time.
    At(Time),
    /// When it is woken.
    Unknown,
    /// The relay has shut down.
    Never,
}

impl Due {
    /// At `at` if that is sooner.
    pub(super) fn or_at(self, at: Option<Time>) -> Self {
        match (self, at) {
            (Self::At(due), Some(at)) => Self::At(due.min(at)),
            (Self::Unknown, Some(at)) => Self::At(at),
            (due, _) => due,
        }
    }
}

/// An output that only the task whose input led to it can do.
pub(super) enum Own {
    /// It has joined.
    Registered(ConnId),
    /// It has not, and why.
    Refused(JoinRefusal),
}

/// Everything but the hub: where its outputs go.
struct Outside<'a> {
    wakers: &'a mut [Option<Waker>],
    sources: &'a [Option<Source>],
    store: &'a mut StoreDesk,
    shut_down: &'a mut bool,
}

impl Outside<'_> {
    /// Takes all outputs of `turn`: wakes whom it concerns, passes the caller's own on.
    fn drain<'a>(
        self,
        mut turn: Turn<'a>,
        wakes: &mut Wakes,
        mut on_own: impl FnMut(Own),
    ) -> Turn<'a> {
        let Wakes { wakers, notes } = wakes;
        let mut wake = |conn: ConnId| {
            let waker = self.wakers.get_mut(conn.index());
            wakers.extend(waker.and_then(Option::take));
        };
        let logs_all = enabled!(Level::DEBUG);
        while let Some(output) = turn.poll_output() {
            match output {
                Output::Registered { conn, address } => {
                    on_own(Own::Registered(conn));
                    if logs_all {
                        notes.push(Note::Joined(conn, address));
                    }
                }
                Output::Refused { address, refusal } => {
                    if logs_all {
                        notes.push(Note::JoinRefused(address, refusal));
                    }
                    on_own(Own::Refused(refusal));
                }
                Output::Wake { conn } => wake(conn),
                Output::Closed {
                    conn,
                    address,
                    cause,
                } => {
                    wake(conn);
                    let source = self.sources.get(conn.index()).copied().flatten();
                    notes.push(Note::Ended(conn, address, source, cause));
                }
                Output::Store(request) => self.store.requests.push(request),
                Output::ShutDown => *self.shut_down = true,
                Output::Forward { .. } => unreachable!("the relay has one shard"),
            }
        }
        if *self.shut_down || !self.store.requests.is_empty() {
            wakers.extend(self.store.keeper.take());
        }
        turn
    }
}
