//! Frames of any kind, by tungstenite's protocol machine.
//!
//! It reads from memory and is given whole frames only. While a message is fragmented, the decoder
//! keeps it.

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use pinch_proto::hub::Fault;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::decoder::{Decoder, Reached, Until};
use super::pack::PIN_FACTOR;
use super::{Incoming, Text};

/// How much is read at once, in bytes. A message that is fragmented keeps a buffer of this size at most,
/// however much came with its first fragment.
const READ_BUFFER: usize = 4096;

impl Decoder {
    /// Decodes whole frames of any kind, and keeps what is behind them.
    pub(super) fn decode_others<T: Text>(
        &mut self,
        until: Until,
        input: &[u8],
        replies: &mut Vec<u8>,
        on_incoming: &mut impl FnMut(Incoming<T>, &mut Vec<u8>),
    ) -> Reached {
        let extent = self.complete_frames(input, until);
        let (frames, rest) = input.split_at(extent.bytes);
        let mut end = None;
        if !frames.is_empty() {
            end = self.decode_frames(frames, extent.ends_inside_message, replies, on_incoming);
        }
        if let Some(end) = end.or(extent.fault.map(Incoming::Fault)) {
            on_incoming(end, replies);
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
            ends_inside_message: self.fragments.is_some(),
            ends_with_message: false,
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
    ends_inside_message: bool,
    ends_with_message: bool,
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
