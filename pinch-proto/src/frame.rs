//! What a machine asks to be written to a WebSocket.

use bytes::Bytes;

use crate::Close;

/// One WebSocket frame, as a machine hands it out; masking and framing are the driver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A binary message: an envelope.
    Message(Bytes),
    /// A ping; its pong brings the payload back.
    Ping(Bytes),
    /// A close frame: nothing may be written after it.
    Close(Close),
}

impl Frame {
    /// The bytes of the payload, without the frame's own header.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Message(bytes) | Self::Ping(bytes) => bytes.len(),
            Self::Close(close) => size_of::<u16>() + close.reason.len(),
        }
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
