//! What goes into a client and what comes out.
//!
//! [`Input`] and [`Output`] are exhaustive on purpose: a new kind must break every driver when it
//! is compiled, not when it runs.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::close::retry_after;
use crate::handshake::{AgentError, KEY_NOT_REGISTERED};
use crate::wire::MessageType;
use crate::{Address, Close, CloseCode, EnvelopeError, Frame, Time};

/// Something that happened outside. Envelopes come in by [`Client::submit`](super::Client::submit).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The WebSocket that [`Output::Dial`] asked for is up.
    Connected,
    /// Dialling failed, or the link has ended without a close frame. Text messages and breaches of
    /// the WebSocket protocol belong here too: the driver drops the link, then says this.
    Disconnected {
        /// Why, for people and logs.
        why: Cow<'static, str>,
    },
    /// Dialling failed: the relay answered the upgrade with another status than 101.
    UpgradeRejected {
        /// The status and the reason.
        rejection: UpgradeRejection,
        /// How long to wait before the next try, as the `Retry-After` of the answer asks.
        retry_after: Option<Duration>,
    },
    /// A binary message came.
    Received(Bytes),
    /// The relay sent a close frame, and the WebSocket layer has answered it.
    PeerClosed(Close),
    /// A pong came. A ping of the relay's own may be told as a pong without payload: it is a sign of
    /// life too.
    Pong {
        /// What it carried.
        payload: Bytes,
    },
    /// The socket has taken everything that was handed out; about `bytes` more may follow now.
    /// Answered by [`Output::Transmit`]. If nothing waits, [`Output::Wake`] follows once something
    /// does; otherwise say this again when what came was written.
    Writable {
        /// How much may be handed out. Envelopes follow until they reach this; the last one may
        /// exceed it, and a ping of 8 bytes may follow.
        bytes: usize,
    },
    /// The user wants to leave: what is unconfirmed is waited for, within limits, then the
    /// connection is closed. Answered by [`Event::Closed`] in the end.
    Close,
}

/// Something to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to the relay and upgrade to a WebSocket, then say [`Input::Connected`],
    /// [`Input::UpgradeRejected`] or [`Input::Disconnected`].
    Dial,
    /// Something waits to be sent, and the last [`Input::Writable`] got nothing: say it again.
    Wake,
    /// Write this.
    Transmit(Frame),
    /// Drop the link, or stop dialling, and say nothing more about it.
    Hangup,
    /// The relay has the oldest envelopes. There may be room for others now
    /// ([`Client::has_room_for`](super::Client::has_room_for)), and a flush may be over.
    Confirmed {
        /// How many it has in all, since the beginning.
        total: u64,
    },
    /// Tell the user.
    Event(Event),
}

/// Something for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The agent can be reached.
    Joined {
        /// Under this address.
        address: Address,
    },
    /// An envelope came, verbatim: from another agent, or from the relay itself (QUEUE_STATUS, and
    /// the refusals QUEUE_FULL and RATE_LIMITED). Once, as far as
    /// [`Duplicates`](super::Duplicates) promises.
    Received(Bytes),
    /// The relay is out of reach, and will be tried again.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// When it will be dialled.
        retry_at: Time,
    },
    /// The relay is out of reach, and will not be tried again. This is the last event.
    GaveUp {
        /// Why the last try failed.
        why: Disconnect,
        /// What was not confirmed, in order. The relay may have some of the first ones.
        unsent: Vec<Bytes>,
    },
    /// The connection was closed, as [`Input::Close`] asked. This is the last event.
    Closed {
        /// What was not confirmed in time, in order. The relay may have some of the first ones.
        unsent: Vec<Bytes>,
    },
}

/// Why a link ended, or did not come about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// What the driver said.
    #[error("{0}")]
    Link(Cow<'static, str>),
    /// The WebSocket was not up in time.
    #[error(
        "the relay did not answer the dial in time; check the URL, this network and its name server"
    )]
    DialTimeout,
    /// The relay answered the upgrade with another status than 101.
    #[error("{0}")]
    UpgradeRejected(UpgradeRejection),
    /// The relay did not end the handshake in time.
    #[error("the relay did not admit or refuse this agent in time")]
    JoinTimeout,
    /// The handshake failed.
    #[error("{0}")]
    Join(#[from] AgentError),
    /// The relay asks for a key.
    #[error("the relay is in challenge mode; join it with a key instead of a name")]
    KeyNeeded,
    /// The relay closed the connection.
    #[error("closed by the relay: {0}")]
    Closed(Close),
    /// The relay showed no sign of life after a heartbeat.
    #[error("no sign of life from the relay")]
    HeartbeatTimeout,
    /// The socket did not take what it was given.
    #[error("the link takes no more data")]
    Stalled,
    /// The relay sent something that is no envelope.
    #[error("the relay sent something that is no envelope: {0}")]
    Malformed(EnvelopeError),
}

impl Disconnect {
    /// Whether trying again is pointless, or harmful, until a person has changed something.
    ///
    /// Among the relay's close frames these are: the one of a takeover (4001), those that would come
    /// again when the same envelopes are sent again (1003, 1007, 1009, and 1008 because of
    /// `from_address`), and 1008 because the key is not registered, or no longer.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Join(error) => error.is_permanent(),
            Self::UpgradeRejected(rejection) => rejection.is_permanent(),
            Self::KeyNeeded => true,
            Self::Closed(close) => match close.code {
                CloseCode::REPLACED
                | CloseCode::UNSUPPORTED
                | CloseCode::INVALID_DATA
                | CloseCode::TOO_BIG => true,
                CloseCode::POLICY => [NOT_YOURS, KEY_NOT_REGISTERED].contains(&&*close.reason),
                _ => false,
            },
            Self::Link(_)
            | Self::DialTimeout
            | Self::JoinTimeout
            | Self::HeartbeatTimeout
            | Self::Stalled
            | Self::Malformed(_) => false,
        }
    }

    /// The time to wait before the next try, if the relay has said so: at most an hour.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let reason = if let Self::Closed(close) = self
            && close.code == CloseCode::TRY_AGAIN_LATER
        {
            &*close.reason
        } else if let Self::Join(AgentError::Refused { reason }) = self {
            reason
        } else {
            return None;
        };
        Some(retry_after(reason)?.min(MAX_RETRY_AFTER))
    }

    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Self::Closed(close) if close.code == CloseCode::REPLACED)
    }
}

/// An answer to the upgrade that is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct UpgradeRejection {
    /// The status code of HTTP.
    pub status: u16,
    /// What the answer says about it, for people and logs; may be empty.
    pub reason: Cow<'static, str>,
}

impl UpgradeRejection {
    /// Whether the same request will get the same answer until a person has changed something.
    ///
    /// Permanent are the answers that blame the request (4xx) and those that name another place for
    /// good (301, 308). Temporary are, among the 4xx, those that speak of this moment: 408 (request
    /// timeout), 409 (conflict, such as an address that is connected), 421 (misdirected request: by
    /// another connection it may pass), 423 (locked), 425 (too early) and 429 (too many requests).
    /// So are all others: a 5xx says that the relay or a proxy has trouble, and a 2xx or 302 is what
    /// a captive portal answers for any host until somebody logs in.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self.status {
            408 | 409 | 421 | 423 | 425 | 429 => false,
            301 | 308 | 400..=499 => true,
            _ => false,
        }
    }

    /// What to do about it.
    const fn advice(&self) -> &'static str {
        match self.status {
            400 => "check the URL, and whether the relay is in open mode or in challenge mode",
            401 | 402 | 407 => {
                "check the URL: what answers asks for credentials, which a relay does not"
            }
            403 => "ask the operator of the relay, or of a proxy before it, to let this client in",
            404 | 405 | 410 => "check the host and the path of the URL: a relay answers at /ws",
            426 => {
                "update this client or the relay: they speak different versions of HTTP or WebSocket"
            }
            301 | 308 => "change the URL to the one that it names",
            200..=399 => "check the URL, and whether this network asks for a login first",
            _ if self.is_permanent() => "check the URL",
            _ => "the relay may be back later",
        }
    }
}

impl fmt::Display for UpgradeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the relay answered {}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        write!(f, "; {}", self.advice())
    }
}

/// Maximum time that a relay may ask a client to wait before it joins again.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The relay's reason when it closes for a forged `from_address` (protocol section 4).
const NOT_YOURS: &str = "from_address is not yours";

/// An envelope that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct SubmitError {
    /// The envelope.
    pub envelope: Bytes,
    /// Why not.
    pub reason: Unsendable,
}

/// Why an envelope was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// Too much is unconfirmed. This passes; the other reasons don't.
    #[error("the outbox is full; wait until something is confirmed")]
    Full,
    /// The client was closed or has given up.
    #[error("the client is closed")]
    Closed,
    /// The envelope has too many bytes.
    #[error("the envelope has {len} bytes, expected at most {limit}")]
    TooLarge {
        /// How many it has.
        len: usize,
        /// How many it may have.
        limit: usize,
    },
    /// These bytes are no envelope.
    #[error("this is no envelope: {0}")]
    Malformed(#[from] EnvelopeError),
    /// `from_address` is not [`Client::address`](super::Client::address); the relay would close the
    /// connection.
    #[error("from_address is not the address of this client")]
    NotYourAddress,
    /// Only the relay may send this type; it would close the connection.
    #[error("only a relay may send {0:?}")]
    RelayOnly(MessageType),
}

/// When a client wants to be called again, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wakeup {
    /// Call [`Client::handle_timeout`](super::Client::handle_timeout) at this moment, or later; not
    /// much later.
    pub at: Time,
    /// What is due then.
    pub reason: WakeupReason,
}

/// What is due at a [`Wakeup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WakeupReason {
    /// Outputs were left in the turn.
    Backlog,
    /// The end of waiting for what is unconfirmed when the user closes.
    Flush,
    /// The end of waiting for the relay's close frame.
    Close,
    /// The next try.
    Dial,
    /// The end of waiting for a WebSocket.
    DialTimeout,
    /// The end of waiting for AUTH_CHALLENGE and AUTH_RESULT.
    Join,
    /// The end of waiting for the socket.
    Stall,
    /// The end of waiting for a sign of life.
    Pong,
    /// A ping.
    Ping,
}
