//! WebSocket frames (RFC 6455) over buffers that belong to nobody.
//!
//! Bytes go in, messages and control frames come out; nothing is answered here. A [`Decoder`] reads
//! what a peer says;
//! [`encode`] writes as a server does, an [`Encoder`] as a client.

mod decoder;
mod others;

use core::convert::Infallible;

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Fault, Input};
use pinch_proto::{Close, CloseCode, Frame};
use tungstenite::Utf8Bytes;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

pub(crate) use self::decoder::Decoder;
pub(crate) use self::others::Encoder;

/// Set in the first byte of a frame that is a whole message, or the end of one.
const FINAL: u8 = 0x80;

/// The longest length that the second byte of a frame can say, the mask's flag aside.
const SHORT: u8 = 125;

/// There, the length is in the next two bytes.
const MIDDLE: u8 = 126;

/// There, it is in the next eight.
const LONG: u8 = 127;

/// What a peer said. `T` is what a text message becomes: for a relay there is no such thing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<T = Infallible> {
    /// A binary message.
    Message(Bytes),
    /// A text message.
    Text(T),
    /// A ping.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A close frame, with its code and reason if it has one: nothing follows.
    Close(Option<Close>),
    /// A breach of the protocol: nothing can be read after it.
    Fault(Fault),
}

impl Incoming {
    /// What the hub is told of it. Messages are read here, where nobody waits for the hub.
    pub(crate) fn into_input(self, conn: ConnId) -> Input {
        match self {
            Self::Message(message) => Input::Received {
                conn,
                message: message.into(),
            },
            Self::Ping(payload) => Input::Ping { conn, payload },
            Self::Pong(payload) => Input::Pong { conn, payload },
            Self::Close(close) => Input::PeerClosed { conn, close },
            Self::Fault(fault) => Input::Faulty { conn, fault },
        }
    }
}

/// What becomes of a text message.
pub(crate) trait Text: Sized {
    /// The text for those who want it, the end of the conversation for the others.
    fn take(text: Utf8Bytes) -> Result<Self, Fault>;
}

impl Text for Infallible {
    fn take(_: Utf8Bytes) -> Result<Self, Fault> {
        Err(Fault::Text)
    }
}

impl Text for Utf8Bytes {
    fn take(text: Utf8Bytes) -> Result<Self, Fault> {
        Ok(text)
    }
}

/// Appends `frame` to `output`, as a server writes it.
pub(crate) fn encode(frame: &Frame, output: &mut Vec<u8>) {
    let close;
    let (opcode, payload): (_, &[u8]) = match frame {
        Frame::Message(message) => (OpCode::Data(Data::Binary), message),
        Frame::Ping(payload) => (OpCode::Control(Control::Ping), payload),
        Frame::Pong(payload) => (OpCode::Control(Control::Pong), payload),
        Frame::Close(reason) if reason.code == CloseCode::NO_STATUS => {
            (OpCode::Control(Control::Close), &[])
        }
        Frame::Close(reason) => {
            let frame = CloseFrame {
                code: reason.code.0.into(),
                reason: reason.reason.as_ref().into(),
            };
            close = tungstenite::protocol::frame::Frame::close(Some(frame));
            (OpCode::Control(Control::Close), close.payload())
        }
    };
    encode_frame(opcode, payload, output);
}

/// Appends a text message to `output`, as a server writes it.
#[cfg(feature = "echo")]
pub(crate) fn encode_text(text: &str, output: &mut Vec<u8>) {
    encode_frame(OpCode::Data(Data::Text), text.as_bytes(), output);
}

/// Appends what stands before `message` in its frame.
pub(crate) fn encode_head(message: &[u8], output: &mut Vec<u8>) {
    encode_header(OpCode::Data(Data::Binary), message.len(), output);
}

fn encode_frame(opcode: OpCode, payload: &[u8], output: &mut Vec<u8>) {
    encode_header(opcode, payload.len(), output);
    output.extend_from_slice(payload);
}

/// A header of RFC 6455, section 5.2, of a frame that is final and not masked.
fn encode_header(opcode: OpCode, length: usize, output: &mut Vec<u8>) {
    let first = FINAL | u8::from(opcode);
    if let Ok(short @ ..=SHORT) = u8::try_from(length) {
        output.extend_from_slice(&[first, short]);
    } else if let Ok(middle) = u16::try_from(length) {
        let [high, low] = middle.to_be_bytes();
        output.extend_from_slice(&[first, MIDDLE, high, low]);
    } else {
        output.extend_from_slice(&[first, LONG]);
        output.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// Returns `masked` without its mask, in an allocation of its own.
///
/// A message is kept until its recipient has acknowledged it, one beside it in the same read perhaps
/// not at all: if they shared memory, each could keep alive what nobody counts.
fn unmasked(masked: &[u8], mask: [u8; 4]) -> Bytes {
    let mut bytes = masked.to_vec();
    unmask(&mut bytes, mask);
    bytes.into()
}

/// Takes the mask off `bytes`, or puts it on (RFC 6455, section 5.3).
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    // As many bytes as the compiler finds a register for.
    let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        for (byte, mask) in chunk.iter_mut().zip(&wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(&wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
