//! WebSocket frames (RFC 6455) over buffers that belong to nobody.
//!
//! Tungstenite's protocol machine is created over bytes in memory and lives only while a message
//! is fragmented; an idle connection keeps neither it nor a buffer. Bytes go in, messages come out,
//! and what the protocol itself wants to say (pongs, the echo of a close frame) is appended to a
//! buffer of the caller.

use core::convert::Infallible;
use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use pinch_proto::Frame;
use pinch_proto::hub::{ConnId, Fault, Input};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, Utf8Bytes};

/// A message whose slice would pin a buffer this many times its size is copied out of it.
const PIN_FACTOR: usize = 4;

/// What a peer said. `T` is what a text message becomes: for a relay there is no such thing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<T = Infallible> {
    /// A binary message.
    Message(Bytes),
    /// A text message.
    Text(T),
    /// A pong.
    Pong(Bytes),
    /// A close frame: nothing follows.
    Close,
    /// A breach of the protocol: nothing can be read after it.
    Fault(Fault),
}

impl Incoming {
    /// What the hub is told of it.
    pub(crate) fn into_input(self, conn: ConnId) -> Input {
        match self {
            Self::Message(message) => Input::Received { conn, message },
            Self::Pong(payload) => Input::Pong { conn, payload },
            Self::Close => Input::PeerClosed { conn },
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

/// Turns the bytes of one client into messages.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    /// The beginning of a message whose last fragment has not come.
    fragments: Option<Box<WebSocketContext>>,
    message_bytes: usize,
}

impl Decoder {
    /// A decoder that accepts messages of `message_bytes` at most.
    pub(crate) const fn new(message_bytes: usize) -> Self {
        Self {
            partial: Vec::new(),
            fragments: None,
            message_bytes,
        }
    }

    /// Puts bytes that came before in front of those that will come.
    pub(crate) fn preload(&mut self, bytes: Vec<u8>) {
        self.partial = bytes;
    }

    /// What was not decoded yet, for a decoder with another limit.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.partial
    }

    /// Does what [`decode`](Self::decode) does, up to the end of the first message. What is behind
    /// it waits for the next call.
    pub(crate) fn decode_message(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        mut on_incoming: impl FnMut(Incoming),
    ) {
        let on_incoming = |incoming, _: &mut Vec<u8>| on_incoming(incoming);
        self.decode_until(Until::Message, input, replies, on_incoming);
    }

    /// Decodes `input`, hands what it says to `on_incoming` in order, and appends to `replies` what
    /// the protocol answers by itself. `on_incoming` sees what is answered to what came before, and
    /// may append to it.
    ///
    /// After [`Incoming::Close`] or [`Incoming::Fault`] it must not be called again.
    pub(crate) fn decode<T: Text>(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        on_incoming: impl FnMut(Incoming<T>, &mut Vec<u8>),
    ) {
        self.decode_until(Until::End, input, replies, on_incoming);
    }

    fn decode_until<T: Text>(
        &mut self,
        until: Until,
        input: &[u8],
        replies: &mut Vec<u8>,
        mut on_incoming: impl FnMut(Incoming<T>, &mut Vec<u8>),
    ) {
        let mut joined = core::mem::take(&mut self.partial);
        let input = if joined.is_empty() {
            input
        } else {
            // No more than is needed, for it may lie here for long.
            joined.reserve_exact(input.len());
            joined.extend_from_slice(input);
            &joined
        };
        let extent = self.complete_frames(input, until);
        let (frames, rest) = input.split_at(extent.bytes);
        let mut end = None;
        if !frames.is_empty() {
            end = self.decode_frames(
                frames,
                extent.ends_inside_message,
                replies,
                &mut on_incoming,
            );
        }
        if let Some(end) = end.or(extent.fault.map(Incoming::Fault)) {
            on_incoming(end, replies);
        } else if frames.is_empty() && !joined.is_empty() {
            // A message in many pieces is not copied with each of them.
            self.partial = joined;
        } else if !rest.is_empty() {
            self.partial = rest.to_vec();
        }
    }

    /// How far whole frames reach.
    fn complete_frames(&self, input: &[u8], until: Until) -> Extent {
        let mut extent = Extent {
            bytes: 0,
            ends_inside_message: self.fragments.is_some(),
            fault: None,
        };
        loop {
            let rest = input.get(extent.bytes..).unwrap_or_default();
            let mut cursor = Cursor::new(rest);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return extent,
                Err(_) => {
                    extent.fault = Some(Fault::Protocol);
                    return extent;
                }
            };
            if length > self.message_bytes as u64 {
                extent.fault = Some(Fault::TooBig);
                return extent;
            }
            let end = cursor.position().saturating_add(length);
            if end > rest.len() as u64 {
                return extent;
            }
            extent.bytes += usize::try_from(end).unwrap_or(rest.len());
            if matches!(header.opcode, OpCode::Data(_)) {
                extent.ends_inside_message = !header.is_final;
                if header.is_final && until == Until::Message {
                    return extent;
                }
            }
        }
    }

    /// Decodes whole frames; returns what ended the conversation, if something did.
    fn decode_frames<T: Text>(
        &mut self,
        frames: &[u8],
        ends_inside_message: bool,
        replies: &mut Vec<u8>,
        on_incoming: &mut impl FnMut(Incoming<T>, &mut Vec<u8>),
    ) -> Option<Incoming<T>> {
        let mut context = match self.fragments.take() {
            Some(context) => *context,
            None => WebSocketContext::new(Role::Server, Some(self.config(frames.len()))),
        };
        let mut memory = Memory {
            input: frames,
            output: replies,
        };
        loop {
            match context.read(&mut memory) {
                Ok(Message::Binary(message)) => {
                    let pins_too_much = message.len() * PIN_FACTOR < frames.len();
                    let message = if pins_too_much {
                        Bytes::copy_from_slice(&message)
                    } else {
                        message
                    };
                    on_incoming(Incoming::Message(message), memory.output);
                }
                Ok(Message::Pong(payload)) => {
                    let payload = Bytes::copy_from_slice(&payload);
                    on_incoming(Incoming::Pong(payload), memory.output);
                }
                Ok(Message::Ping(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) => {
                    // The echo goes out with the next call, which has nothing else to say.
                    let _ = context.flush(&mut memory);
                    return Some(Incoming::Close);
                }
                Ok(Message::Text(text)) => match T::take(text) {
                    Ok(text) => on_incoming(Incoming::Text(text), memory.output),
                    Err(fault) => return Some(Incoming::Fault(fault)),
                },
                Err(Error::Utf8(_)) => return Some(Incoming::Fault(Fault::InvalidUtf8)),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::Capacity(_)) => return Some(Incoming::Fault(Fault::TooBig)),
                Err(_) => return Some(Incoming::Fault(Fault::Protocol)),
            }
        }
        if ends_inside_message {
            self.fragments = Some(Box::new(context));
        }
        None
    }

    fn config(&self, read_buffer: usize) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(read_buffer)
            .write_buffer_size(0)
            .max_message_size(Some(self.message_bytes))
            .max_frame_size(Some(self.message_bytes))
    }
}

/// How far to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Whatever is there.
    End,
    /// The end of the first message.
    Message,
}

struct Extent {
    bytes: usize,
    ends_inside_message: bool,
    fault: Option<Fault>,
}

/// A socket in memory: reads what came, writes replies.
struct Memory<'a> {
    input: &'a [u8],
    output: &'a mut Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends `frame` to `output`, as a server writes it.
pub(crate) fn encode(frame: &Frame, output: &mut Vec<u8>) {
    let close;
    let (opcode, payload): (_, &[u8]) = match frame {
        Frame::Message(message) => (OpCode::Data(Data::Binary), message),
        Frame::Ping(payload) => (OpCode::Control(Control::Ping), payload),
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

fn encode_frame(opcode: OpCode, payload: &[u8], output: &mut Vec<u8>) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    header
        .format(payload.len() as u64, output)
        .expect("a vector takes every write");
    output.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
