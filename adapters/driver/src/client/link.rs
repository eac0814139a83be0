//! The task of a client: dials, moves bytes between the WebSocket and the machine, and keeps the
//! machine's time.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use pinch_proto::Time;
use pinch_proto::client::{Event, Input, Output};
use tracing::{Level, debug, enabled};

use super::dial::{History, dial_with_history};
use super::rejection;
use super::shared::Shared;
use super::socket::WebSocket;
use super::upgrade::{UpgradeError, upgrade};
use super::url::Url;
use crate::clock::unix_now;
use crate::{Runtime, Stream};

/// How much is taken from the machine at once, in bytes.
const BATCH: usize = 64 << 10;

/// How many messages are handed to the machine before other tasks get their turn.
const ROUNDS: usize = 128;

/// The largest message that is read, unless larger ones may be sent: what relays read themselves
/// (protocol section 4).
const MESSAGE_BYTES: usize = 131_072;

/// Starts the task of a client. It ends when the client has, or when the client is dropped.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, url: Url, dial: Dial, history: History) {
    let runtime = shared.runtime.clone();
    let sendable = shared.lock().machine.config().max_envelope_bytes();
    runtime.spawn(async move {
        let mut link = Link {
            shared,
            message_bytes: sendable.max(MESSAGE_BYTES),
            url: Arc::new(url),
            dial,
            history,
            socket: Socket::None,
            flushed: false,
            sleep: None,
        };
        poll_fn(|cx| link.poll(cx)).await;
    });
}

/// How to reach a relay.
pub(super) type Dial =
    Arc<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Reaches a relay by TCP.
pub(super) fn tcp<R: Runtime>(runtime: &R, url: &Url, history: &History) -> Dial {
    let (runtime, host, port) = (runtime.clone(), url.host.clone(), url.port);
    let history = history.clone();
    Arc::new(move || {
        let (runtime, host, history) = (runtime.clone(), host.clone(), history.clone());
        Box::pin(async move {
            let stream = dial_with_history(&runtime, &host, port, &history).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

enum Socket {
    None,
    Dialing(BoxFuture<'static, Result<WebSocket, Input>>),
    Up(Box<WebSocket>),
}

struct Link<R: Runtime> {
    shared: Arc<Shared<R>>,
    /// The largest message that is read.
    message_bytes: usize,
    url: Arc<Url>,
    dial: Dial,
    history: History,
    socket: Socket,
    /// The socket has taken everything that the machine handed out.
    flushed: bool,
    sleep: Option<(Time, Pin<Box<R::Sleep>>)>,
}

impl<R: Runtime> Link<R> {
    /// Runs until the client has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.task.register(cx.waker());
        for _ in 0..ROUNDS {
            let input = match self.poll_socket(cx) {
                Poll::Ready(input) => Some(input),
                Poll::Pending => None,
            };
            let moved = input.is_some();
            let Step::Continue { again, wakeup } = self.step(input) else {
                return Poll::Ready(());
            };
            if !again && !moved && self.poll_sleep(wakeup, cx).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the socket has to say.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        let full = self.shared.lock().is_full();
        let input = match &mut self.socket {
            Socket::None => return Poll::Pending,
            Socket::Dialing(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                Ok(socket) => {
                    self.socket = Socket::Up(Box::new(socket));
                    self.flushed = true;
                    Input::Connected
                }
                Err(failed) => {
                    self.socket = Socket::None;
                    failed
                }
            },
            Socket::Up(socket) => {
                self.flushed = socket.poll_flush(cx).is_ready();
                if full {
                    return Poll::Pending;
                }
                let input = ready!(socket.poll_next(cx));
                // The answer to a ping or a close frame goes out as far as it can.
                self.flushed = socket.poll_flush(cx).is_ready();
                input
            }
        };
        if let Input::Disconnected { .. } = input {
            self.hang_up();
        }
        Poll::Ready(input)
    }

    /// Drops the socket.
    fn hang_up(&mut self) {
        if let Socket::Up(socket) = core::mem::replace(&mut self.socket, Socket::None) {
            socket.hang_up(&self.shared.runtime);
        }
    }

    /// Lets the machine take a step.
    fn step(&mut self, input: Option<Input>) -> Step {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let now = shared.clock.now();
        // The outputs of all of these come out of the last turn.
        if let Some(input) = input {
            drop(state.machine.handle_input(input, now));
        }
        if self.flushed {
            drop(
                state
                    .machine
                    .handle_input(Input::Writable { bytes: BATCH }, now),
            );
        }
        if state.is_full() && matches!(self.socket, Socket::Up(_)) {
            // The user pauses: a pong that is not read is not missing.
            let payload = Bytes::new();
            drop(state.machine.handle_input(Input::Pong { payload }, now));
        }
        let mut turn = state.machine.handle_timeout(now);
        let mut again = false;
        let mut confirmed = false;
        let mut events = Vec::new();
        while let Some(output) = turn.poll_output() {
            match output {
                Output::Dial => {
                    self.socket = Socket::Dialing(self.dial());
                    again = true;
                }
                Output::Wake => again = true,
                Output::Transmit(frame) => {
                    if let Socket::Up(socket) = &mut self.socket {
                        socket.send(frame);
                        self.flushed = false;
                    }
                    again = true;
                }
                Output::Hangup => self.hang_up(),
                Output::Confirmed { .. } => confirmed = true,
                Output::Event(event) => events.push(event),
            }
        }
        let wakeup = turn.finish().map(|wakeup| wakeup.at);
        if !events.is_empty() {
            shared.events.notify(usize::MAX);
        }
        let mut losses = Vec::new();
        for event in events {
            if let Event::Joined { .. } = event {
                self.history.joined();
            }
            if let Event::Disconnected { why, .. } | Event::GaveUp { why, .. } = &event
                && enabled!(Level::DEBUG)
            {
                losses.push(why.to_string());
            }
            state.push_event(event);
        }
        let ended = state.machine.is_ended();
        drop(state);
        // Whoever writes logs may take its time, or ask the client something.
        for why in losses {
            debug!(relay = self.url.shown, why, "disconnected");
        }
        if confirmed || ended {
            shared.room.notify(usize::MAX);
        }
        if ended {
            Step::Ended
        } else {
            Step::Continue { again, wakeup }
        }
    }

    /// Connects, and upgrades.
    fn dial(&self) -> BoxFuture<'static, Result<WebSocket, Input>> {
        let dialing = (self.dial)();
        let (runtime, url) = (self.shared.runtime.clone(), Arc::clone(&self.url));
        let message_bytes = self.message_bytes;
        Box::pin(async move {
            let mut stream = dialing.await.map_err(|error| lost(error.to_string()))?;
            match upgrade(&runtime, &mut stream, &url).await {
                Ok(rest) => Ok(WebSocket::new(stream, rest, message_bytes)),
                Err(UpgradeError::Rejected(response)) => {
                    Err(rejection::input(&response, unix_now()))
                }
                Err(error) => Err(lost(error.to_string())),
            }
        })
    }

    /// Whether it is time for the machine again.
    fn poll_sleep(&mut self, wakeup: Option<Time>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = wakeup else {
            return Poll::Pending;
        };
        if at <= self.shared.clock.now() {
            return Poll::Ready(());
        }
        let shared = &self.shared;
        let new = || {
            (
                at,
                Box::pin(shared.runtime.sleep_until(shared.clock.instant(at))),
            )
        };
        let sleep = match &mut self.sleep {
            Some(sleep) if sleep.0 == at => sleep,
            other => other.insert(new()),
        };
        ready!(sleep.1.as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(())
    }
}

/// What the machine wants after a step.
enum Step {
    Continue {
        /// Something has changed for the socket.
        again: bool,
        wakeup: Option<Time>,
    },
    Ended,
}

fn lost(why: impl Into<Cow<'static, str>>) -> Input {
    Input::Disconnected { why: why.into() }
}
