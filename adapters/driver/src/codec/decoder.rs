//! Bytes of a peer in, messages out.
//!
//! What a client sends, nearly every frame is a whole message, or a control frame: those are read where
//! they lie, and a message is copied once, out of the buffer that the thread reads into, into an
//! allocation of its own; so are the fragments of a binary message. Everything else (text, the close
//! frame, and whatever breaks the protocol) is left to tungstenite's protocol machine, which is created
//! over bytes in memory and lives only while a message of text is fragmented. An idle connection keeps
//! neither it nor a buffer. What a relay sends is all left to it: a client is one connection, and not a
//! million.

use std::io::Cursor;

use bytes::{Buf as _, Bytes};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketContext};

use super::others::READ_BUFFER;
use super::{Incoming, MIDDLE, SHORT, Text, unmask, unmasked};

/// The longest payload of a control frame, in bytes (RFC 6455, section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Length below which a fragment counts as short, in bytes: its header is a large part of it, as that of
/// a control frame is.
pub(super) const SHORT_FRAGMENT: usize = MAX_CONTROL + 1;

// The first byte of a frame that uses no extension (section 5.2).
const FIRST_BINARY: u8 = 0x02;
const CONTINUATION: u8 = 0x00;
const FINAL_CONTINUATION: u8 = 0x80;
const FINAL_BINARY: u8 = 0x82;
const FINAL_PING: u8 = 0x89;
const FINAL_PONG: u8 = 0x8a;

/// Set in the second byte of whatever a client says.
const MASKED: u8 = 0x80;

/// Turns the bytes of one peer into messages.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The role of this end.
    pub(super) role: Role,
    /// The beginning of a frame whose end has not come.
    pub(super) partial: Vec<u8>,
    /// The beginning of a binary message whose last fragment has not come.
    pub(super) begun: Option<Vec<u8>>,
    /// The same of a text message, or on the side of a client, and how many bytes came of it.
    pub(super) fragments: Option<Box<(WebSocketContext, usize)>>,
    /// Number of fragments since it was asked that were shorter than [`SHORT_FRAGMENT`].
    pub(super) short_fragments: u32,
    pub(super) message_bytes: usize,
}

impl Decoder {
    /// A decoder of what a client sends, which accepts messages of `message_bytes` at most.
    pub(crate) const fn new(message_bytes: usize) -> Self {
        Self::of_role(Role::Server, message_bytes)
    }

    /// A decoder of what a relay sends.
    pub(crate) const fn of_relay(message_bytes: usize) -> Self {
        Self::of_role(Role::Client, message_bytes)
    }

    const fn of_role(role: Role, message_bytes: usize) -> Self {
        Self {
            role,
            partial: Vec::new(),
            begun: None,
            fragments: None,
            short_fragments: 0,
            message_bytes,
        }
    }

    /// Puts bytes that came before in front of those that will come.
    pub(crate) fn preload(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.partial = bytes;
        }
    }

    /// The bytes of memory that the message takes which has begun; 0 if none has.
    pub(super) fn held_bytes(&self) -> usize {
        let begun = self.begun.as_ref().map_or(0, Vec::capacity);
        // A list that grows by doubling, and a buffer in which its largest fragment lay.
        let fragments = self.fragments.as_ref();
        let fragments = fragments.map_or(0, |fragments| 3 * fragments.1 + READ_BUFFER);
        // An empty fragment has begun a message, too.
        let least = usize::from(self.begun.is_some());
        self.partial.capacity() + begun.max(least) + fragments
    }

    /// Returns the bytes of memory that the message takes which has begun, 0 if none has, and the number
    /// of fragments that came since this was asked before, were shorter than [`SHORT_FRAGMENT`] and not
    /// the last of their message.
    pub(crate) fn take_begun(&mut self) -> (usize, u32) {
        (
            self.held_bytes(),
            core::mem::take(&mut self.short_fragments),
        )
    }

    /// Forgets the message that has begun. What comes cannot be understood from here on.
    pub(crate) fn discard(&mut self) {
        self.partial = Vec::new();
        self.begun = None;
        self.fragments = None;
    }

    /// What was not decoded yet, for a decoder with another limit.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.partial
    }

    /// Does what [`decode`](Self::decode) does, up to the end of the first message. What is behind
    /// it waits for the next call.
    pub(crate) fn decode_message(&mut self, input: &[u8], on_incoming: impl FnMut(Incoming)) {
        self.decode_until(Until::Message, input, on_incoming);
    }

    /// Decodes `input`, and hands what it says to `on_incoming` in order.
    ///
    /// After [`Incoming::Close`] or [`Incoming::Fault`] it must not be called again.
    pub(crate) fn decode<T: Text>(&mut self, input: &[u8], on_incoming: impl FnMut(Incoming<T>)) {
        self.decode_until(Until::End, input, on_incoming);
    }

    fn decode_until<T: Text>(
        &mut self,
        until: Until,
        mut input: &[u8],
        mut on_incoming: impl FnMut(Incoming<T>),
    ) {
        while !self.partial.is_empty() {
            let lacking = self.lacking();
            if lacking > 0 {
                // What has begun takes what it lacks and no more: the rest is read where it lies.
                let (taken, rest) = input.split_at(lacking.min(input.len()));
                self.partial.reserve_exact(taken.len());
                self.partial.extend_from_slice(taken);
                input = rest;
                if taken.len() < lacking {
                    return;
                }
                continue;
            }
            let begun = core::mem::take(&mut self.partial);
            match self.decode_begun(until, begun, &mut on_incoming) {
                Reached::End => {}
                Reached::Message => return self.partial.extend_from_slice(input),
                Reached::Over => return,
            }
        }
        self.decode_slice(until, input, &mut on_incoming);
    }

    /// How many bytes more it takes, at least, to go on with the frame that has begun; 0 if none has,
    /// or if it can be decoded as it is.
    pub(crate) fn lacking(&self) -> usize {
        if self.partial.is_empty() {
            return 0;
        }
        let mut cursor = Cursor::new(&self.partial[..]);
        match FrameHeader::parse(&mut cursor) {
            Ok(None) => 1,
            Ok(Some((header, length))) if length <= self.limit(&header) => {
                let end = cursor.position().saturating_add(length);
                let end = usize::try_from(end).unwrap_or(usize::MAX);
                end.saturating_sub(self.partial.len())
            }
            Ok(Some(_)) | Err(_) => 0,
        }
    }

    /// Maximum number of bytes of the payload behind `header`: of a message and its fragments together.
    fn limit(&self, header: &FrameHeader) -> u64 {
        let begun = match (header.opcode, &self.begun, &self.fragments) {
            (OpCode::Data(Data::Continue), Some(begun), _) => begun.len(),
            (OpCode::Data(Data::Continue), None, Some(fragments)) => fragments.1,
            _ => 0,
        };
        self.message_bytes.saturating_sub(begun) as u64
    }

    /// Decodes what had begun and is complete now. If it is one message, it becomes that message
    /// without being copied again.
    fn decode_begun<T: Text>(
        &mut self,
        until: Until,
        mut begun: Vec<u8>,
        on_incoming: &mut impl FnMut(Incoming<T>),
    ) -> Reached {
        let all = begun.len();
        if let Some(frame) = self.single_frame(&begun)
            && (frame.kind, frame.end) == (Kind::Message, all)
        {
            unmask(begun.get_mut(frame.start..).unwrap_or_default(), frame.mask);
            let mut message = Bytes::from(begun);
            message.advance(frame.start);
            on_incoming(Incoming::Message(message));
            return match until {
                Until::End => Reached::End,
                Until::Message => Reached::Message,
            };
        }
        self.decode_slice(until, &begun, on_incoming)
    }

    /// Decodes the whole frames of `input`, and keeps what is behind them.
    fn decode_slice<T: Text>(
        &mut self,
        until: Until,
        input: &[u8],
        on_incoming: &mut impl FnMut(Incoming<T>),
    ) -> Reached {
        let mut rest = input;
        while let Some(frame) = self.single_frame(rest) {
            let payload = rest.get(frame.start..frame.end).unwrap_or_default();
            match frame.kind {
                Kind::Message => {
                    on_incoming(Incoming::Message(unmasked(payload, frame.mask)));
                }
                Kind::Ping => {
                    on_incoming(Incoming::Ping(unmasked(payload, frame.mask)));
                }
                Kind::Pong => {
                    on_incoming(Incoming::Pong(unmasked(payload, frame.mask)));
                }
                Kind::Fragment => self.keep_fragment(payload, frame.mask),
                Kind::LastFragment => {
                    let mut message = self.begun.take().unwrap_or_default();
                    append_unmasked(&mut message, payload, frame.mask);
                    message.shrink_to_fit();
                    on_incoming(Incoming::Message(message.into()));
                }
            }
            rest = rest.get(frame.end..).unwrap_or_default();
            let ends_message = matches!(frame.kind, Kind::Message | Kind::LastFragment);
            if ends_message && until == Until::Message {
                self.partial = rest.to_vec();
                return Reached::Message;
            }
        }
        if rest.is_empty() {
            return Reached::End;
        }
        self.decode_others(until, rest, on_incoming)
    }

    /// Keeps a fragment that is not the last.
    fn keep_fragment(&mut self, payload: &[u8], mask: [u8; 4]) {
        self.short_fragments += u32::from(payload.len() < SHORT_FRAGMENT);
        let begun = self.begun.get_or_insert_default();
        append_unmasked(begun, payload, mask);
    }

    /// The frame with which `input` begins, if it is all there, says everything by itself, and is
    /// one of those that are read where they lie.
    fn single_frame(&self, input: &[u8]) -> Option<SingleFrame> {
        if self.fragments.is_some() || self.role == Role::Client {
            return None;
        }
        let (&[first, second], _) = input.split_first_chunk()?;
        let begun = self.begun.as_ref().map(Vec::len);
        let (kind, limit) = match (first, begun) {
            (FINAL_BINARY, None) => (Kind::Message, self.message_bytes),
            (FIRST_BINARY, None) => (Kind::Fragment, self.message_bytes),
            (CONTINUATION, Some(begun)) => (Kind::Fragment, self.message_bytes - begun),
            (FINAL_CONTINUATION, Some(begun)) => (Kind::LastFragment, self.message_bytes - begun),
            (FINAL_PING, _) => (Kind::Ping, MAX_CONTROL),
            (FINAL_PONG, _) => (Kind::Pong, MAX_CONTROL),
            _ => return None,
        };
        let (length, at) = match second.checked_sub(MASKED)? {
            length @ ..=SHORT => (u64::from(length), 2),
            MIDDLE => (
                u64::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)),
                4,
            ),
            _ => (u64::from_be_bytes(*input.get(2..)?.first_chunk()?), 10),
        };
        let mask = *input.get(at..)?.first_chunk()?;
        let start = at + mask.len();
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= limit)?;
        let end = start.checked_add(length)?;
        (end <= input.len()).then_some(SingleFrame {
            kind,
            mask,
            start,
            end,
        })
    }
}

/// How far to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Whatever is there.
    End,
    /// The end of the first message.
    Message,
}

/// How far decoding got.
pub(super) enum Reached {
    /// The end of what is whole.
    End,
    /// The end of the first message, for those who wanted no more.
    Message,
    /// The end of the conversation.
    Over,
}

/// A frame that says everything by itself.
struct SingleFrame {
    kind: Kind,
    mask: [u8; 4],
    /// Where its payload lies.
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Fragment,
    LastFragment,
    Ping,
    Pong,
}

/// Appends `masked` without its mask, with memory for an eighth more than there is, at most: a message
/// in many small pieces is moved seldom.
fn append_unmasked(bytes: &mut Vec<u8>, masked: &[u8], mask: [u8; 4]) {
    let before = bytes.len();
    if bytes.capacity() - before < masked.len() {
        bytes.reserve_exact(masked.len().max(before / 8));
    }
    bytes.extend_from_slice(masked);
    unmask(bytes.get_mut(before..).unwrap_or_default(), mask);
}
