//! What goes into a hub and what comes out.
//!
//! [`Input`] and [`Output`] are exhaustive on purpose: a new kind must break every driver when it
//! is compiled, not when it runs.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bytes::Bytes;

use super::links::Parcel;
use super::rate::retry_after_ms;
use super::send_only::MAX_PER_ADDRESS;
use super::shards::ShardId;
use super::slab::Key;
use crate::close::RETRY_IN;
use crate::queue::{Outcome, Request, Ticket};
use crate::wire::MessageType;
use crate::{Address, Close, CloseCode, EnvelopeError, Message, Time, handshake};

/// Names one connection of one hub, and never another: a late event for a connection that has
/// ended is recognised and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub(super) Key);

impl ConnId {
    /// A small number that no other *live* connection has: for a table beside the hub.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.0.index, self.0.generation)
    }
}

/// How a connection has shown that the address is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// By its key, in a handshake: it hears AUTH_RESULT first.
    Proven,
    /// By saying so, in open mode: there are no messages about it.
    Named,
}

/// Properties of a connection that its upgrade request shows (protocol section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinOptions {
    /// The client announced `receive=0`: neither its queue nor envelopes of others are delivered to
    /// this connection. It does not take the address.
    pub send_only: bool,
    /// The client announced `dedup=1`: it drops redelivered envelopes, so only pongs acknowledge.
    pub deduplicates: bool,
    /// The request has an `Origin` header: the client is a browser, whose close acknowledges nothing.
    pub browser: bool,
}

/// What the WebSocket layer found wrong with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A text message.
    Text,
    /// Text that is not UTF-8: a message, or the reason of a close frame.
    InvalidUtf8,
    /// A message longer than [`Config::message_bytes`](super::Config::message_bytes).
    TooBig,
    /// A breach of RFC 6455.
    Protocol,
}

impl Fault {
    /// What it amounts to, where messages may have `limit` bytes.
    #[must_use]
    pub const fn violation(self, limit: usize) -> Violation {
        match self {
            Self::Text => Violation::Text,
            Self::InvalidUtf8 => Violation::InvalidUtf8,
            Self::TooBig => Violation::TooBig { limit },
            Self::Protocol => Violation::Protocol,
        }
    }
}

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A connection wants to be reachable under `address`. Answered by [`Output::Registered`] or
    /// [`Output::Refused`].
    Register {
        /// The address.
        address: Address,
        /// How it is known to be its own.
        admission: Admission,
        /// What the upgrade request shows.
        options: JoinOptions,
    },
    /// A binary message came.
    Received {
        /// From whom.
        conn: ConnId,
        /// The message. It may be kept for long: don't hand in a slice that pins a large buffer.
        message: Message,
    },
    /// A pong came.
    Pong {
        /// From whom.
        conn: ConnId,
        /// What it carried.
        payload: Bytes,
    },
    /// The socket has not taken everything that was transmitted. A driver says so right after such a
    /// write, and whenever it was woken and cannot call
    /// [`Hub::poll_transmit`](super::Hub::poll_transmit).
    Blocked {
        /// Whose socket.
        conn: ConnId,
        /// Whether it has taken something since it was asked before.
        progressed: bool,
    },
    /// A ping came. Answered by a [pong](crate::Frame::Pong), once the store has answered for what came before
    /// it, [`Config::reply_timeout`](super::Config::reply_timeout) later at the latest.
    Ping {
        /// From whom.
        conn: ConnId,
        /// What it carried.
        payload: Bytes,
    },
    /// A part of a message came. A sign of life. Said behind the other inputs of the same read: as long
    /// as a message has begun, and once when none has any longer.
    Partial {
        /// From whom.
        conn: ConnId,
        /// Bytes of memory that the driver holds for the message that has begun; 0 if none has. It
        /// parts with them when the connection is no longer [open](super::Hub::is_open).
        bytes: usize,
        /// Number of fragments in this read that were not the last of their message and had fewer than
        /// 126 bytes. Each costs as much as a ping
        /// ([`Config::control_limit`](super::Config::control_limit)).
        short_fragments: u32,
    },
    /// The peer broke a rule of WebSocket, and nothing more can be read from it.
    Faulty {
        /// Which one.
        conn: ConnId,
        /// What it did.
        fault: Fault,
    },
    /// The peer sent a close frame. If it was the first, it is answered by a [close frame](crate::Frame::Close), as a
    /// ping is; the driver says [`Closed`](Self::Closed) when the peer has ended its stream, or after
    /// a deadline of the hub.
    PeerClosed {
        /// Which one.
        conn: ConnId,
        /// Its code and reason, if it has one.
        close: Option<Close>,
    },
    /// The socket is gone. Answered by [`Output::Closed`].
    Closed {
        /// Whose socket.
        conn: ConnId,
        /// The close handshake is complete: both close frames were exchanged, and then the peer
        /// ended its stream, without an error. See [`AckOnClose`](super::AckOnClose).
        clean: bool,
    },
    /// The store has answered a request.
    Stored {
        /// Of which request.
        ticket: Ticket,
        /// What it came to.
        outcome: Outcome,
    },
    /// The hub of another shard has said something to this one ([`Output::Forward`]).
    Forwarded {
        /// The shard from which it comes.
        shard: ShardId,
        /// What it is, in order.
        parcels: Vec<Parcel>,
    },
    /// Close every connection, admit no more. Answered by [`Output::ShutDown`] in the end.
    Shutdown,
}

/// Something to do outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The connection is in the routing table. Exactly one [`Output::Closed`] will follow.
    Registered {
        /// Its name from now on.
        conn: ConnId,
        /// Its address.
        address: Address,
    },
    /// The connection is not admitted; tell it why and close it.
    Refused {
        /// The address that it wanted.
        address: Address,
        /// Why not.
        refusal: JoinRefusal,
    },
    /// Something waits for a connection to which all was transmitted before: let its task call
    /// [`Hub::poll_transmit`](super::Hub::poll_transmit) again.
    Wake {
        /// Which one.
        conn: ConnId,
    },
    /// The connection has ended: drop its socket. Nothing will mention it again.
    Closed {
        /// Which one.
        conn: ConnId,
        /// The address that it had.
        address: Address,
        /// Why.
        cause: CloseCause,
    },
    /// Have the store do this, after everything that it was to do before. Answered by
    /// [`Input::Stored`]. Said only if the [`Config`](super::Config) has a queue.
    Store(Request),
    /// Hand this to the hub of another shard, as [`Input::Forwarded`], behind what it was handed before.
    /// Said only by a hub that is one of several.
    Forward {
        /// The shard for which it is.
        shard: ShardId,
        /// What it is: all that there is for that shard, in order.
        parcels: Vec<Parcel>,
    },
    /// After [`Input::Shutdown`]: the last connection has ended, and neither the store nor another shard
    /// owes an answer that somebody waits for. A hub that is one of several still takes what comes from
    /// others until all of them have said this.
    ShutDown,
}

/// Why a join is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// The address has a connection.
    #[error("{}", handshake::ADDRESS_ALREADY_CONNECTED)]
    AlreadyConnected,
    /// The address has as many send-only sessions as may be.
    #[error(
        "too many send-only sessions of this address: at most {}",
        MAX_PER_ADDRESS
    )]
    TooManySendOnly,
    /// The address has joined too often ([`Config::join_limit`](super::Config::join_limit)).
    #[error("too many joins of this address; {RETRY_IN}{} ms", retry_after_ms(*retry_after))]
    TooManyJoins {
        /// Time until it may join again.
        retry_after: Duration,
    },
    /// As many connections are registered as may be.
    #[error("relay is full")]
    Full,
    /// The relay is shutting down.
    #[error("going away")]
    ShuttingDown,
}

impl JoinRefusal {
    /// The close frame that tells it.
    #[must_use]
    pub fn close(self) -> Close {
        let code = match self {
            Self::AlreadyConnected => CloseCode::POLICY,
            Self::TooManySendOnly | Self::TooManyJoins { .. } | Self::Full => {
                CloseCode::TRY_AGAIN_LATER
            }
            Self::ShuttingDown => CloseCode::GOING_AWAY,
        };
        Close::new(code, alloc::format!("{self}"))
    }
}

/// What a peer did that ended its connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It sent a text message.
    #[error("text message, expected a binary one")]
    Text,
    /// It sent text that is not UTF-8.
    #[error("text that is not UTF-8")]
    InvalidUtf8,
    /// It sent a WebSocket message beyond the limit.
    #[error("message over {limit} bytes")]
    TooBig {
        /// The limit.
        limit: usize,
    },
    /// It broke RFC 6455.
    #[error("WebSocket protocol error")]
    Protocol,
    /// It sent something that is no envelope.
    #[error("no envelope: {0}")]
    Malformed(EnvelopeError),
    /// It sent a notification for the relay that does not carry what its type says.
    #[error("the payload is no {0:?}")]
    MalformedPayload(MessageType),
    /// It wrote another's address into `from_address`.
    #[error("from_address is not yours")]
    NotYourAddress,
    /// It sent what only the relay may say.
    #[error("only the relay may send {0:?}")]
    RelayOnlyType(MessageType),
}

impl Violation {
    /// The close frame that tells it.
    #[must_use]
    pub fn close(&self) -> Close {
        Close::new(self.code(), alloc::format!("{self}"))
    }

    fn code(&self) -> CloseCode {
        match self {
            Self::Text => CloseCode::UNSUPPORTED,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::Malformed(_) | Self::MalformedPayload(_) => {
                CloseCode::INVALID_DATA
            }
            Self::NotYourAddress | Self::RelayOnlyType(_) => CloseCode::POLICY,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer sent a close frame.
    #[error("closed by the peer")]
    Peer,
    /// The socket went away without a close frame.
    #[error("connection lost")]
    Lost,
    /// No sign of life came after a ping.
    #[error("heartbeat timeout")]
    HeartbeatTimeout,
    /// The socket took nothing for too long, or the peer acknowledged nothing for too long.
    #[error("too slow")]
    TooSlow,
    /// It sent more pings, pongs that answer none, and short fragments than it may.
    #[error("too many control frames")]
    ControlFlood,
    /// A message that had begun did not end in time.
    #[error("message took too long")]
    MessageTimeout,
    /// Messages that have begun take too much memory, and this was the oldest of them.
    #[error("too many messages have begun; send it again")]
    MessageEvicted,
    /// Another connection took the address over.
    #[error("replaced by a new connection")]
    Replaced,
    /// The relay shut down.
    #[error("going away")]
    GoingAway,
    /// The peer broke a rule.
    #[error("{0}")]
    Violation(Violation),
}

impl CloseCause {
    /// The close frame that the peer gets, if the relay is the one who closes.
    #[must_use]
    pub fn close(&self) -> Option<Close> {
        let code = match self {
            Self::Peer | Self::Lost => return None,
            Self::HeartbeatTimeout | Self::TooSlow | Self::ControlFlood | Self::MessageTimeout => {
                CloseCode::POLICY
            }
            Self::MessageEvicted => CloseCode::TRY_AGAIN_LATER,
            Self::Replaced => CloseCode::REPLACED,
            Self::GoingAway => CloseCode::GOING_AWAY,
            Self::Violation(violation) => return Some(violation.close()),
        };
        Some(Close::new(code, alloc::format!("{self}")))
    }

    /// Whether the peer can be expected to read what is buffered for it.
    pub(super) const fn peer_still_reads(&self) -> bool {
        match self {
            Self::Peer | Self::Lost | Self::HeartbeatTimeout | Self::TooSlow => false,
            Self::ControlFlood
            | Self::MessageTimeout
            | Self::MessageEvicted
            | Self::Replaced
            | Self::GoingAway
            | Self::Violation(_) => true,
        }
    }
}

/// When a hub wants to be called again, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wakeup {
    /// Call [`Hub::handle_timeout`](super::Hub::handle_timeout) at this moment, or later; not much
    /// later.
    pub at: Time,
    /// What is due then.
    pub reason: WakeupReason,
}

/// What is due at a [`Wakeup`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WakeupReason {
    /// Outputs were left in the turn, or more is due than one turn does.
    Backlog,
    /// A ping.
    Ping,
    /// The pong of a peer.
    Pong,
    /// The end of a join whose pong did not come.
    Join,
    /// The end of the gap between two ack probes.
    AckProbe,
    /// A socket that takes nothing.
    Stall,
    /// An ack probe that is not answered.
    Ack,
    /// A message that has begun and does not end.
    Message,
    /// A reply that waits for the store.
    Reply,
    /// A queue that could not be read before.
    Read,
    /// An answer of the store that does not come.
    Store,
    /// A verdict of another shard that does not come.
    Verdict,
    /// What has expired in the store.
    Expiry,
    /// A connection that is being closed.
    Close,
    /// A rate bucket that is full again and can be forgotten.
    Bucket,
}
