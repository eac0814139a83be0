//! One agent's WebSocket: how it joins, what it hears, and what it answers by itself.
//!
//! Bytes come from outside and are handed out as [`Event`]s; when to read and when to write is
//! decided by [`Clients`](super::clients::Clients).

use core::fmt;
use core::time::Duration;
use std::io;

use mio::net::TcpStream;
use pinch_proto::handshake::{Agent, AgentError, AwaitingResult};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::identity::Identity;
use super::target::{Auth, Endpoint};
use super::unix_now;
use crate::frame::{self, Header, MaskKey, Opcode};
use crate::outbox::Outbox;

/// The most bytes that one frame may have.
pub(crate) const MAX_FRAME: usize = 192 * 1024;

const NORMAL_CLOSURE: u16 = 1000;

/// What a connection tells.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The relay has registered the agent.
    Joined,
    /// An envelope has come, at this time on the clock of the load.
    Received { envelope: &'a [u8], at: u64 },
    /// The socket has taken all that waited for it.
    Drained,
    /// Nothing follows.
    Ended(Ending),
}

/// Why a connection has ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The relay closed it, with a code and a reason.
    Closed { code: Option<u16>, reason: String },
    /// The relay closed it without a word.
    EndOfStream,
    /// The system says that it is broken.
    Broken(io::Error),
    /// The relay did not accept it.
    Refused(String),
    /// Joining failed.
    NotJoined(Box<AgentError>),
    /// The relay took too long to let it join.
    TooSlow,
    /// The relay said something that it must not say.
    Breach(&'static str),
    /// It was closed from here.
    Left,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code: None, .. } => f.write_str("closed without a code"),
            Self::Closed {
                code: Some(code),
                reason,
            } => write!(f, "closed with {code} {reason:?}"),
            Self::EndOfStream => f.write_str("closed without a close frame"),
            Self::Broken(error) => error.fmt(f),
            Self::Refused(status) => write!(f, "refused with {status:?}"),
            Self::NotJoined(error) => error.fmt(f),
            Self::TooSlow => f.write_str("the relay took too long to let it join"),
            Self::Breach(what) => write!(f, "breach of the protocol: {what}"),
            Self::Left => f.write_str("closed from here"),
        }
    }
}

/// ```text
/// Upgrading ──► Challenged ──► Answered ──► Joined ──► Leaving
///     └───────────── open mode ──────────────►┘
/// ```
#[derive(Debug)]
enum Stage {
    Upgrading {
        accept: String,
        /// Who answers the challenge, if there will be one.
        agent: Option<Box<Agent>>,
    },
    Challenged(Box<Agent>),
    Answered(Box<AwaitingResult>),
    Joined,
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    stage: Stage,
    mask: MaskKey,
    /// The beginning of a frame, or of the HTTP response, whose end has not come.
    partial: Vec<u8>,
    /// The beginning of a message whose last fragment has not come.
    fragments: Vec<u8>,
    pub(crate) outbox: Outbox,
    pub(crate) pings: u64,
    /// How many pings it answers.
    pub(crate) patience: u64,
}

impl Connection {
    /// The agent `identity` on a stream to `endpoint`, with the request to join in its outbox.
    pub(crate) fn new(
        stream: TcpStream,
        identity: &Identity,
        endpoint: &Endpoint,
        mask: MaskKey,
    ) -> Self {
        let key = generate_key();
        let mut outbox = Outbox::new();
        let request = endpoint.upgrade_request(identity, &key);
        outbox.buffer().extend_from_slice(request.as_bytes());
        let agent = match endpoint.auth {
            Auth::Open => None,
            Auth::Challenge => Some(Agent::new(identity.secret.clone(), endpoint.host.clone())),
        };
        Self {
            stream,
            stage: Stage::Upgrading {
                accept: derive_accept_key(key.as_bytes()),
                agent: agent.map(Box::new),
            },
            mask,
            partial: Vec::new(),
            fragments: Vec::new(),
            outbox,
            pings: 0,
            patience: u64::MAX,
        }
    }

    /// What the frames of this connection are masked with.
    pub(crate) const fn mask(&self) -> MaskKey {
        self.mask
    }

    pub(crate) const fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving)
    }

    /// What was not complete when it came.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Appends a close frame: what ends from now on, ends because of it.
    pub(crate) fn leave(&mut self) {
        self.stage = Stage::Leaving;
        let code = NORMAL_CLOSURE.to_be_bytes();
        frame::put_masked(self.outbox.buffer(), Opcode::Close, &code, self.mask);
    }

    /// Takes in `bytes`, which begin with what was [partial](Self::partial), and tells `on` what
    /// they say. Answers are left in the outbox.
    pub(crate) fn take_in(
        &mut self,
        mut bytes: &[u8],
        at: u64,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Ending> {
        if let Stage::Upgrading { accept, agent } = &mut self.stage {
            let Some(len) = check_response(bytes, accept)? else {
                self.keep(bytes);
                return Ok(());
            };
            bytes = &bytes[len..];
            match agent.take() {
                Some(agent) => self.stage = Stage::Challenged(agent),
                None => self.joined(on),
            }
        }
        while let Some(header) = Header::parse(bytes) {
            if header.frame_len() > MAX_FRAME {
                return Err(Ending::Breach("a frame is too long"));
            }
            let Some(payload) = bytes.get(header.len..header.frame_len()) else {
                break;
            };
            self.take_frame(&header, payload, at, on)?;
            bytes = &bytes[header.frame_len()..];
        }
        self.keep(bytes);
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
    }

    fn joined(&mut self, on: &mut impl FnMut(Event<'_>)) {
        self.stage = Stage::Joined;
        on(Event::Joined);
    }

    #[inline]
    fn take_frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        at: u64,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Ending> {
        if header.mask.is_some() {
            return Err(Ending::Breach("a frame is masked"));
        }
        match header.opcode {
            Opcode::Binary if header.fin => self.take_message(payload, at, on)?,
            Opcode::Binary => self.fragments = payload.to_vec(),
            Opcode::Continuation => {
                self.fragments.extend_from_slice(payload);
                if header.fin {
                    let message = core::mem::take(&mut self.fragments);
                    self.take_message(&message, at, on)?;
                }
            }
            Opcode::Ping => {
                self.pings += 1;
                if self.pings > self.patience {
                    return Ok(());
                }
                frame::put_masked(self.outbox.buffer(), Opcode::Pong, payload, self.mask);
            }
            Opcode::Pong => {}
            Opcode::Close => return Err(self.take_close(payload)),
            Opcode::Text => return Err(Ending::Breach("a message is text")),
            Opcode::Reserved => return Err(Ending::Breach("an opcode is reserved")),
        }
        Ok(())
    }

    fn take_close(&mut self, payload: &[u8]) -> Ending {
        if self.is_leaving() {
            return Ending::Left;
        }
        frame::put_masked(self.outbox.buffer(), Opcode::Close, payload, self.mask);
        let (code, reason) = frame::close_reason(payload);
        Ending::Closed { code, reason }
    }

    fn take_message(
        &mut self,
        message: &[u8],
        at: u64,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Ending> {
        let not_joined = |error| Ending::NotJoined(Box::new(error));
        match core::mem::replace(&mut self.stage, Stage::Joined) {
            Stage::Challenged(agent) => {
                let answered = agent.handle_challenge(message, unix_now());
                let (response, agent) = answered.map_err(not_joined)?;
                let out = self.outbox.buffer();
                frame::put_masked(out, Opcode::Binary, &response, self.mask);
                self.stage = Stage::Answered(Box::new(agent));
            }
            Stage::Answered(agent) => {
                agent
                    .handle_result(message, Duration::ZERO)
                    .map_err(not_joined)?;
                self.joined(on);
            }
            stage @ (Stage::Upgrading { .. } | Stage::Joined | Stage::Leaving) => {
                self.stage = stage;
                on(Event::Received {
                    envelope: message,
                    at,
                });
            }
        }
        Ok(())
    }
}

/// The length of the HTTP response that `bytes` begin with, if it is complete and accepts the
/// WebSocket.
fn check_response(bytes: &[u8], accept: &str) -> Result<Option<usize>, Ending> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Ending::Breach("the response is not HTTP")),
    };
    if response.code != Some(101) {
        let code = response.code.unwrap_or_default();
        let reason = response.reason.unwrap_or_default();
        return Err(Ending::Refused(format!("{code} {reason}")));
    }
    let accepted = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("sec-websocket-accept")
            && header.value == accept.as_bytes()
    });
    if accepted {
        Ok(Some(len))
    } else {
        Err(Ending::Breach("Sec-WebSocket-Accept is wrong"))
    }
}
