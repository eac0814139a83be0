//! The messages of package `pinch.v1` (protocol section 2), as the relay and its agents write them.
//!
//! These are the *typed* forms, for what a program says or hears itself. The relay never decodes
//! what it only forwards: see [`EnvelopeView`](crate::EnvelopeView) for that.

use alloc::string::String;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

use crate::UnixMillis;

/// The version that this implementation writes into every envelope, challenge and response.
pub const VERSION: u32 = 1;

/// What an envelope is for: field 4 of [`Envelope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum MessageType {
    /// No type was written.
    Unspecified = 0,
    /// Keys of an agent, from agent to agent.
    Handshake = 1,
    /// The relay asks who is joining. Only the relay may say this.
    AuthChallenge = 2,
    /// An agent's answer to [`AuthChallenge`](Self::AuthChallenge).
    AuthResponse = 3,
    /// An end-to-end encrypted message.
    Message = 4,
    /// An agent confirms to another that a message arrived.
    DeliveryConfirm = 5,
    /// An agent asks another for a conversation.
    ConnectionRequest = 6,
    /// The answer to [`ConnectionRequest`](Self::ConnectionRequest).
    ConnectionResponse = 7,
    /// A sign of life.
    Heartbeat = 8,
    /// The end of the handshake. Only the relay may say this.
    AuthResult = 9,
    /// An agent ends a conversation.
    ConnectionRevoke = 10,
    /// An agent tells the relay to drop what another sends to it.
    BlockNotification = 11,
    /// Takes a [`BlockNotification`](Self::BlockNotification) back.
    UnblockNotification = 12,
    /// How much is waiting for an agent that joins. Only the relay may say this.
    QueueStatus = 13,
    /// An envelope will not reach its recipient, and why. Only the relay may say this.
    QueueFull = 14,
    /// An envelope came too soon. Only the relay may say this.
    RateLimited = 15,
}

impl MessageType {
    /// Whether only the relay may say this to an agent that has joined (protocol section 4).
    /// AUTH_RESPONSE is among them: an agent does say it, but only while it joins.
    #[must_use]
    pub const fn is_relay_only(self) -> bool {
        match self {
            Self::AuthChallenge
            | Self::AuthResponse
            | Self::AuthResult
            | Self::QueueStatus
            | Self::QueueFull
            | Self::RateLimited => true,
            Self::Unspecified
            | Self::Handshake
            | Self::Message
            | Self::DeliveryConfirm
            | Self::ConnectionRequest
            | Self::ConnectionResponse
            | Self::Heartbeat
            | Self::ConnectionRevoke
            | Self::BlockNotification
            | Self::UnblockNotification => false,
        }
    }
}

/// One message of the protocol; every binary WebSocket message holds one.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// Version of the protocol: [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The sender's own address.
    #[prost(string, tag = "2")]
    pub from_address: String,
    /// The recipient's address.
    #[prost(string, tag = "3")]
    pub to_address: String,
    /// A [`MessageType`]; unknown ones are kept as they came.
    #[prost(enumeration = "MessageType", tag = "4")]
    pub r#type: i32,
    /// What the sender calls this envelope. The relay repeats it in a refusal.
    #[prost(bytes = "bytes", tag = "5")]
    pub message_id: Bytes,
    /// When it was written, in Unix milliseconds.
    #[prost(int64, tag = "6")]
    pub timestamp: i64,
    /// What it says.
    #[prost(
        oneof = "Payload",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24"
    )]
    pub payload: Option<Payload>,
}

impl Envelope {
    /// An envelope from the relay itself, with the type that belongs to its payload.
    #[must_use]
    pub fn from_relay(payload: Payload, now: UnixMillis) -> Self {
        Self {
            version: VERSION,
            r#type: payload.message_type().into(),
            timestamp: now.0,
            payload: Some(payload),
            ..Self::default()
        }
    }

    /// The bytes of this envelope, ready for a binary WebSocket message.
    ///
    /// ```
    /// use pinch_proto::EnvelopeView;
    /// use pinch_proto::wire::{Envelope, MessageType, Payload, QueueStatus};
    /// use pinch_proto::UnixMillis;
    ///
    /// let status = Payload::QueueStatus(QueueStatus { pending_count: 3 });
    /// let bytes = Envelope::from_relay(status, UnixMillis(0)).to_bytes();
    /// let view = EnvelopeView::parse(&bytes)?;
    /// assert_eq!(view.message_type(), Some(MessageType::QueueStatus));
    /// # Ok::<(), pinch_proto::EnvelopeError>(())
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

/// What an [`Envelope`] carries: the fields 10 to 24, at most one of them.
#[derive(Clone, PartialEq, Oneof)]
#[allow(
    missing_docs,
    reason = "each variant is named after the message it holds, and that is documented"
)]
pub enum Payload {
    #[prost(message, tag = "10")]
    Encrypted(EncryptedPayload),
    #[prost(message, tag = "11")]
    Handshake(Handshake),
    #[prost(message, tag = "12")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "13")]
    AuthChallenge(AuthChallenge),
    #[prost(message, tag = "14")]
    AuthResponse(AuthResponse),
    #[prost(message, tag = "15")]
    AuthResult(AuthResult),
    #[prost(message, tag = "16")]
    ConnectionRequest(ConnectionRequest),
    #[prost(message, tag = "17")]
    ConnectionResponse(ConnectionResponse),
    #[prost(message, tag = "18")]
    ConnectionRevoke(ConnectionRevoke),
    #[prost(message, tag = "19")]
    BlockNotification(BlockNotification),
    #[prost(message, tag = "20")]
    UnblockNotification(UnblockNotification),
    #[prost(message, tag = "21")]
    DeliveryConfirm(DeliveryConfirm),
    #[prost(message, tag = "22")]
    QueueStatus(QueueStatus),
    #[prost(message, tag = "23")]
    QueueFull(QueueFull),
    #[prost(message, tag = "24")]
    RateLimited(RateLimited),
}

impl Payload {
    /// The type that an envelope with this payload has.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        match self {
            Self::Encrypted(_) => MessageType::Message,
            Self::Handshake(_) => MessageType::Handshake,
            Self::Heartbeat(_) => MessageType::Heartbeat,
            Self::AuthChallenge(_) => MessageType::AuthChallenge,
            Self::AuthResponse(_) => MessageType::AuthResponse,
            Self::AuthResult(_) => MessageType::AuthResult,
            Self::ConnectionRequest(_) => MessageType::ConnectionRequest,
            Self::ConnectionResponse(_) => MessageType::ConnectionResponse,
            Self::ConnectionRevoke(_) => MessageType::ConnectionRevoke,
            Self::BlockNotification(_) => MessageType::BlockNotification,
            Self::UnblockNotification(_) => MessageType::UnblockNotification,
            Self::DeliveryConfirm(_) => MessageType::DeliveryConfirm,
            Self::QueueStatus(_) => MessageType::QueueStatus,
            Self::QueueFull(_) => MessageType::QueueFull,
            Self::RateLimited(_) => MessageType::RateLimited,
        }
    }
}

/// An end-to-end encrypted message (protocol section 7); the relay sees only these bytes.
#[derive(Clone, PartialEq, Message)]
pub struct EncryptedPayload {
    /// 24 random bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub nonce: Bytes,
    /// The NaCl box over a plaintext payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub ciphertext: Bytes,
    /// The sender's Ed25519 key: the one inside `from_address`.
    #[prost(bytes = "bytes", tag = "3")]
    pub sender_public_key: Bytes,
}

/// Keys that an agent shows to another.
#[derive(Clone, PartialEq, Message)]
pub struct Handshake {
    /// Version of the protocol: [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Ed25519 public key.
    #[prost(bytes = "bytes", tag = "2")]
    pub signing_key: Bytes,
    /// X25519 public key.
    #[prost(bytes = "bytes", tag = "3")]
    pub encryption_key: Bytes,
}

/// A sign of life.
#[derive(Clone, PartialEq, Message)]
pub struct Heartbeat {
    /// When it was written, in Unix milliseconds.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
}

/// The relay asks who is joining (protocol section 3).
#[derive(Clone, PartialEq, Message)]
pub struct AuthChallenge {
    /// Version of the protocol: [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// 32 fresh random bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub nonce: Bytes,
    /// When it was made, in Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub issued_at_ms: i64,
    /// Until when it can be answered, in Unix milliseconds.
    #[prost(int64, tag = "4")]
    pub expires_at_ms: i64,
    /// The relay's public host, which the signature covers.
    #[prost(string, tag = "5")]
    pub relay_host: String,
}

/// The agent proves its key (protocol section 3).
#[derive(Clone, PartialEq, Message)]
pub struct AuthResponse {
    /// Version of the protocol: [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The agent's Ed25519 key, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub public_key: Bytes,
    /// 64 bytes over the domain, the relay's host and the nonce.
    #[prost(bytes = "bytes", tag = "3")]
    pub signature: Bytes,
    /// The nonce of the challenge.
    #[prost(bytes = "bytes", tag = "4")]
    pub nonce: Bytes,
}

/// How the handshake ended.
#[derive(Clone, PartialEq, Message)]
pub struct AuthResult {
    /// Whether the agent has joined.
    #[prost(bool, tag = "1")]
    pub success: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error_message: String,
    /// The address under which it can be reached.
    #[prost(string, tag = "3")]
    pub assigned_address: String,
}

/// An agent asks another for a conversation.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectionRequest {
    /// Who asks.
    #[prost(string, tag = "1")]
    pub from_address: String,
    /// Who is asked.
    #[prost(string, tag = "2")]
    pub to_address: String,
    /// What the asker says about it.
    #[prost(string, tag = "3")]
    pub message: String,
    /// The asker's Ed25519 key.
    #[prost(bytes = "bytes", tag = "4")]
    pub sender_public_key: Bytes,
    /// Until when it can be answered, in Unix *seconds*.
    #[prost(int64, tag = "5")]
    pub expires_at: i64,
}

/// The answer to a [`ConnectionRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct ConnectionResponse {
    /// Who answers.
    #[prost(string, tag = "1")]
    pub from_address: String,
    /// Who had asked.
    #[prost(string, tag = "2")]
    pub to_address: String,
    /// Whether there will be a conversation.
    #[prost(bool, tag = "3")]
    pub accepted: bool,
    /// The answerer's Ed25519 key.
    #[prost(bytes = "bytes", tag = "4")]
    pub responder_public_key: Bytes,
}

/// An agent ends a conversation.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectionRevoke {
    /// Who ends it.
    #[prost(string, tag = "1")]
    pub from_address: String,
    /// Whom it was with.
    #[prost(string, tag = "2")]
    pub to_address: String,
}

/// The sender wants nothing from an address any more.
#[derive(Clone, PartialEq, Message)]
pub struct BlockNotification {
    /// Who blocks. The relay takes the authenticated sender, whatever stands here.
    #[prost(string, tag = "1")]
    pub blocker_address: String,
    /// Who is blocked.
    #[prost(string, tag = "2")]
    pub blocked_address: String,
}

/// Takes a [`BlockNotification`] back.
#[derive(Clone, PartialEq, Message)]
pub struct UnblockNotification {
    /// Who unblocks. The relay takes the authenticated sender, whatever stands here.
    #[prost(string, tag = "1")]
    pub unblocker_address: String,
    /// Who was blocked.
    #[prost(string, tag = "2")]
    pub unblocked_address: String,
}

/// An agent confirms that a message arrived (protocol section 7).
#[derive(Clone, PartialEq, Message)]
pub struct DeliveryConfirm {
    /// The envelope that arrived.
    #[prost(bytes = "bytes", tag = "1")]
    pub message_id: Bytes,
    /// Ed25519 over the id and the timestamp.
    #[prost(bytes = "bytes", tag = "2")]
    pub signature: Bytes,
    /// When it arrived, in Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
    /// What became of it.
    #[prost(string, tag = "4")]
    pub state: String,
    /// Whether it had waited at a relay.
    #[prost(bool, tag = "5")]
    pub was_stored: bool,
}

/// How much is waiting for the agent that joined.
#[derive(Clone, PartialEq, Message)]
pub struct QueueStatus {
    /// Envelopes that follow.
    #[prost(int32, tag = "1")]
    pub pending_count: i32,
}

/// An envelope will not reach its recipient.
#[derive(Clone, PartialEq, Message)]
pub struct QueueFull {
    /// Whom it was for.
    #[prost(string, tag = "1")]
    pub recipient_address: String,
    /// The true reason, for people and logs.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// An envelope was refused because it came too soon.
#[derive(Clone, PartialEq, Message)]
pub struct RateLimited {
    /// The true time until the next one is taken, in milliseconds.
    #[prost(int64, tag = "1")]
    pub retry_after_ms: i64,
    /// The limit, for people and logs.
    #[prost(string, tag = "2")]
    pub reason: String,
}
