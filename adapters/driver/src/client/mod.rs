//! The front door of an agent: connect, send, take events, close.
//!
//! | module | what it does |
//! |---|---|
//! | `dial` | the first address of a host that answers |
//! | `error` | what can fail |
//! | `link` | the task: dials, moves bytes, keeps the machine's time |
//! | `shared` | the machine behind its lock, and who waits for it |
//! | `rejection` | an answer to the upgrade that is no WebSocket |
//! | `socket` | the WebSocket: frames over the bytes of a stream |
//! | `upgrade` | the request for a WebSocket, and which answer is one |
//! | `url` | where the relay is |

mod dial;
mod error;
mod link;
mod rejection;
mod shared;
mod socket;
mod upgrade;
mod url;

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use event_listener::EventListener;
use futures_util::{Sink, Stream as EventStream, StreamExt as _};
use pinch_proto::client::{Config, Disconnect, Duplicates, Event, Identity, Unsendable};
use pinch_proto::wire::Envelope;
use pinch_proto::{Address, client};

pub use self::dial::{DialError, dial};
pub use self::error::{ConnectError, Ended, SendError, SinkError};
pub use self::url::UrlError;

use self::dial::History;
use self::link::Dial;
use self::shared::Shared;
use self::url::Url;
use crate::{Runtime, Stream};

/// The settings of a [`Client`]; [`connect`](Self::connect) starts it.
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder<R> {
    runtime: R,
    url: String,
    identity: Identity,
    config: Config,
    send_only: bool,
    dial: Option<Dial>,
}

impl<R: Runtime> ClientBuilder<R> {
    /// Heartbeats, limits, and how to come back. Default: [`Config::new`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What happens to an envelope that comes again, as the relay delivers at least once: see
    /// [`Config::duplicates`], of which this is short. A [`config`](Self::config) after it takes its
    /// place. Default: it is dropped.
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.config = self.config.duplicates(duplicates);
        self
    }

    /// Only sends: the relay delivers neither the agent's queue nor new envelopes to this client, but
    /// its own messages, such as rejections. Such a client does not take the agent's address: up to
    /// eight live beside the one that receives (protocol section 4). A relay that does not know this
    /// delivers to it as to any other. Default: it receives.
    pub fn send_only(mut self) -> Self {
        self.send_only = true;
        self
    }

    /// Connects by `dial` instead of by TCP: over TLS, a Unix socket, a pipe in memory. It is called
    /// for each try; the URL, which may be `wss://` then, says what to ask for. What speaks over TCP
    /// takes [`dial`](crate::dial) for that part.
    pub fn dial_with<F, S>(mut self, dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Stream,
    {
        self.dial = Some(Arc::new(move || {
            let dialing = dial();
            Box::pin(async { Ok(Box::new(dialing.await?) as Box<dyn Stream>) })
        }));
        self
    }

    /// Connects, and returns once the agent can be reached. From then on the client comes back by
    /// itself when the connection is lost.
    ///
    /// # Errors
    /// The first failure: whoever wants the client to keep trying from the beginning uses
    /// [`start`](Self::start).
    ///
    /// # Cancel safety
    /// Dropping the future gives up; nothing is left behind.
    pub async fn connect(self) -> Result<Client<R>, ConnectError> {
        let mut client = self.start()?;
        match client.next_event().await {
            Some(Event::Joined { .. }) => Ok(client),
            Some(Event::Disconnected { why, .. } | Event::GaveUp { why, .. }) => {
                Err(ConnectError::Join(why))
            }
            Some(_) | None => Err(ConnectError::Join(Disconnect::Link("closed".into()))),
        }
    }

    /// Starts to connect in the background; the events tell how it goes.
    ///
    /// # Errors
    /// The URL or the settings cannot be used.
    pub fn start(self) -> Result<Client<R>, ConnectError> {
        let dedup = self.config.drops_duplicates().then_some("dedup=1");
        let receive = self.send_only.then_some("receive=0");
        let announcements: Vec<&str> = dedup.into_iter().chain(receive).collect();
        let dials = self.dial.is_some();
        let url = Url::parse(&self.url, &self.identity, &announcements, dials)?;
        let history = History::default();
        let tcp = || link::tcp(&self.runtime, &url, &history);
        let dial = self.dial.unwrap_or_else(tcp);
        let config = self.config.build()?;
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        let shared = Arc::new(Shared::new(self.runtime, config, self.identity, seed));
        link::spawn(Arc::clone(&shared), url, dial, history);
        Ok(Client {
            sender: Sender {
                shared,
                waiting: None,
            },
            waiting: None,
        })
    }
}

impl<R: fmt::Debug> fmt::Debug for ClientBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("runtime", &self.runtime)
            .field("url", &self.url)
            .field("identity", &self.identity)
            .field("config", &self.config)
            .field("send_only", &self.send_only)
            .finish_non_exhaustive()
    }
}

/// An agent's connection to its relay.
///
/// A task in the background keeps it: it answers pings, sends its own, and comes back after a loss.
/// Events wait here until they are taken, by [`next_event`](Self::next_event) or as a
/// [`Stream`](futures_util::Stream); while 1024 of them wait, nothing more is read from the relay,
/// which then takes this agent for dead. An envelope that the relay delivers again after a loss is
/// dropped, unless [`ClientBuilder::duplicates`] says otherwise; a client that drops duplicates
/// announces that to the relay (`dedup=1`).
///
/// Dropping it closes the connection in the background, within twice the close timeout: what was
/// accepted for sending is sent if the relay can be reached. [`close`](Self::close) tells whether
/// that succeeded.
pub struct Client<R: Runtime> {
    sender: Sender<R>,
    waiting: Option<EventListener>,
}

impl<R: Runtime> Client<R> {
    /// The settings of a client of the relay at `url` (`ws://host:port/ws`).
    pub fn builder(url: impl Into<String>, identity: Identity) -> ClientBuilder<R>
    where
        R: Default,
    {
        Self::builder_on(R::default(), url, identity)
    }

    /// The settings of a client on `runtime`: for those of which a program may have several.
    pub fn builder_on(runtime: R, url: impl Into<String>, identity: Identity) -> ClientBuilder<R> {
        ClientBuilder {
            runtime,
            url: url.into(),
            identity,
            config: Config::new(),
            send_only: false,
            dial: None,
        }
    }

    /// The address of this agent.
    #[must_use]
    pub fn address(&self) -> Address {
        self.sender.address()
    }

    /// A handle that sends, for another task.
    #[must_use]
    pub fn sender(&self) -> Sender<R> {
        self.sender.clone()
    }

    /// Sends an envelope: see [`Sender::send`]. Whoever sends much has to take events meanwhile:
    /// what the relay confirms is read behind them.
    ///
    /// # Errors
    /// The envelope cannot be sent, or the client has ended.
    pub async fn send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        self.sender.send(envelope).await
    }

    /// Sends an envelope if there is room for it: see [`Sender::try_send`].
    ///
    /// # Errors
    /// The envelope cannot be sent, or not now, or the client has ended.
    pub fn try_send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        self.sender.try_send(envelope)
    }

    /// Waits until the relay has all that was sent: see [`Sender::flush`].
    ///
    /// # Errors
    /// The client has ended before that.
    pub async fn flush(&self) -> Result<(), Ended> {
        self.sender.flush().await
    }

    /// The next event; `None` after the last one, which is [`Event::Closed`] or [`Event::GaveUp`].
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next_event(&mut self) -> Option<Event> {
        self.next().await
    }

    /// How many envelopes came again and were dropped so far: see [`ClientBuilder::duplicates`].
    #[must_use]
    pub fn dropped_duplicates(&self) -> u64 {
        self.sender.shared.lock().machine.dropped_duplicates()
    }

    /// Waits until the relay has all that was sent, within the close timeout, closes the
    /// connection, and returns what the relay has not confirmed, in order. Events that were not
    /// taken can still be.
    ///
    /// # Cancel safety
    /// Once polled, the closing goes on whether this future is dropped or not. It can be awaited
    /// again.
    pub async fn close(&mut self) -> Vec<Bytes> {
        let shared = &self.sender.shared;
        shared.input(client::Input::Close);
        loop {
            let changed = shared.events.listen();
            if let Some(unsent) = shared.lock().unsent.clone() {
                return unsent;
            }
            changed.await;
        }
    }
}

impl<R: Runtime> EventStream for Client<R> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Self { sender, waiting } = &mut *self;
        let shared = &sender.shared;
        wait_for(waiting, &shared.events, cx, || shared.take_event())
    }
}

impl<R: Runtime> Drop for Client<R> {
    fn drop(&mut self) {
        self.sender.shared.abandon();
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// A handle that sends in the name of a [`Client`]. As a [`Sink`], its `flush` and `close` wait
/// until the relay has everything; `close` does not end the client.
pub struct Sender<R: Runtime> {
    shared: Arc<Shared<R>>,
    waiting: Option<EventListener>,
}

impl<R: Runtime> Sender<R> {
    /// The address of the agent.
    #[must_use]
    pub fn address(&self) -> Address {
        self.shared.lock().machine.address().clone()
    }

    /// Accepts `envelope` for sending, waiting for room if too much is unconfirmed, and returns its
    /// message id. Version, `from_address`, message id (16 random bytes, in hex), timestamp and, if there
    /// is a payload, type are filled in where they are empty.
    ///
    /// It is sent once the agent has joined, and again after a loss until the relay has it: so it
    /// may arrive twice, but is not lost without a word. The relay's own answers, such as
    /// QUEUE_FULL, come as [`Event::Received`] with the same message id.
    ///
    /// # Errors
    /// The envelope cannot be sent, or the client has ended; the error gives it back.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the envelope was not accepted.
    pub async fn send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        let mut envelope = envelope;
        loop {
            let changed = self.shared.room.listen();
            match self.try_send(envelope) {
                Err(full) if full.reason == Unsendable::Full => envelope = *full.envelope,
                sent => return sent,
            }
            changed.await;
        }
    }

    /// Like [`send`](Self::send), but where that waits for room, this fails with
    /// [`Unsendable::Full`].
    ///
    /// # Errors
    /// The envelope cannot be sent, or not now, or the client has ended; the error gives it back.
    pub fn try_send(&self, envelope: Envelope) -> Result<Bytes, SendError> {
        let envelope = self.shared.complete(envelope);
        match self.shared.submit(&envelope) {
            Ok(()) => Ok(envelope.message_id),
            Err(reason) => {
                let envelope = Box::new(envelope);
                Err(SendError { envelope, reason })
            }
        }
    }

    /// Waits until the relay has all that was accepted before.
    ///
    /// # Errors
    /// The client has ended before that.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn flush(&self) -> Result<(), Ended> {
        let goal = self.shared.lock().machine.submitted();
        loop {
            let changed = self.shared.room.listen();
            if let Poll::Ready(flushed) = self.shared.confirmed(goal) {
                return flushed;
            }
            changed.await;
        }
    }
}

impl<R: Runtime> Sink<Envelope> for Sender<R> {
    type Error = SinkError;

    /// There is room for the largest envelope.
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        let Self { shared, waiting } = &mut *self;
        wait_for(waiting, &shared.room, cx, || shared.has_room()).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, envelope: Envelope) -> Result<(), SinkError> {
        self.try_send(envelope)?;
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        let Self { shared, waiting } = &mut *self;
        let flushed = ready!(wait_for(waiting, &shared.room, cx, || {
            let goal = shared.lock().machine.submitted();
            shared.confirmed(goal)
        }));
        Poll::Ready(flushed.map_err(SinkError::from))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        self.poll_flush(cx)
    }
}

impl<R: Runtime> Clone for Sender<R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            waiting: None,
        }
    }
}

impl<R: Runtime> fmt::Debug for Sender<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// Polls `condition` now and after each notification of `changed`; `waiting` keeps the place in
/// between.
fn wait_for<T>(
    waiting: &mut Option<EventListener>,
    changed: &event_listener::Event,
    cx: &mut Context<'_>,
    mut condition: impl FnMut() -> Poll<T>,
) -> Poll<T> {
    loop {
        if let Poll::Ready(output) = condition() {
            *waiting = None;
            return Poll::Ready(output);
        }
        if let Some(listener) = waiting {
            ready!(Pin::new(listener).poll(cx));
            *waiting = None;
        } else {
            // Listen first, then look again: a notification in between is not missed.
            *waiting = Some(changed.listen());
        }
    }
}
