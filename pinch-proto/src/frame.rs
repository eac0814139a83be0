//! What a machine asks to be written to a WebSocket.

use bytes::Bytes;

use crate::{Close, CloseCode};

/// One WebSocket frame, as a machine hands it out; masking and framing are the driver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A binary message: an envelope.
    Message(Bytes),
    /// A ping; its pong brings the payload back.
    Ping(Bytes),
    /// A pong: the answer to a ping of the peer, with its payload.
    Pong(Bytes),
    /// A close frame: nothing may be written after it. With [`CloseCode::NO_STATUS`], its payload is
    /// empty.
    Close(Close),
}

impl Frame {
    /// The bytes of the payload, without the frame's own header.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Message(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(close) if close.code == CloseCode::NO_STATUS => 0,
            Self::Close(close) => size_of::<u16>() + close.reason.len(),
        }
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
