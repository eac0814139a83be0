//! The machine of a client behind its lock, and who waits for it.

use core::task::Poll;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use pinch_proto::client::{Client, Config, Event, Identity, Input, Unsendable};
use pinch_proto::wire::{self, Envelope};

use super::Ended;
use crate::Runtime;
use crate::clock::{Clock, unix_now};

/// How many events may wait for the user before nothing more is read from the relay.
const MAX_EVENTS: usize = 1024;

/// What the front door and the task share.
pub(super) struct Shared<R> {
    pub(super) runtime: R,
    pub(super) clock: Clock<R>,
    state: Mutex<State>,
    /// There is an event, or the last one has been.
    pub(super) events: event_listener::Event,
    /// There is room in the outbox, or something was confirmed, or the client has ended.
    pub(super) room: event_listener::Event,
    /// The task has to look at the machine.
    pub(super) task: AtomicWaker,
}

/// What the lock protects.
pub(super) struct State {
    pub(super) machine: Client,
    events: VecDeque<Event>,
    /// What the last event said was not confirmed; `None` until then.
    pub(super) unsent: Option<Vec<Bytes>>,
    /// Nobody takes events any more.
    abandoned: bool,
    /// The user wants to leave, and may not take events while waiting for that.
    closing: bool,
}

impl<R: Runtime> Shared<R> {
    pub(super) fn new(runtime: R, config: Config, identity: Identity, seed: [u8; 16]) -> Self {
        let clock = Clock::new(runtime.clone());
        let machine = Client::new(config, identity, seed, clock.now(), unix_now());
        let state = State {
            machine,
            events: VecDeque::new(),
            unsent: None,
            abandoned: false,
            closing: false,
        };
        Self {
            runtime,
            clock,
            state: Mutex::new(state),
            events: event_listener::Event::new(),
            room: event_listener::Event::new(),
            task: AtomicWaker::new(),
        }
    }

    /// A panic under the lock leaves a machine that still holds its rules: machines do not panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the machine something that is not about its link; the task does what follows.
    pub(super) fn input(&self, input: Input) {
        let mut state = self.lock();
        state.closing |= input == Input::Close;
        // Outputs that are not polled stay queued for the task.
        drop(state.machine.handle_input(input, self.clock.now()));
        drop(state);
        self.task.wake();
    }

    /// Fills in what an envelope has to have.
    pub(super) fn complete(&self, mut envelope: Envelope) -> Envelope {
        if envelope.version == 0 {
            envelope.version = wire::VERSION;
        }
        if envelope.from_address.is_empty() {
            envelope.from_address = self.lock().machine.address().as_str().into();
        }
        if envelope.message_id.is_empty() {
            let mut id = [0; 16];
            // Without randomness an envelope has no id, and can be sent all the same.
            if getrandom::fill(&mut id).is_ok() {
                // Hex digits, because there are clients that take an id for text.
                envelope.message_id = format!("{:032x}", u128::from_be_bytes(id)).into();
            }
        }
        if envelope.timestamp == 0 {
            envelope.timestamp = unix_now().0;
        }
        if envelope.r#type == 0
            && let Some(payload) = &envelope.payload
        {
            envelope.r#type = payload.message_type().into();
        }
        envelope
    }

    pub(super) fn submit(&self, envelope: &Envelope) -> Result<(), Unsendable> {
        let bytes = envelope.to_bytes();
        let mut state = self.lock();
        let submitted = state.machine.submit(bytes, self.clock.now()).map(drop);
        drop(state);
        self.task.wake();
        submitted.map_err(|error| error.reason)
    }

    /// Whether the largest envelope fits; also once the client has ended, which sending will tell.
    pub(super) fn has_room(&self) -> Poll<()> {
        let state = self.lock();
        let largest = state.machine.config().max_envelope_bytes();
        if state.machine.is_ended() || state.machine.has_room_for(largest) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether the relay has the first `goal` envelopes.
    pub(super) fn confirmed(&self, goal: u64) -> Poll<Result<(), Ended>> {
        let state = self.lock();
        if state.machine.confirmed() >= goal {
            Poll::Ready(Ok(()))
        } else if state.machine.is_ended() {
            Poll::Ready(Err(Ended))
        } else {
            Poll::Pending
        }
    }

    /// The next event; `None` after the last one.
    pub(super) fn take_event(&self) -> Poll<Option<Event>> {
        let mut state = self.lock();
        let was_full = state.is_full();
        let event = state.events.pop_front();
        let ended = state.unsent.is_some();
        drop(state);
        if was_full {
            self.task.wake();
        }
        match event {
            Some(event) => Poll::Ready(Some(event)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Nobody takes events any more: close in the background.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.events = VecDeque::new();
        drop(state);
        self.input(Input::Close);
    }
}

impl State {
    /// Keeps an event for the user.
    pub(super) fn push_event(&mut self, event: Event) {
        if let Event::GaveUp { unsent, .. } | Event::Closed { unsent } = &event {
            self.unsent = Some(unsent.clone());
        }
        if !self.abandoned {
            self.events.push_back(event);
        }
    }

    /// Whether nothing more should be read for now. While the client closes, which is bounded in
    /// time, everything is read: the confirmations that it waits for lie behind the events.
    pub(super) fn is_full(&self) -> bool {
        !self.closing && self.events.len() >= MAX_EVENTS
    }
}
