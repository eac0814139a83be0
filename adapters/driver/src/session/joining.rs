//! The session of a connection that has not joined: PROXY header, HTTP request, challenge.

use core::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Method, Request, Response, StatusCode};
use pinch_proto::hub::{Admission, JoinOptions, JoinRefusal};
use pinch_proto::{Address, Close, CloseCode, Frame, Time, Timeout, UnixMillis, handshake, peers};
use tracing::debug;

use super::{Config, Entry, Outcome, Reason, WriteBatch};
use crate::codec::{Decoder, Incoming};
use crate::http::{self as head, Route, parse_head};
use crate::{Upgrade, proxy};

/// Maximum length of a message before a connection has joined, in bytes: an AUTH_RESPONSE has some
/// 150.
const MAX_MESSAGE: usize = 4096;

/// Maximum number of bytes that one read asks for, where little is expected.
pub(super) const READ: usize = 1024;

/// The reason that a connection gets which gives way to newcomers.
const EVICTED: &str = "too many pending handshakes";

/// A connection that has not joined.
#[derive(Debug)]
pub(super) struct Joining {
    config: Arc<Config>,
    /// The address that it comes from, as far as is known.
    source: Option<IpAddr>,
    /// Of the request.
    timeout: Timeout,
    /// Bytes that came and were not looked at.
    received: Vec<u8>,
    step: Step,
}

/// ```text
///  Proxy ──► Head ──► Request ──► Health ──► (left)
///                        │
///                        ▼
///                     Upgrade ──► Nonce ──► Proof ──► Register ──► (joined)
///                        │                               ▲
///                        └───────────────────────────────┘
///                          open mode, or vouched for
/// ```
/// `Proxy`, `Head` and `Proof` wait for the peer, the others for the caller.
#[derive(Debug)]
enum Step {
    Proxy,
    Head,
    Request(Request<()>),
    Health { is_head: bool },
    Upgrade(Upgrade, Greeting),
    Nonce(JoinOptions, Greeting),
    Proof(Box<Proof>),
    Register(Registration),
}

/// The response to a request for an upgrade, until it is written; `None` if it was elsewhere.
type Greeting = Option<Vec<u8>>;

/// A challenge without an answer.
#[derive(Debug)]
struct Proof {
    relay: handshake::Relay,
    dates: Dates,
    decoder: Decoder,
    options: JoinOptions,
}

/// The same moment on the two clocks, by which messages are dated.
#[derive(Clone, Copy, Debug)]
struct Dates {
    now: Time,
    unix: UnixMillis,
}

impl Dates {
    fn at(self, now: Time) -> UnixMillis {
        self.unix + now.since(self.now)
    }
}

/// A connection that the hub has to decide about.
#[derive(Debug)]
struct Registration {
    address: Address,
    /// If it has proven its address, by a challenge of that moment.
    proven: Option<Dates>,
    options: JoinOptions,
    greeting: Greeting,
}

/// What a connection that has not joined waits for.
pub(super) enum Waits {
    Peer,
    /// Nothing, but the caller should know that it comes from this address.
    Identified(IpAddr),
    Health,
    Upgrade,
    Nonce,
    Register(Address, Admission, JoinOptions),
}

impl Joining {
    pub(super) fn new(config: Arc<Config>, entry: Entry, peer: Option<IpAddr>, now: Time) -> Self {
        let step = match entry {
            Entry::Accepted if config.expects_proxy_header(peer) => Step::Proxy,
            Entry::Accepted | Entry::Fresh => Step::Head,
            Entry::Upgraded(upgrade) => Step::Upgrade(upgrade, None),
        };
        Self {
            timeout: Timeout::new(config.auth_timeout, now),
            config,
            source: peer,
            received: Vec::new(),
            step,
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    pub(super) const fn wants_read(&self) -> bool {
        matches!(self.step, Step::Proxy | Step::Head | Step::Proof(_))
    }

    /// Goes as far as what came allows.
    ///
    /// # Errors
    /// It does not join.
    pub(super) fn advance(&mut self, now: Time, out: &mut WriteBatch) -> Result<Waits, Outcome> {
        loop {
            match core::mem::replace(&mut self.step, Step::Head) {
                Step::Proxy => {
                    let header = proxy::parse(&self.received);
                    let header = header.map_err(|error| malformed(&error.to_string(), out))?;
                    let Some(header) = header else {
                        self.step = Step::Proxy;
                        return Ok(Waits::Peer);
                    };
                    self.received.drain(..header.length);
                    if let Some(named) = header.source {
                        self.source = Some(named);
                        return Ok(Waits::Identified(named));
                    }
                }
                Step::Head => {
                    let head = parse_head(&self.received);
                    let head =
                        head.map_err(|error| respond(Reason::Malformed, &error.response(), out))?;
                    let Some((request, length)) = head else {
                        return Ok(Waits::Peer);
                    };
                    self.received.drain(..length);
                    let named = self.source.map(|peer| {
                        head::source(request.headers(), peer, &self.config.trusted_proxies)
                    });
                    let named = named.transpose();
                    let named = named.map_err(|error| malformed(&error.to_string(), out))?;
                    self.step = Step::Request(request);
                    if let Some(named) = named
                        && self.source.replace(named) != Some(named)
                    {
                        return Ok(Waits::Identified(named));
                    }
                }
                Step::Request(request) => self.step = self.route(&request, out)?,
                Step::Proof(proof) => {
                    self.step = self.prove(proof, now, out)?;
                    if let Step::Proof(_) = self.step {
                        return Ok(Waits::Peer);
                    }
                }
                step @ Step::Health { .. } => return Ok(self.wait(step, Waits::Health)),
                step @ Step::Upgrade(..) => return Ok(self.wait(step, Waits::Upgrade)),
                step @ Step::Nonce(..) => return Ok(self.wait(step, Waits::Nonce)),
                Step::Register(registration) => {
                    let address = registration.address.clone();
                    let admission = match registration.proven {
                        Some(_) => Admission::Proven,
                        None => Admission::Named,
                    };
                    let waits = Waits::Register(address, admission, registration.options);
                    return Ok(self.wait(Step::Register(registration), waits));
                }
            }
        }
    }

    fn wait(&mut self, step: Step, waits: Waits) -> Waits {
        self.step = step;
        waits
    }

    /// Decides what `request` leads to (protocol section 5).
    fn route(&self, request: &Request<()>, out: &mut WriteBatch) -> Result<Step, Outcome> {
        let is_head = request.method() == Method::HEAD;
        match self.config.route(request) {
            Route::Upgrade(upgrade, response) => {
                Ok(Step::Upgrade(upgrade, Some(head::encode(&response))))
            }
            Route::Health => Ok(Step::Health { is_head }),
            Route::Respond(response) => {
                out.extend_from_slice(&head::encode_last(&response, is_head));
                Err(Outcome::Rejected(match response.status() {
                    StatusCode::FORBIDDEN => Reason::Origin,
                    _ => Reason::Request,
                }))
            }
        }
    }

    /// Reads up to the answer to the challenge.
    fn prove(
        &mut self,
        mut proof: Box<Proof>,
        now: Time,
        out: &mut WriteBatch,
    ) -> Result<Step, Outcome> {
        let mut last = None;
        let received = core::mem::take(&mut self.received);
        proof.decoder.decode_message(&received, |incoming| {
            match incoming {
                Incoming::Ping(payload) => out.push(Frame::Pong(payload)),
                // Answers nothing here.
                Incoming::Pong(_) => {}
                last_one @ (Incoming::Message(_)
                | Incoming::Text(_)
                | Incoming::Close(_)
                | Incoming::Fault(_)) => last = Some(last_one),
            }
        });
        let answer = match last {
            Some(Incoming::Message(answer)) => answer,
            Some(Incoming::Close(close)) => {
                out.push(Frame::Close(close.unwrap_or(Close::NO_STATUS)));
                return Err(Outcome::Left);
            }
            Some(Incoming::Fault(fault)) => {
                let close = fault.violation(MAX_MESSAGE).close();
                return Err(reject(Reason::Protocol, None, close, out));
            }
            Some(Incoming::Ping(_) | Incoming::Pong(_)) | None => {
                return Ok(Step::Proof(proof));
            }
        };
        let Proof {
            relay,
            dates,
            decoder,
            options,
        } = *proof;
        let proven = relay
            .handle_message(&answer, now)
            .and_then(handshake::Claim::verify)
            .map_err(|refusal| {
                debug!(%refusal, "handshake failed");
                let result = refusal.auth_result(dates.at(now));
                reject(Reason::Authentication, result, refusal.close(), out)
            })?;
        self.received = decoder.into_rest();
        Ok(Step::Register(Registration {
            address: proven.into_address(),
            proven: Some(dates),
            options,
            greeting: None,
        }))
    }

    /// Answers [`Waits::Health`].
    pub(super) fn health(&self, response: &Response<String>, out: &mut WriteBatch) -> Outcome {
        let is_head = matches!(self.step, Step::Health { is_head: true });
        out.extend_from_slice(&head::encode_last(response, is_head));
        Outcome::Answered
    }

    /// Answers [`Waits::Upgrade`].
    pub(super) fn upgraded(
        &mut self,
        admitted: Result<(), peers::Rejection>,
        out: &mut WriteBatch,
    ) -> Result<(), Outcome> {
        if let Err(rejection) = admitted {
            return Err(self.over_limit(&rejection, out));
        }
        if let Step::Upgrade(upgrade, greeting) = core::mem::replace(&mut self.step, Step::Head) {
            let options = upgrade.join_options();
            self.step = match upgrade.address {
                Some(address) => Step::Register(Registration {
                    address,
                    proven: None,
                    options,
                    greeting,
                }),
                None => Step::Nonce(options, greeting),
            };
        }
        Ok(())
    }

    /// Rejects a connection whose address is over a limit.
    fn over_limit(&self, rejection: &peers::Rejection, out: &mut WriteBatch) -> Outcome {
        let (reason, retry_after) = match rejection {
            peers::Rejection::Connections { .. } => (Reason::Connections, None),
            peers::Rejection::JoinRate { retry_after, .. } => (Reason::JoinRate, Some(retry_after)),
            peers::Rejection::Evicted => return self.evict(out),
        };
        let words = rejection.to_string();
        if self.speaks_websocket() {
            let close = Close::new(CloseCode::TRY_AGAIN_LATER, words);
            return reject(reason, None, close, out);
        }
        let mut response = head::refuse(StatusCode::TOO_MANY_REQUESTS, &words);
        if let Some(retry_after) = retry_after {
            let seconds = retry_after.as_millis().div_ceil(1000);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        respond(reason, &response, out)
    }

    /// Answers [`Waits::Nonce`]: writes the challenge.
    pub(super) fn challenge(
        &mut self,
        nonce: [u8; 32],
        now: Time,
        unix: UnixMillis,
        out: &mut WriteBatch,
    ) {
        let Step::Nonce(options, greeting) = &mut self.step else {
            return;
        };
        out.extend_from_slice(greeting.as_deref().unwrap_or_default());
        let (host, timeout) = (self.config.host.clone(), self.config.auth_timeout);
        let relay = handshake::Relay::new(host, timeout, nonce, now, unix);
        out.push(Frame::Message(relay.challenge()));
        self.step = Step::Proof(Box::new(Proof {
            relay,
            dates: Dates { now, unix },
            decoder: Decoder::new(MAX_MESSAGE),
            options: *options,
        }));
    }

    /// Answers [`Waits::Register`]: returns the limit of messages, and what came behind the
    /// handshake.
    pub(super) fn registered(&mut self, out: &mut WriteBatch) -> (usize, Vec<u8>) {
        // The peer takes itself for joined when it reads the response: so it is written only now.
        self.greet(out);
        let mut rest = core::mem::take(&mut self.received);
        // Nearly always there is nothing in it, and then an idle connection keeps nothing.
        rest.shrink_to_fit();
        (self.config.message_bytes, rest)
    }

    /// Answers [`Waits::Register`].
    pub(super) fn refused(
        &mut self,
        refusal: JoinRefusal,
        now: Time,
        out: &mut WriteBatch,
    ) -> Outcome {
        let proven = self.greet(out);
        let result =
            proven.map(|dates| handshake::auth_failed(&refusal.to_string(), dates.at(now)));
        reject(Reason::Hub, result, refusal.close(), out)
    }

    /// Writes the response to the request for an upgrade; returns when the challenge was issued, if
    /// there was one.
    fn greet(&mut self, out: &mut WriteBatch) -> Option<Dates> {
        let Step::Register(registration) = &mut self.step else {
            return None;
        };
        let greeting = registration.greeting.take();
        out.extend_from_slice(greeting.as_deref().unwrap_or_default());
        registration.proven
    }

    /// The timeout that runs, if the peer is waited for.
    pub(super) const fn timeout(&mut self) -> Option<&mut Timeout> {
        match &mut self.step {
            Step::Proxy | Step::Head => Some(&mut self.timeout),
            Step::Proof(proof) => Some(proof.relay.timeout()),
            Step::Request(_)
            | Step::Health { .. }
            | Step::Upgrade(..)
            | Step::Nonce(..)
            | Step::Register(_) => None,
        }
    }

    /// The timeout is over.
    pub(super) fn time_out(&self, out: &mut WriteBatch) -> Outcome {
        if self.speaks_websocket() {
            let late = handshake::Refusal::TimedOut;
            debug!(%late, "handshake failed");
            return reject(Reason::Timeout, None, late.close(), out);
        }
        let words = "the request did not come in time";
        let response = head::refuse(StatusCode::REQUEST_TIMEOUT, words);
        respond(Reason::Timeout, &response, out)
    }

    /// The relay shuts down.
    pub(super) fn shut_down(&self, out: &mut WriteBatch) -> Outcome {
        if self.speaks_websocket() {
            let close = Close::new(CloseCode::GOING_AWAY, "going away");
            return reject(Reason::ShuttingDown, None, close, out);
        }
        let words = "the relay is shutting down";
        let response = head::refuse(StatusCode::SERVICE_UNAVAILABLE, words);
        respond(Reason::ShuttingDown, &response, out)
    }

    /// It gives way to a newcomer.
    pub(super) fn evict(&self, out: &mut WriteBatch) -> Outcome {
        if self.speaks_websocket() {
            let close = Close::new(CloseCode::TRY_AGAIN_LATER, EVICTED);
            out.push(Frame::Close(close));
        } else {
            let response = head::refuse(StatusCode::SERVICE_UNAVAILABLE, EVICTED);
            out.extend_from_slice(&head::encode_last(&response, false));
        }
        Outcome::Evicted
    }

    /// Whether frames are expected by the peer, and no response of HTTP.
    const fn speaks_websocket(&self) -> bool {
        match &self.step {
            Step::Proxy | Step::Head | Step::Request(_) | Step::Health { .. } => false,
            Step::Upgrade(_, greeting) | Step::Nonce(_, greeting) => greeting.is_none(),
            Step::Register(registration) => registration.greeting.is_none(),
            Step::Proof(_) => true,
        }
    }
}

fn malformed(reason: &str, out: &mut WriteBatch) -> Outcome {
    let response = head::refuse(StatusCode::BAD_REQUEST, reason);
    respond(Reason::Malformed, &response, out)
}

/// The last response to a request whose method is not known.
fn respond(reason: Reason, response: &Response<String>, out: &mut WriteBatch) -> Outcome {
    out.extend_from_slice(&head::encode_last(response, false));
    Outcome::Rejected(reason)
}

fn reject(reason: Reason, message: Option<Bytes>, close: Close, out: &mut WriteBatch) -> Outcome {
    debug!(%close, "turned away");
    if let Some(message) = message {
        out.push(Frame::Message(message));
    }
    out.push(Frame::Close(close));
    Outcome::Rejected(reason)
}
