//! Frames of any kind, by tungstenite's protocol machine.
//!
//! It reads from memory and is given whole frames only. While a message is fragmented, the decoder
//! keeps it.

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use pinch_proto::hub::Fault;
use pinch_proto::{Close, CloseCode, Frame};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::decoder::{Decoder, MAX_CONTROL, Reached, SHORT_FRAGMENT, Until};
use super::{Incoming, Text, unmask};

/// How much is read at once, in bytes. A message that is fragmented keeps a buffer of this size at most,
/// however much came with its first fragment.
pub(super) const READ_BUFFER: usize = 4096;

impl Decoder {
    /// Decodes whole frames of any kind, and keeps what is behind them.
    pub(super) fn decode_others<T: Text>(
        &mut self,
        until: Until,
        input: &[u8],
        on_incoming: &mut impl FnMut(Incoming<T>),
    ) -> Reached {
        let extent = self.complete_frames(input, until);
        self.short_fragments += extent.short_fragments;
        let (frames, rest) = input.split_at(extent.bytes);
        let mut end = None;
        if !frames.is_empty() {
            end = self.decode_frames(frames, extent.begun, on_incoming);
        }
        if let Some(end) = end.or_else(|| extent.end.map(End::decode)) {
            self.discard();
            on_incoming(end);
            return Reached::Over;
        }
        self.partial = rest.to_vec();
        if extent.ends_with_message {
            Reached::Message
        } else {
            Reached::End
        }
    }

    /// How far whole frames reach.
    fn complete_frames(&self, input: &[u8], until: Until) -> Extent {
        let mut extent = Extent {
            bytes: 0,
            begun: self.fragments.as_ref().map(|fragments| fragments.1),
            short_fragments: 0,
            ends_with_message: false,
            end: None,
        };
        loop {
            let rest = input.get(extent.bytes..).unwrap_or_default();
            let mut cursor = Cursor::new(rest);
            let (header, length) = match FrameHeader::parse(&mut cursor) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return extent,
                Err(_) => {
                    extent.end = Some(End::Fault(Fault::Protocol));
                    return extent;
                }
            };
            let is_continued = header.opcode == OpCode::Data(Data::Continue);
            let begun = extent.begun.or(self.begun.as_ref().map(Vec::len));
            let before = begun.filter(|_| is_continued).unwrap_or(0);
            if length > self.message_bytes.saturating_sub(before) as u64 {
                extent.end = Some(End::Fault(Fault::TooBig));
                return extent;
            }
            let end = cursor.position().saturating_add(length);
            if end > rest.len() as u64 {
                return extent;
            }
            if self.is_close(&header, length) {
                let payload = rest.get(usize_of(cursor.position())..usize_of(end));
                let mut payload = payload.unwrap_or_default().to_vec();
                unmask(&mut payload, header.mask.unwrap_or_default());
                extent.end = Some(End::Close(payload));
                return extent;
            }
            if self.begun.is_some() {
                // Whatever may come inside of a binary message was read where it lies.
                extent.end = Some(End::Fault(Fault::Protocol));
                return extent;
            }
            extent.bytes += usize_of(end);
            if matches!(header.opcode, OpCode::Data(_)) {
                let is_short = !header.is_final && length < SHORT_FRAGMENT as u64;
                extent.short_fragments += u32::from(is_short);
                extent.begun = (!header.is_final).then_some(before + usize_of(length));
                if header.is_final && until == Until::Message {
                    extent.ends_with_message = true;
                    return extent;
                }
            }
        }
    }

    /// Decodes whole frames; returns what ended the conversation, if something did.
    fn decode_frames<T: Text>(
        &mut self,
        frames: &[u8],
        begun: Option<usize>,
        on_incoming: &mut impl FnMut(Incoming<T>),
    ) -> Option<Incoming<T>> {
        let mut context = match self.fragments.take() {
            Some(fragments) => fragments.0,
            None => WebSocketContext::new(self.role, Some(self.config(frames.len()))),
        };
        let mut memory = Memory {
            input: frames,
            output: &mut Vec::new(),
        };
        loop {
            match context.read(&mut memory) {
                Ok(Message::Binary(message)) => {
                    // It may be a slice of the read buffer, or lie in twice the memory that it needs.
                    let message = Bytes::copy_from_slice(&message);
                    on_incoming(Incoming::Message(message));
                }
                Ok(Message::Pong(payload)) => {
                    let payload = Bytes::copy_from_slice(&payload);
                    on_incoming(Incoming::Pong(payload));
                }
                Ok(Message::Ping(payload)) => {
                    let payload = Bytes::copy_from_slice(&payload);
                    on_incoming(Incoming::Ping(payload));
                }
                // A well-formed close frame is not among the frames.
                Ok(Message::Frame(_) | Message::Close(_)) => {}
                Ok(Message::Text(text)) => match T::take(text) {
                    Ok(text) => on_incoming(Incoming::Text(text)),
                    Err(fault) => return Some(Incoming::Fault(fault)),
                },
                Err(Error::Utf8(_)) => return Some(Incoming::Fault(Fault::InvalidUtf8)),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::Capacity(_)) => return Some(Incoming::Fault(Fault::TooBig)),
                Err(_) => return Some(Incoming::Fault(Fault::Protocol)),
            }
        }
        self.fragments = begun.map(|bytes| Box::new((context, bytes)));
        None
    }

    /// Whether a frame is a close frame as RFC 6455 has it, but for its payload.
    fn is_close(&self, header: &FrameHeader, length: u64) -> bool {
        let is_masked = header.mask.is_some();
        header.opcode == OpCode::Control(Control::Close)
            && header.is_final
            && !(header.rsv1 || header.rsv2 || header.rsv3)
            && is_masked == (self.role == Role::Server)
            && length <= MAX_CONTROL as u64
    }

    fn config(&self, length: usize) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(length.min(READ_BUFFER))
            .write_buffer_size(0)
            .max_message_size(Some(self.message_bytes))
            .max_frame_size(Some(self.message_bytes))
    }
}

struct Extent {
    bytes: usize,
    /// How many bytes came of the message that has begun and not ended, if there is one.
    begun: Option<usize>,
    short_fragments: u32,
    ends_with_message: bool,
    /// What comes behind them and ends the conversation.
    end: Option<End>,
}

enum End {
    Fault(Fault),
    /// A close frame with this payload.
    Close(Vec<u8>),
}

impl End {
    fn decode<T>(self) -> Incoming<T> {
        match self {
            Self::Fault(fault) => Incoming::Fault(fault),
            Self::Close(payload) => close(&payload).map_or_else(Incoming::Fault, Incoming::Close),
        }
    }
}

/// A position in a buffer.
fn usize_of(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// The code and the reason in the payload of a close frame; `None` if it is empty.
fn close(payload: &[u8]) -> Result<Option<Close>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(Fault::Protocol)
        };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    let reason = core::str::from_utf8(reason).map_err(|_| Fault::InvalidUtf8)?;
    if code.may_be_sent() {
        Ok(Some(Close::new(code, reason.to_owned())))
    } else {
        Err(Fault::Protocol)
    }
}

/// Writes frames as a client does: masked (RFC 6455 section 5.3).
pub(crate) struct Encoder(WebSocketContext);

impl Encoder {
    pub(crate) fn new() -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(0)
            .write_buffer_size(0);
        Self(WebSocketContext::new(Role::Client, Some(config)))
    }

    /// Appends `frame` to `output`. Behind a close frame, nothing is appended.
    pub(crate) fn encode(&mut self, frame: Frame, output: &mut Vec<u8>) {
        let message = match frame {
            Frame::Message(message) => Message::Binary(message),
            Frame::Ping(payload) => Message::Ping(payload),
            Frame::Pong(payload) => Message::Pong(payload),
            // A code that means that there was none is not written.
            Frame::Close(close) => Message::Close(close.code.may_be_sent().then(|| CloseFrame {
                code: close.code.0.into(),
                reason: close.reason.as_ref().into(),
            })),
        };
        let mut memory = Memory { input: &[], output };
        // Memory takes everything.
        let _ = self.0.write(&mut memory, message);
        let _ = self.0.flush(&mut memory);
    }
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
