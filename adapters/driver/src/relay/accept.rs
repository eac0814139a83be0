//! From a fresh byte stream to a registered connection: HTTP, upgrade, handshake, hub.
//!
//! All of this happens in one boxed future, so that nothing of it is left in a connection that has
//! joined, and each step has a deadline. What the peer must prove is decided by
//! [`handshake`](pinch_proto::handshake); here bytes are moved.

use core::fmt::Write as _;
use core::future::Future;
use core::net::IpAddr;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, FutureExt as _, select};
use http::header::RETRY_AFTER;
use http::{Method, Response, StatusCode};
use pinch_proto::hub::{Admission, ConnId, JoinOptions};
use pinch_proto::peers::{self, Place};
use pinch_proto::{Address, Close, CloseCode, Frame, Timeout, handshake};
use tracing::debug;

use super::connection::Connection;
use super::counts::TaskCount;
use super::peers::Pending;
use super::reports::Report;
use super::switchboard::Shared;
use crate::clock::unix_now;
use crate::codec::{Decoder, Incoming, encode};
use crate::ends::{Turns, farewell, read_head, read_proxy_header, say};
use crate::http::{self as head, Route};
use crate::session::{Outcome, Reason};
use crate::{Runtime, Stream, Upgrade};

/// How long a peer that is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// The longest message before a connection has joined, in bytes: an AUTH_RESPONSE has some 150.
const MAX_HANDSHAKE_MESSAGE: usize = 4096;

/// How far a stream is that is to be served.
pub(super) enum Entry {
    /// The relay has accepted it. Its HTTP request will come, and before it a PROXY header if a
    /// trusted proxy has opened it and these are expected.
    Accepted,
    /// Its HTTP request will come.
    Fresh,
    /// It speaks WebSocket already.
    Upgraded(Upgrade),
}

/// Serves `stream`, which comes from `peer`, in a task of its own.
pub(super) fn spawn<R: Runtime>(
    shared: Arc<Shared<R>>,
    stream: impl Stream,
    peer: Option<IpAddr>,
    entry: Entry,
) {
    let count = shared.count_task();
    let runtime = shared.runtime.clone();
    runtime.spawn(Task {
        stage: Stage::Accepting(Box::pin(accept(shared, stream, peer, entry))),
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

/// Everything before the join; `None` if there was none. Ends at once when the relay is cut; when
/// it shuts down, the peer is told.
async fn accept<R: Runtime, S: Stream>(
    shared: Arc<Shared<R>>,
    mut stream: S,
    peer: Option<IpAddr>,
    entry: Entry,
) -> Option<Connection<R, S>> {
    let joined = {
        let joining = pin!(join(&shared, &mut stream, peer, entry));
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
    /// Its place among the connections of its address.
    pub(super) place: Option<Place>,
}

/// Why a connection does not join.
enum Rejection {
    /// It went away.
    Lost,
    /// It gives way to a newcomer, and is told this if it takes it at once.
    Evicted(Vec<u8>),
    /// It is told this, and then the stream ends.
    Told(Outcome, Vec<u8>),
}

impl From<io::Error> for Rejection {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl Rejection {
    /// Before the head of the request is known.
    fn http(reason: Reason, response: &Response<String>) -> Self {
        Self::Told(Outcome::Rejected(reason), last(response))
    }

    fn frames(reason: Reason, message: Option<Bytes>, close: Close) -> Self {
        debug!(%close, "turned away");
        let mut bytes = Vec::new();
        if let Some(message) = message {
            encode(&Frame::Message(message), &mut bytes);
        }
        encode(&Frame::Close(close), &mut bytes);
        Self::Told(Outcome::Rejected(reason), bytes)
    }

    fn handshake(reason: Reason, refusal: &handshake::Refusal) -> Self {
        debug!(%refusal, "handshake failed");
        Self::frames(reason, refusal.auth_result(unix_now()), refusal.close())
    }
}

async fn join<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    peer: Option<IpAddr>,
    entry: Entry,
) -> Option<Joined> {
    let mut pending = shared.admit(peer);
    let joined = match entry {
        Entry::Accepted | Entry::Fresh => {
            let may_be_proxied = matches!(entry, Entry::Accepted);
            request(shared, stream, &mut pending, peer, may_be_proxied).await
        }
        Entry::Upgraded(upgrade) => match pending.upgrade() {
            Ok(()) => enter(shared, stream, &pending, upgrade, Vec::new(), Vec::new()).await,
            Err(rejection) => Err(over_limit_of_upgraded(&rejection)),
        },
    };
    match joined {
        Ok(joined) => {
            let place = pending.join();
            Some(Joined { place, ..joined })
        }
        Err(Rejection::Lost) => None,
        Err(Rejection::Evicted(bytes)) => {
            pending.set_outcome(Outcome::Evicted);
            // There is no place in which to wait for a peer that does not take it.
            let _ = say(stream, &bytes).now_or_never();
            None
        }
        Err(Rejection::Told(outcome, bytes)) => {
            pending.set_outcome(outcome);
            let mut timeout = Timeout::new(FAREWELL, shared.clock.now());
            let farewell = farewell(stream, &bytes);
            let _ = until_over(shared, &pending, &mut timeout, farewell).await;
            None
        }
    }
}

/// What a connection hears that gives way to newcomers.
const EVICTED: &str = "too many pending handshakes";

/// A close frame that says so, or that its address has too many connections.
fn try_again_later(reason: String) -> Vec<u8> {
    let mut bytes = Vec::new();
    let close = Close::new(CloseCode::TRY_AGAIN_LATER, reason);
    encode(&Frame::Close(close), &mut bytes);
    bytes
}

fn reason_of(rejection: &peers::Rejection) -> Option<Reason> {
    match rejection {
        peers::Rejection::Connections { .. } => Some(Reason::Connections),
        peers::Rejection::JoinRate { .. } => Some(Reason::JoinRate),
        peers::Rejection::Evicted => None,
    }
}

/// The end of a connection whose address is over a limit, and that speaks WebSocket already.
fn over_limit_of_upgraded(rejection: &peers::Rejection) -> Rejection {
    let bytes = try_again_later(rejection.to_string());
    match reason_of(rejection) {
        Some(reason) => Rejection::Told(Outcome::Rejected(reason), bytes),
        None => Rejection::Evicted(bytes),
    }
}

/// The end of a request for an upgrade whose address is over a limit.
fn over_limit(rejection: &peers::Rejection) -> Rejection {
    let Some(reason) = reason_of(rejection) else {
        return Rejection::Evicted(evicted());
    };
    let said = rejection.to_string();
    let mut response = head::refuse(StatusCode::TOO_MANY_REQUESTS, &said);
    if let peers::Rejection::JoinRate { retry_after, .. } = rejection {
        let seconds = retry_after.as_millis().div_ceil(1000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    Rejection::http(reason, &response)
}

fn evicted() -> Vec<u8> {
    last(&head::refuse(StatusCode::SERVICE_UNAVAILABLE, EVICTED))
}

/// Reads the HTTP request, and does what it asks for.
async fn request<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    pending: &mut Pending<R>,
    peer: Option<IpAddr>,
    may_be_proxied: bool,
) -> Result<Joined, Rejection> {
    let settings = &shared.settings;
    let mut timeout = Timeout::new(settings.auth_timeout, shared.clock.now());
    let mut begun = Vec::new();
    let mut source = peer;
    if may_be_proxied && settings.expects_proxy_header(peer) {
        let header = read_proxy_header(stream);
        let header = in_time(within(shared, pending, &mut timeout, header).await)??;
        let (named, rest) = header.map_err(|error| malformed(&error.to_string()))?;
        begun = rest;
        if let Some(named) = named {
            pending.identify(named);
            source = Some(named);
        }
    }
    let head = read_head(stream, begun);
    let head = in_time(within(shared, pending, &mut timeout, head).await)??;
    let head = head.map_err(|error| Rejection::http(Reason::Malformed, &error.response()));
    let (request, rest) = head?;
    if let Some(peer) = source {
        let named = head::source(request.headers(), peer, &settings.trusted_proxies);
        let named = named.map_err(|error| malformed(&error.to_string()))?;
        if named != peer {
            pending.identify(named);
        }
    }
    let (outcome, response) = match settings.route(&request) {
        Route::Upgrade(upgrade, response) => {
            pending.upgrade().map_err(|error| over_limit(&error))?;
            let response = head::encode(&response);
            return enter(shared, stream, pending, upgrade, response, rest).await;
        }
        Route::Health => (Outcome::Answered, health(shared)),
        Route::Respond(response) => {
            let reason = match response.status() {
                StatusCode::FORBIDDEN => Reason::Origin,
                _ => Reason::Request,
            };
            (Outcome::Rejected(reason), response)
        }
    };
    let is_head = request.method() == Method::HEAD;
    let response = head::encode_last(&response, is_head);
    Err(Rejection::Told(outcome, response))
}

/// What was read of a request, or why it is not waited for any longer.
fn in_time<T>(waited: Waited<T>) -> Result<T, Rejection> {
    let (reason, status, said) = match waited {
        Waited::Done(read) => return Ok(read),
        Waited::Late => (
            Reason::Timeout,
            StatusCode::REQUEST_TIMEOUT,
            "the request did not come in time",
        ),
        Waited::Closing => (
            Reason::ShuttingDown,
            StatusCode::SERVICE_UNAVAILABLE,
            "the relay is shutting down",
        ),
        Waited::Evicted => return Err(Rejection::Evicted(evicted())),
    };
    Err(Rejection::http(reason, &head::refuse(status, said)))
}

/// The last response to a request whose method is not known.
fn last(response: &Response<String>) -> Vec<u8> {
    head::encode_last(response, false)
}

fn malformed(reason: &str) -> Rejection {
    let response = head::refuse(StatusCode::BAD_REQUEST, reason);
    Rejection::http(Reason::Malformed, &response)
}

/// Joins on a stream that speaks WebSocket once `response` is written; `rest` came already.
async fn enter<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    pending: &Pending<R>,
    upgrade: Upgrade,
    response: Vec<u8>,
    rest: Vec<u8>,
) -> Result<Joined, Rejection> {
    let options = upgrade.join_options();
    let Some(name) = upgrade.address else {
        return prove(shared, stream, pending, options, response, rest).await;
    };
    // Whoever sees the response takes itself for joined, so it is registered before.
    match register(shared, pending, name, Admission::Named, options) {
        Ok(conn) => {
            let mut decoder = Decoder::new(shared.settings.message_bytes);
            decoder.preload(rest);
            Ok(Joined {
                conn,
                decoder,
                unsent: response,
                place: None,
            })
        }
        Err(Rejection::Told(outcome, close)) => {
            Err(Rejection::Told(outcome, [response, close].concat()))
        }
        Err(rejection) => Err(rejection),
    }
}

/// Lets the agent prove its key, and registers it. The challenge goes out with `response`.
async fn prove<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: &mut impl Stream,
    pending: &Pending<R>,
    options: JoinOptions,
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
    let answer = match within(shared, pending, relay.timeout(), first).await {
        Waited::Done(answer) => answer?,
        Waited::Late => return Err(inbox.rejection(&handshake::Refusal::TimedOut)),
        Waited::Closing => return Err(inbox.going_away()),
        Waited::Evicted => return Err(inbox.evicted()),
    };
    let proof = relay
        .handle_message(&answer, shared.clock.now())
        .and_then(handshake::Claim::verify)
        .map_err(|refusal| Rejection::handshake(Reason::Authentication, &refusal))?;
    let conn = register(
        shared,
        pending,
        proof.into_address(),
        Admission::Proven,
        options,
    )?;
    let mut decoder = Decoder::new(settings.message_bytes);
    decoder.preload(inbox.into_rest());
    Ok(Joined {
        conn,
        decoder,
        unsent: Vec::new(),
        place: None,
    })
}

/// Enters the routing table.
fn register<R: Runtime>(
    shared: &Shared<R>,
    pending: &Pending<R>,
    address: Address,
    admission: Admission,
    options: JoinOptions,
) -> Result<ConnId, Rejection> {
    let joined = shared.register(address, admission, options, pending.source());
    joined.map_err(|refusal| {
        let result = match admission {
            Admission::Proven => Some(handshake::auth_failed(&refusal.to_string(), unix_now())),
            Admission::Named => None,
        };
        Rejection::frames(Reason::Hub, result, refusal.close())
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
            Rejection::handshake(Reason::Timeout, late)
        }
    }

    /// The end of an agent at a shutdown, as that of one that has joined.
    fn going_away(&self) -> Rejection {
        if self.is_writing {
            Rejection::Lost
        } else {
            let close = Close::new(CloseCode::GOING_AWAY, "going away");
            Rejection::frames(Reason::ShuttingDown, None, close)
        }
    }

    /// The end of an agent that gives way to a newcomer.
    fn evicted(&self) -> Rejection {
        Rejection::Evicted(if self.is_writing {
            Vec::new()
        } else {
            try_again_later(EVICTED.into())
        })
    }

    /// The next binary message.
    async fn next(&mut self, stream: &mut impl Stream) -> Result<Bytes, Rejection> {
        let mut bytes = Vec::new();
        loop {
            let mut replies = Vec::new();
            let mut last = None;
            self.decoder
                .decode_message(&bytes, |incoming| match incoming {
                    Incoming::Ping(payload) => encode(&Frame::Pong(payload), &mut replies),
                    // Answers nothing here.
                    Incoming::Pong(_) => {}
                    last_one @ (Incoming::Message(_)
                    | Incoming::Text(_)
                    | Incoming::Close(_)
                    | Incoming::Fault(_)) => last = Some(last_one),
                });
            if let Some(Incoming::Close(close)) = &last {
                let close = close.clone();
                encode(
                    &Frame::Close(close.unwrap_or(Close::NO_STATUS)),
                    &mut replies,
                );
            }
            if !replies.is_empty() {
                self.write(stream, &replies).await?;
            }
            match last {
                Some(Incoming::Message(message)) => return Ok(message),
                Some(Incoming::Ping(_) | Incoming::Pong(_)) | None => {}
                Some(Incoming::Close(_)) => return Err(Rejection::Lost),
                Some(Incoming::Fault(fault)) => {
                    return Err(Rejection::frames(
                        Reason::Protocol,
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
    let rejected = stats.handshakes.rejected.each();
    let rejected: Vec<_> = rejected
        .map(|(reason, count)| format!(r#""{reason}":{count}"#))
        .collect();
    let _ = write!(
        body,
        r#","pending":{},"rejected":{{{}}}"#,
        stats.pending,
        rejected.join(",")
    );
    let memory = if stats.hub.is_memory_short() {
        "short"
    } else {
        "ok"
    };
    let _ = write!(
        body,
        r#","memory":"{memory}","held_bytes":{},"closed":{{"stalled":{},"unacknowledged":{},"memory":{}}}"#,
        stats.hub.held_bytes, stats.hub.stalls, stats.hub.ack_timeouts, stats.hub.memory_closes,
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
    /// The handshake gives way to a newcomer.
    Evicted,
}

/// Awaits `future`, until `timeout` is over, and no longer once the relay shuts down or `pending`
/// has to give way.
async fn within<R: Runtime, T>(
    shared: &Shared<R>,
    pending: &Pending<R>,
    timeout: &mut Timeout,
    future: impl Future<Output = T>,
) -> Waited<T> {
    let (future, closed) = (pin!(future), pin!(shared.closed()));
    match until_over(shared, pending, timeout, select(future, closed)).await {
        Waited::Done(Either::Left((output, _))) => Waited::Done(output),
        // That is the end of this future, too.
        Waited::Done(Either::Right(_)) if shared.is_cut() => core::future::pending().await,
        Waited::Done(Either::Right(_)) | Waited::Closing => Waited::Closing,
        Waited::Late => Waited::Late,
        Waited::Evicted => Waited::Evicted,
    }
}

/// Awaits `future`, until `timeout` is over, and no longer once `pending` has to give way.
async fn until_over<R: Runtime, F: Future>(
    shared: &Shared<R>,
    pending: &Pending<R>,
    timeout: &mut Timeout,
    future: F,
) -> Waited<F::Output> {
    let (future, evicted) = (pin!(future), pin!(pending.evicted()));
    let either = select(future, evicted);
    match shared.clock.within(timeout, either).await {
        Some(Either::Left((output, _))) => Waited::Done(output),
        Some(Either::Right(_)) => Waited::Evicted,
        None => Waited::Late,
    }
}
