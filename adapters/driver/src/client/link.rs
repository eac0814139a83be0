//! The task of a client: dials, moves bytes between the WebSocket and the machine, and keeps the
//! machine's time.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use async_tungstenite::{WebSocketStream, client_async_with_config};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Sink as _, Stream as _};
use pinch_proto::client::{Event, Input, Output};
use pinch_proto::{Close, CloseCode, Frame, Time};
use tracing::debug;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Error, Message};

use super::dial::dial;
use super::rejection;
use super::shared::Shared;
use super::url::Url;
use crate::clock::unix_now;
use crate::{Runtime, Stream};

/// How much is taken from the machine at once, in bytes.
const BATCH: usize = 64 << 10;

/// How many messages are handed to the machine before other tasks get their turn.
const ROUNDS: usize = 128;

/// How much is read from the socket at once, in bytes.
const READ_BUFFER: usize = 16 << 10;

/// The largest message that is read, unless larger ones may be sent: what relays read themselves
/// (protocol section 4).
const MESSAGE_BYTES: usize = 131_072;

/// Starts the task of a client. It ends when the client has, or when the client is dropped.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, url: Url, dial: Dial) {
    let runtime = shared.runtime.clone();
    let sendable = shared.lock().machine.config().max_envelope_bytes();
    runtime.spawn(async move {
        let mut link = Link {
            shared,
            message_bytes: sendable.max(MESSAGE_BYTES),
            url,
            dial,
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
pub(super) fn tcp<R: Runtime>(runtime: &R, url: &Url) -> Dial {
    let (runtime, host, port) = (runtime.clone(), url.host.clone(), url.port);
    Arc::new(move || {
        let (runtime, host) = (runtime.clone(), host.clone());
        Box::pin(async move {
            let stream = dial(&runtime, &host, port).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

type WebSocket = WebSocketStream<Box<dyn Stream>>;

enum Socket {
    None,
    Dialing(BoxFuture<'static, Result<WebSocket, Input>>),
    Up(Box<WebSocket>),
}

struct Link<R: Runtime> {
    shared: Arc<Shared<R>>,
    /// The largest message that is read.
    message_bytes: usize,
    url: Url,
    dial: Dial,
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
                Ok(stream) => {
                    self.socket = Socket::Up(Box::new(stream));
                    self.flushed = true;
                    Input::Connected
                }
                Err(failed) => {
                    self.socket = Socket::None;
                    failed
                }
            },
            Socket::Up(stream) => {
                let mut stream = Pin::new(&mut **stream);
                let flushed = stream.as_mut().poll_flush(cx);
                self.flushed = flushed.is_ready();
                if let Poll::Ready(Err(error)) = flushed {
                    lost(error.to_string())
                } else if full {
                    return Poll::Pending;
                } else {
                    let message = ready!(stream.as_mut().poll_next(cx));
                    // The echo of a close frame, or a pong, goes out as far as it can.
                    let _ = stream.poll_flush(cx);
                    received(message)
                }
            }
        };
        if let Input::Disconnected { .. } = input {
            self.socket = Socket::None;
        }
        Poll::Ready(input)
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
                    self.transmit(frame);
                    again = true;
                }
                Output::Hangup => self.socket = Socket::None,
                Output::Confirmed { .. } => confirmed = true,
                Output::Event(event) => events.push(event),
            }
        }
        let wakeup = turn.finish().map(|wakeup| wakeup.at);
        if !events.is_empty() {
            shared.events.notify(usize::MAX);
        }
        for event in events {
            if let Event::Disconnected { why, .. } | Event::GaveUp { why, .. } = &event {
                debug!(relay = self.url.request, %why, "disconnected");
            }
            state.push_event(event);
        }
        let ended = state.machine.is_ended();
        if confirmed || ended {
            shared.room.notify(usize::MAX);
        }
        if ended {
            Step::Ended
        } else {
            Step::Continue { again, wakeup }
        }
    }

    fn transmit(&mut self, frame: Frame) {
        let Socket::Up(stream) = &mut self.socket else {
            return;
        };
        let message = match frame {
            Frame::Message(message) => Message::Binary(message),
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Close(close) => Message::Close(Some(CloseFrame {
                code: close.code.0.into(),
                reason: close.reason.as_ref().into(),
            })),
        };
        // What is wrong with the socket is said by the flush that follows.
        let _ = Pin::new(&mut **stream).start_send(message);
        self.flushed = false;
    }

    /// Connects, and upgrades.
    fn dial(&self) -> BoxFuture<'static, Result<WebSocket, Input>> {
        let dialing = (self.dial)();
        let request = self.url.request.clone();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(self.message_bytes))
            .max_frame_size(Some(self.message_bytes));
        Box::pin(async move {
            let stream = dialing.await.map_err(|error| lost(error.to_string()))?;
            let upgraded = client_async_with_config(request, stream, Some(config)).await;
            upgraded.map(|(stream, _)| stream).map_err(|error| {
                if let Error::Http(response) = error {
                    rejection::input(&response, unix_now())
                } else {
                    lost(error.to_string())
                }
            })
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

fn received(message: Option<Result<Message, Error>>) -> Input {
    match message {
        Some(Ok(Message::Binary(message))) => Input::Received(message),
        Some(Ok(Message::Pong(payload))) => Input::Pong { payload },
        // The WebSocket layer has answered it. For the machine it is a sign of life, as a pong is
        // that answers nothing.
        Some(Ok(Message::Ping(_) | Message::Frame(_))) => Input::Pong {
            payload: Bytes::new(),
        },
        Some(Ok(Message::Close(frame))) => Input::PeerClosed(close(frame)),
        Some(Ok(Message::Text(_))) => lost("the relay sent a text message"),
        Some(Err(error)) => lost(error.to_string()),
        None => lost("the connection was lost"),
    }
}

fn lost(why: impl Into<Cow<'static, str>>) -> Input {
    Input::Disconnected { why: why.into() }
}

fn close(frame: Option<CloseFrame>) -> Close {
    frame.map_or_else(
        || {
            Close::new(
                CloseCode(u16::from(
                    tungstenite::protocol::frame::coding::CloseCode::Status,
                )),
                "",
            )
        },
        |frame| {
            Close::new(
                CloseCode(frame.code.into()),
                frame.reason.as_str().to_owned(),
            )
        },
    )
}
