//! What has to come of what a stranger has written, if nothing but that happens to its connection.

use bytes::Bytes;
use pinch_proto::wire::{Envelope, MessageType, Payload};
use pinch_proto::{Address, EnvelopeView};
use prost::Message as _;

use super::rfc6455::{Breach, Reader, Said};

/// The longest message before a stranger has joined, in bytes.
const HANDSHAKE_BYTES: usize = 4096;

/// Who has written something, and to what kind of relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) own: &'a Address,
    pub(super) bob: &'a Address,
    /// What proves its key; `None` if it was asked nothing.
    pub(super) answer: Option<&'a Bytes>,
    /// It need not prove anything.
    pub(super) is_named: bool,
    pub(super) envelope_bytes: usize,
    pub(super) message_bytes: usize,
}

/// What has to come of it.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) has_joined: bool,
    /// Everything that it has said, whatever comes of it.
    pub(super) said: Vec<Bytes>,
    /// What Bob gets.
    pub(super) delivered: Vec<Bytes>,
    /// What is to be answered with a pong.
    pub(super) pings: Vec<Bytes>,
    /// It is told what it may not do.
    pub(super) is_refused: bool,
    pub(super) end: End,
}

/// How the conversation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It does not.
    Open,
    /// The relay ends it.
    Breach(Breach),
    /// The stranger says goodbye.
    Goodbye(Option<u16>),
}

impl End {
    fn plain(codes: &[u16]) -> Self {
        Self::Breach(Breach {
            codes: codes.to_vec(),
            is_plain: true,
        })
    }
}

/// What becomes of an envelope.
enum Fate {
    Delivered,
    Elsewhere,
    Refused,
    Ends(u16),
}

/// Reads `frames`, which is all that a stranger has written behind its request.
pub(super) fn of(frames: &[u8], standing: Standing<'_>) -> Verdict {
    let mut reader = Reader::new(frames);
    let mut verdict = Verdict {
        has_joined: standing.is_named,
        said: vec![],
        delivered: vec![],
        pings: vec![],
        is_refused: false,
        end: End::Open,
    };
    loop {
        let limit = if verdict.has_joined {
            standing.message_bytes
        } else {
            HANDSHAKE_BYTES
        };
        let Some(said) = reader.next(limit) else {
            return verdict;
        };
        match said {
            Said::Message(message) => verdict.message(message, standing),
            Said::Ping(payload) => verdict.pings.push(payload),
            Said::Pong => {}
            Said::Close(code) => verdict.end = End::Goodbye(code),
            Said::Breach(breach) => verdict.end = End::Breach(breach),
        }
        if verdict.end != End::Open {
            return verdict;
        }
    }
}

impl Verdict {
    fn message(&mut self, message: Bytes, standing: Standing<'_>) {
        if !self.has_joined {
            self.has_joined = standing.answer == Some(&message);
            if !self.has_joined {
                // What is inside of a payload is looked at only if it should be the answer; whether it
                // is one that does not fit or none at all is the handshake's business.
                let codes: &[u16] = match EnvelopeView::parse(&message) {
                    Err(_) => &[1007],
                    Ok(view) if view.message_type() == Some(MessageType::AuthResponse) => {
                        &[1007, 1008]
                    }
                    Ok(_) => &[1008],
                };
                self.end = End::plain(codes);
            }
            return;
        }
        match fate(&message, standing) {
            Fate::Delivered => self.delivered.push(message.clone()),
            Fate::Elsewhere => {}
            Fate::Refused => self.is_refused = true,
            Fate::Ends(code) => self.end = End::plain(&[code]),
        }
        self.said.push(message);
    }
}

/// What becomes of an envelope. That the view of it is right is what another target proves.
fn fate(message: &Bytes, standing: Standing<'_>) -> Fate {
    let Ok(view) = EnvelopeView::parse(message) else {
        return Fate::Ends(1007);
    };
    let is = |text, address: &Address| Address::parse(text).is_ok_and(|it| it == *address);
    if !is(view.from_address(), standing.own) {
        return Fate::Ends(1008);
    }
    let message_type = view.message_type();
    if message_type.is_some_and(MessageType::is_relay_only) {
        return Fate::Ends(1008);
    }
    if message.len() > standing.envelope_bytes {
        return Fate::Refused;
    }
    let payload = || Envelope::decode(message.clone()).ok()?.payload;
    match message_type {
        Some(MessageType::BlockNotification) => match payload() {
            Some(Payload::BlockNotification(block)) => {
                told_if(Address::parse(&block.blocked_address).is_err())
            }
            _ => Fate::Ends(1007),
        },
        Some(MessageType::UnblockNotification) => match payload() {
            Some(Payload::UnblockNotification(_)) => Fate::Elsewhere,
            _ => Fate::Ends(1007),
        },
        _ if is(view.to_address(), standing.bob) => Fate::Delivered,
        // It may be refused, or queued: that is the hub's business.
        _ => Fate::Refused,
    }
}

const fn told_if(is_refused: bool) -> Fate {
    if is_refused {
        Fate::Refused
    } else {
        Fate::Elsewhere
    }
}
