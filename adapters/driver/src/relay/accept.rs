//! From a fresh byte stream to a registered connection: HTTP, upgrade, handshake, hub.
//!
//! All of this happens in one boxed future, so that nothing of it is left in a connection that has
//! joined, and each step has a deadline. What the peer must prove is decided by
//! [`handshake`](pinch_proto::handshake); here bytes are moved.

use core::fmt::Write as _;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, FutureExt as _, select};
use http::{Method, Response, StatusCode};
use pinch_proto::hub::{Admission, ConnId, Input, JoinRefusal};
use pinch_proto::{Address, Close, CloseCode, Frame, Time, handshake};
use tracing::debug;

use super::connection::Connection;
use super::counts::TaskCount;
use super::reports::Report;
use super::switchboard::{Own, Shared};
use crate::clock::unix_now;
use crate::codec::{Decoder, Incoming, encode};
use crate::ends::{Turns, farewell, read_head, say};
use crate::http::{self as head, Route};
use crate::{Runtime, Stream, Upgrade};

/// How long a peer that is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// The longest message before a connection has joined, in bytes: an AUTH_RESPONSE has some 150.
const MAX_HANDSHAKE_MESSAGE: usize = 4096;

/// How far a stream is that is to be served.
pub(super) enum Entry {
    /// Its HTTP request will come.
    Fresh,
    /// It speaks WebSocket already.
    Upgraded(Upgrade),
}

/// Serves `stream` in a task of its own.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, stream: impl Stream, entry: Entry) {
    let count = shared.count_task();
    let runtime = shared.runtime.clone();
    runtime.spawn(Task {
        stage: Stage::Accepting(Box::pin(accept(shared, stream, entry))),
        _count: count,
    });
}

/// The task of one connection. While it accepts, its state is boxed; once it has joined, it is all
/// that an idle connection costs.
struct Task<R: Runtime, S: Stream> {
    stage: Stage<R, S>,
    _count: TaskCount<R>,
}

enum Stage<R: Runtime, S: Stream> {
    Accepting(BoxFuture<'static, Option<Connection<R, S>>>),
    Joined(Connection<R, S>),
}

impl<R: Runtime, S: Stream> Future for Task<R, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Accepting(accepting) => match ready!(accepting.as_mut().poll(cx)) {
                    Some(connection) => Stage::Joined(connection),
                    None => return Poll::Ready(()),
                },
                Stage::Joined(connection) => return connection.poll(cx),
            };
        }
    }
}

/// Everything before the join; `None` if there was none. Ends at once when the relay is cut; when it
/// shuts down, the peer is told.
async fn accept<R: Runtime, S: Stream>(
    shared: Arc<Shared<R>>,
    mut stream: S,
    entry: Entry,
) -> Option<Connection<R, S>> {
    let joined = {
        let joining = pin!(join(&shared, &mut stream, entry));
        let cut = pin!(shared.was_cut());
        match select(cut, joining).await {
            Either::Left(_) => return None,
            Either::Right((joined, _)) => joined?,
        }
    };
    Some(Connection::new(shared, stream, joined))
}

/// A connection that the hub knows.
pub(super) struct Joined {
    pub(super) conn: ConnId,
    pub(super) decoder: Decoder,
    /// What is to be written before anything else, and with the first that the hub says.
    pub(super) unsent: Vec<u8>,
}

/// Why a connection does not join.
enum Rejection {
    /// It went away.
    Lost,
    /// It is told this, and then the stream ends.
    Told(Vec<u8>),
}

impl From<io::Error> for Rejection {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl Rejection {
    fn http(status: StatusCode, reason: &str) -> Self {
        Self::Told(last(&head::refuse(status, reason)))
    }

    fn frames(message: Option<Bytes>, close: Close) -> Self {
        debug!(%close, "turned away");
        let mut bytes = Vec::new();
        if let Some(message) = message {
            encode(&Frame::Message(message), &mut bytes);
        }
        encode(&Frame::Close(close), &mut bytes);
        Self::Told(bytes)
    }

    fn handshake(refusal: &handshake::Refusal) -> Self {
        debug!(%refusal, "handshake failed");
        Self::frames(refusal.auth_result(unix_now()), refusal.close())
    }
}

async fn join<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    entry: Entry,
) -> Option<Joined> {
    let Some(_pending) = shared.pend() else {
        // There is no place in which to wait for a peer that does not take it.
        let _ = say(stream, &busy(&entry)).now_or_never();
        return None;
    };
    let joined = match entry {
        Entry::Fresh => request(shared, stream).await,
        Entry::Upgraded(upgrade) => enter(shared, stream, upgrade, Vec::new(), Vec::new()).await,
    };
    match joined {
        Ok(joined) => Some(joined),
        Err(Rejection::Lost) => None,
        Err(Rejection::Told(bytes)) => {
            let until = shared.clock.now() + FAREWELL;
            let _ = until_time(shared, until, farewell(stream, &bytes)).await;
            None
        }
    }
}

/// What a connection hears that finds all places taken.
fn busy(entry: &Entry) -> Vec<u8> {
    const BUSY: &str = "too many connections are joining";
    match entry {
        Entry::Fresh => last(&head::refuse(StatusCode::SERVICE_UNAVAILABLE, BUSY)),
        Entry::Upgraded(_) => {
            let mut bytes = Vec::new();
            encode(
                &Frame::Close(Close::new(CloseCode::TRY_AGAIN_LATER, BUSY)),
                &mut bytes,
            );
            bytes
        }
    }
}

/// Reads the HTTP request, and does what it asks for.
async fn request<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
) -> Result<Joined, Rejection> {
    let settings = &shared.settings;
    let until = shared.clock.now() + settings.auth_timeout;
    let head = match within(shared, until, read_head(stream)).await {
        Waited::Done(head) => head,
        Waited::Late => {
            let late = "the request did not come in time";
            return Err(Rejection::http(StatusCode::REQUEST_TIMEOUT, late));
        }
        Waited::Closing => {
            let closing = "the relay is shutting down";
            return Err(Rejection::http(StatusCode::SERVICE_UNAVAILABLE, closing));
        }
    };
    let (request, rest) = head?.map_err(|error| Rejection::Told(last(&error.response())))?;
    let response = match settings.route(&request) {
        Route::Upgrade(upgrade, response) => {
            let response = head::encode(&response);
            return enter(shared, stream, upgrade, response, rest).await;
        }
        Route::Health => health(shared),
        Route::Respond(response) => response,
    };
    let is_head = request.method() == Method::HEAD;
    Err(Rejection::Told(head::encode_last(&response, is_head)))
}

/// The last response to a request whose method is not known.
fn last(response: &Response<String>) -> Vec<u8> {
    head::encode_last(response, false)
}

/// Joins on a stream that speaks WebSocket once `response` is written; `rest` came already.
async fn enter<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    upgrade: Upgrade,
    response: Vec<u8>,
    rest: Vec<u8>,
) -> Result<Joined, Rejection> {
    let Some(name) = upgrade.address else {
        return prove(shared, stream, response, rest).await;
    };
    // Whoever sees the response takes itself for joined, so it is registered before.
    match register(shared, name, Admission::Named) {
        Ok(conn) => {
            let mut decoder = Decoder::new(shared.settings.message_bytes);
            decoder.preload(rest);
            Ok(Joined {
                conn,
                decoder,
                unsent: response,
            })
        }
        Err(Rejection::Told(close)) => Err(Rejection::Told([response, close].concat())),
        Err(Rejection::Lost) => Err(Rejection::Lost),
    }
}

/// Lets the agent prove its key, and registers it. The challenge goes out with `response`.
async fn prove<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    response: Vec<u8>,
    rest: Vec<u8>,
) -> Result<Joined, Rejection> {
    let mut nonce = [0; 32];
    if let Err(error) = getrandom::fill(&mut nonce) {
        shared.report(Report::NoRandomness(error));
        return Err(Rejection::Lost);
    }
    let settings = &shared.settings;
    let now = shared.clock.now();
    let mut relay = handshake::Relay::new(
        settings.host.clone(),
        settings.auth_timeout,
        nonce,
        now,
        unix_now(),
    );
    let mut bytes = response;
    encode(&Frame::Message(relay.challenge()), &mut bytes);

    let mut inbox = Inbox::new(rest);
    let first = async {
        inbox.write(stream, &bytes).await?;
        inbox.next(stream).await
    };
    let mut answer = within(shared, relay.poll_timeout(), first).await;
    let answer = loop {
        match answer {
            Waited::Done(answer) => break answer?,
            Waited::Late => {
                relay = relay
                    .handle_timeout(shared.clock.now())
                    .map_err(|late| inbox.rejection(&late))?;
            }
            Waited::Closing => return Err(inbox.going_away()),
        }
        answer = within(shared, relay.poll_timeout(), inbox.next(stream)).await;
    };
    let proof = relay
        .handle_message(&answer, shared.clock.now(), unix_now())
        .and_then(handshake::Claim::verify)
        .map_err(|refusal| Rejection::handshake(&refusal))?;
    let conn = register(shared, proof.into_address(), Admission::Proven)?;
    let mut decoder = Decoder::new(settings.message_bytes);
    decoder.preload(inbox.into_rest());
    Ok(Joined {
        conn,
        decoder,
        unsent: Vec::new(),
    })
}

/// Enters the routing table.
fn register<R: Runtime>(
    shared: &Shared<R>,
    address: Address,
    admission: Admission,
) -> Result<ConnId, Rejection> {
    let mut outcome = Err(JoinRefusal::ShuttingDown);
    shared.tell(Input::Register { address, admission }, |own| match own {
        Own::Registered(conn) => outcome = Ok(conn),
        Own::Refused(refusal) => outcome = Err(refusal),
        Own::Transmit(_) => {}
    });
    outcome.map_err(|refusal| {
        let result = match admission {
            Admission::Proven => Some(handshake::auth_failed(&refusal.to_string(), unix_now())),
            Admission::Named => None,
        };
        Rejection::frames(result, refusal.close())
    })
}

/// The one message that an agent sends before it has joined, and what it is told meanwhile.
struct Inbox {
    decoder: Decoder,
    turns: Turns,
    /// The agent may have been told half a frame, or half of the response before it.
    is_writing: bool,
}

impl Inbox {
    /// `rest` are bytes that came with the HTTP request.
    fn new(rest: Vec<u8>) -> Self {
        let mut decoder = Decoder::new(MAX_HANDSHAKE_MESSAGE);
        decoder.preload(rest);
        Self {
            decoder,
            turns: Turns::default(),
            is_writing: false,
        }
    }

    /// Writes `bytes`, behind which a frame may begin.
    async fn write(&mut self, stream: &mut impl Stream, bytes: &[u8]) -> io::Result<()> {
        self.is_writing = true;
        say(stream, bytes).await?;
        self.is_writing = false;
        Ok(())
    }

    /// The end of an agent that is late. What it is told must not end up inside of a frame.
    fn rejection(&self, late: &handshake::Refusal) -> Rejection {
        if self.is_writing {
            debug!(%late, "takes nothing");
            Rejection::Lost
        } else {
            Rejection::handshake(late)
        }
    }

    /// The end of an agent at a shutdown, as that of one that has joined.
    fn going_away(&self) -> Rejection {
        if self.is_writing {
            Rejection::Lost
        } else {
            Rejection::frames(None, Close::new(CloseCode::GOING_AWAY, "going away"))
        }
    }

    /// The next binary message.
    async fn next(&mut self, stream: &mut impl Stream) -> Result<Bytes, Rejection> {
        let mut bytes = Vec::new();
        loop {
            let mut replies = Vec::new();
            let mut last = None;
            // Pongs answer nothing here; everything else is the last.
            self.decoder
                .decode_message(&bytes, &mut replies, |incoming| last = Some(incoming));
            if !replies.is_empty() {
                self.write(stream, &replies).await?;
            }
            match last {
                Some(Incoming::Message(message)) => return Ok(message),
                Some(Incoming::Pong(_)) | None => {}
                Some(Incoming::Close) => return Err(Rejection::Lost),
                Some(Incoming::Fault(fault)) => {
                    return Err(Rejection::frames(
                        None,
                        fault.violation(MAX_HANDSHAKE_MESSAGE).close(),
                    ));
                }
            }
            bytes.clear();
            if self.turns.read_some(stream, &mut bytes).await? == 0 {
                return Err(Rejection::Lost);
            }
        }
    }

    /// What came behind the message.
    fn into_rest(self) -> Vec<u8> {
        self.decoder.into_rest()
    }
}

fn health<R: Runtime>(shared: &Shared<R>) -> Response<String> {
    let stats = shared.stats();
    let (code, status) = match shared.dead_task() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(task) => {
            let status = format!("the {task} task has died");
            (StatusCode::SERVICE_UNAVAILABLE, status)
        }
    };
    // The Go relay calls its tasks goroutines, and monitors read that.
    let mut body = format!(
        r#"{{"status":"{status}","connections":{},"tasks":{tasks},"goroutines":{tasks},"uptime_seconds":{},"version":"{}","runtime":"{}","store":"{}","stored":{}"#,
        stats.hub.connections,
        shared.uptime().as_secs(),
        env!("CARGO_PKG_VERSION"),
        R::NAME,
        stats.store.as_str(),
        stats.hub.stored,
        tasks = stats.tasks,
    );
    for (name, count) in &shared.settings.health_counters {
        let _ = write!(body, r#","{name}":{}"#, count());
    }
    body.push('}');
    head::respond(code, "application/json", body)
}

/// What became of something that was waited for.
enum Waited<T> {
    Done(T),
    /// The time was up.
    Late,
    /// The relay is shutting down.
    Closing,
}

/// Awaits `future`, at most until `until`, and no longer once the relay shuts down.
async fn within<R: Runtime, T>(
    shared: &Shared<R>,
    until: Time,
    future: impl Future<Output = T>,
) -> Waited<T> {
    let (future, closed) = (pin!(future), pin!(shared.closed()));
    match until_time(shared, until, select(future, closed)).await {
        Some(Either::Left((output, _))) => Waited::Done(output),
        Some(Either::Right(_)) => Waited::Closing,
        None => Waited::Late,
    }
}

/// Awaits `future`, at most until `until`.
async fn until_time<R: Runtime, F: Future>(
    shared: &Shared<R>,
    until: Time,
    future: F,
) -> Option<F::Output> {
    let deadline = shared.runtime.sleep_until(shared.clock.instant(until));
    match select(pin!(future), pin!(deadline)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
