//! What strangers write: requests, answers to challenges, envelopes, frames, and bytes.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use pinch_proto::wire::{
    AuthChallenge, AuthResponse, BlockNotification, EncryptedPayload, Envelope, MessageType,
    Payload, UnblockNotification,
};
use pinch_proto::{Address, SecretKey};

use crate::targets::parties::to_be_signed;

/// What a stranger knows when it writes.
pub(super) struct Pen<'a> {
    pub(super) own: &'a Address,
    pub(super) key: &'a SecretKey,
    pub(super) alice: &'a Address,
    pub(super) bob: &'a Address,
    pub(super) envelope_bytes: usize,
    /// What it was asked.
    pub(super) challenge: Option<&'a AuthChallenge>,
    /// What the last ping carried that it has heard.
    pub(super) ping: &'a Bytes,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Request(Request),
    /// The right answer to the challenge; to another one, if there was none.
    Answer,
    /// An envelope, in so many frames, with pings between them.
    Envelope {
        letter: Letter,
        frames: usize,
    },
    Frame {
        /// The final bit, the reserved bits, and the opcode.
        first: u8,
        is_masked: bool,
        coding: Coding,
        payload: Content,
    },
    Raw(Vec<u8>),
}

/// The head of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Join,
    JoinAsAlice,
    NoAddress,
    MalformedAddress,
    OfAPage,
    NoUpgrade,
    Health,
    Elsewhere,
    Post,
    TooLong,
    TooManyHeaders,
    NoHttp,
}

/// An envelope of a stranger.
#[derive(Clone, Copy, Debug)]
pub(super) enum Letter {
    ToBob {
        length: usize,
    },
    ToItself {
        length: usize,
    },
    ToNobody,
    ToNoAddress,
    TooLarge,
    OfSomebodyElse,
    RelayOnly,
    /// Of a type that may be unknown.
    OfType(i8),
    Block {
        is_bob: bool,
    },
    Unblock {
        is_bob: bool,
    },
    Heartbeat,
    None,
}

/// How the length of a frame is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coding {
    Shortest,
    InTwoBytes,
    InEightBytes,
    /// It says so, whatever follows.
    Claim(u64),
}

/// What a frame carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Zeros(usize),
    LastPing,
    Close { code: u16, reason: Vec<u8> },
}

impl Piece {
    pub(super) fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=11)? {
            0 | 1 => Self::Request(Request::Join),
            2 => Self::Request(*input.choose(&[
                Request::JoinAsAlice,
                Request::NoAddress,
                Request::MalformedAddress,
                Request::OfAPage,
                Request::NoUpgrade,
                Request::Health,
                Request::Elsewhere,
                Request::Post,
                Request::TooLong,
                Request::TooManyHeaders,
                Request::NoHttp,
            ])?),
            3 | 4 => Self::Answer,
            5..=8 => Self::Envelope {
                letter: Letter::read(input)?,
                frames: *input.choose(&[1, 1, 2, 3])?,
            },
            9 => Self::Raw(few_bytes(input)?),
            _ => Self::Frame {
                first: *input.choose(&[
                    0x82, 0x89, 0x8a, 0x88, 0x02, 0x00, 0x80, 0x81, 0x01, 0x09, 0xc2, 0x83, 0x8b,
                ])?,
                is_masked: !input.ratio(1, 12)?,
                coding: Coding::read(input)?,
                payload: Content::read(input)?,
            },
        })
    }

    pub(super) fn bytes(&self, pen: &Pen<'_>) -> Vec<u8> {
        match self {
            Self::Request(request) => request.bytes(pen),
            Self::Answer => frame(0x82, &answer(pen)),
            Self::Envelope { letter, frames } => in_frames(&letter.bytes(pen), *frames),
            Self::Frame {
                first,
                is_masked,
                coding,
                payload,
            } => {
                let payload = payload.bytes(pen);
                let length = payload.len() as u64;
                raw_frame(*first, *is_masked, coding.bytes(length), &payload)
            }
            Self::Raw(bytes) => bytes.clone(),
        }
    }
}

fn few_bytes(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = input.int_in_range(0..=20)?;
    (0..length).map(|_| input.arbitrary()).collect()
}

impl Request {
    /// What the relay answers, if nothing is wrong with it but this.
    pub(super) const fn status(self, is_open: bool) -> u16 {
        match self {
            Self::NoAddress | Self::MalformedAddress if is_open => 400,
            Self::Join | Self::JoinAsAlice | Self::NoAddress | Self::MalformedAddress => 101,
            Self::Health => 200,
            Self::NoHttp => 400,
            Self::OfAPage => 403,
            Self::Elsewhere => 404,
            Self::Post => 405,
            Self::NoUpgrade => 426,
            Self::TooLong | Self::TooManyHeaders => 431,
        }
    }

    fn bytes(self, pen: &Pen<'_>) -> Vec<u8> {
        const UPGRADE: &str = "Host: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let as_own = format!("GET /ws?address={} HTTP/1.1", pen.own);
        let (line, fields) = match self {
            Self::Join => (as_own, UPGRADE.to_owned()),
            Self::JoinAsAlice => (
                format!("GET /ws?address={} HTTP/1.1", pen.alice),
                UPGRADE.to_owned(),
            ),
            Self::NoAddress => ("GET /ws HTTP/1.1".into(), UPGRADE.to_owned()),
            Self::MalformedAddress => (
                "GET /ws?address=pinch:%ff HTTP/1.1".into(),
                UPGRADE.to_owned(),
            ),
            Self::OfAPage => (
                as_own,
                format!("{UPGRADE}Origin: https://evil.example.com\r\n"),
            ),
            Self::NoUpgrade => (as_own, "Host: relay\r\n".into()),
            Self::Health => ("GET /health HTTP/1.1".into(), "Host: relay\r\n".into()),
            Self::Elsewhere => ("GET /elsewhere HTTP/1.1".into(), UPGRADE.to_owned()),
            Self::Post => ("POST /ws HTTP/1.1".into(), UPGRADE.to_owned()),
            Self::TooLong => (as_own, format!("Cookie: {}\r\n{UPGRADE}", "c".repeat(8192))),
            Self::TooManyHeaders => (as_own, format!("{}{UPGRADE}", "A: b\r\n".repeat(60))),
            Self::NoHttp => (
                "\u{16}\u{3}\u{1} hello".into(),
                "this is not HTTP\r\n".into(),
            ),
        };
        format!("{line}\r\n{fields}\r\n").into_bytes()
    }
}

impl Letter {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=15)? {
            0 => Self::ToItself {
                length: input.int_in_range(0..=300)?,
            },
            1 => Self::ToNobody,
            2 => Self::ToNoAddress,
            3 => Self::TooLarge,
            4 => Self::OfSomebodyElse,
            5 => Self::RelayOnly,
            6 => Self::OfType(input.arbitrary()?),
            7 => Self::Block {
                is_bob: input.arbitrary()?,
            },
            8 => Self::Unblock {
                is_bob: input.arbitrary()?,
            },
            9 => Self::Heartbeat,
            10 => Self::None,
            _ => Self::ToBob {
                length: input.int_in_range(0..=300)?,
            },
        })
    }

    fn bytes(self, pen: &Pen<'_>) -> Bytes {
        let (own, bob) = (pen.own.as_str(), pen.bob.as_str());
        let whom = |is_bob| if is_bob { bob } else { pen.alice.as_str() }.to_owned();
        match self {
            Self::ToBob { length } => letter(own, bob, length),
            Self::ToItself { length } => letter(own, own, length),
            Self::ToNobody => letter(own, "pinch:nobody@relay.example.com", 1),
            Self::ToNoAddress => letter(own, "nobody", 1),
            Self::TooLarge => letter(own, bob, pen.envelope_bytes),
            Self::OfSomebodyElse => letter(pen.alice.as_str(), bob, 1),
            Self::RelayOnly => of_type(own, bob, MessageType::QueueStatus.into(), None),
            Self::OfType(number) => of_type(own, bob, number.into(), None),
            Self::Block { is_bob } => {
                let block = BlockNotification {
                    blocker_address: String::new(),
                    blocked_address: whom(is_bob),
                };
                let payload = Some(Payload::BlockNotification(block));
                of_type(own, "", MessageType::BlockNotification.into(), payload)
            }
            Self::Unblock { is_bob } => {
                let unblock = UnblockNotification {
                    unblocker_address: String::new(),
                    unblocked_address: whom(is_bob),
                };
                let payload = Some(Payload::UnblockNotification(unblock));
                of_type(own, "", MessageType::UnblockNotification.into(), payload)
            }
            Self::Heartbeat => of_type(own, "", MessageType::Heartbeat.into(), None),
            Self::None => Bytes::from_static(&[0x08, 0xff]),
        }
    }
}

/// A message with so many bytes in it, besides the envelope.
pub(super) fn letter(from: &str, to: &str, length: usize) -> Bytes {
    let payload = Payload::Encrypted(EncryptedPayload {
        ciphertext: vec![0x5a; length].into(),
        ..EncryptedPayload::default()
    });
    of_type(from, to, MessageType::Message.into(), Some(payload))
}

fn of_type(from: &str, to: &str, number: i32, payload: Option<Payload>) -> Bytes {
    Envelope {
        version: 1,
        from_address: from.into(),
        to_address: to.into(),
        r#type: number,
        payload,
        ..Envelope::default()
    }
    .to_bytes()
}

/// The right answer to the challenge that `pen` knows.
pub(super) fn answer(pen: &Pen<'_>) -> Bytes {
    let (host, nonce) = match pen.challenge {
        Some(challenge) => (challenge.relay_host.as_str(), challenge.nonce.clone()),
        None => ("relay.example.com", Bytes::from_static(&[0; 32])),
    };
    let signature = pen.key.sign(&to_be_signed(host, &nonce));
    let response = AuthResponse {
        version: 1,
        public_key: Bytes::copy_from_slice(pen.key.public_key().as_bytes()),
        signature: Bytes::copy_from_slice(signature.as_bytes()),
        nonce,
    };
    let payload = Some(Payload::AuthResponse(response));
    of_type("", "", MessageType::AuthResponse.into(), payload)
}

impl Coding {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=9)? {
            0 => Self::InTwoBytes,
            1 => Self::InEightBytes,
            2 => Self::Claim(*input.choose(&[1 << 63, u64::MAX, 10_000, 599, 125, 126, 0])?),
            _ => Self::Shortest,
        })
    }

    /// The bytes of a length, but for the bit of the mask in the first of them.
    fn bytes(self, length: u64) -> Vec<u8> {
        let [.., high, low] = length.to_be_bytes();
        match self {
            Self::Shortest if length < 126 => vec![low],
            Self::Shortest | Self::InTwoBytes => vec![126, high, low],
            Self::InEightBytes => [&[127][..], &length.to_be_bytes()].concat(),
            Self::Claim(length) if length < 1 << 16 => Self::Shortest.bytes(length),
            Self::Claim(length) => Self::InEightBytes.bytes(length),
        }
    }
}

impl Content {
    fn read(input: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match input.int_in_range(0..=6)? {
            0 | 1 => Self::LastPing,
            2 => Self::Zeros(*input.choose(&[0, 1, 125, 126, 600, 601, 4096, 9001])?),
            3 => Self::Close {
                code: *input.choose(&[1000, 1001, 1005, 1008, 3000, 4999, 0, 999, 5000])?,
                reason: few_bytes(input)?,
            },
            _ => Self::Bytes(few_bytes(input)?),
        })
    }

    fn bytes(&self, pen: &Pen<'_>) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Zeros(count) => vec![0; *count],
            Self::LastPing => pen.ping.to_vec(),
            Self::Close { code, reason } => [&code.to_be_bytes()[..], reason].concat(),
        }
    }
}

/// A frame as a client has to write it.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u64;
    raw_frame(first, true, Coding::Shortest.bytes(length), payload)
}

fn raw_frame(first: u8, is_masked: bool, mut length: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![first];
    if !is_masked {
        bytes.extend(length);
        bytes.extend(payload);
        return bytes;
    }
    if let Some(short) = length.first_mut() {
        *short |= 0x80;
    }
    bytes.extend(length);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// A message in `frames` fragments, with a ping behind each but the last.
fn in_frames(message: &[u8], frames: usize) -> Vec<u8> {
    let size = message.len().div_ceil(frames.max(1)).max(1);
    let last = message.chunks(size).count().saturating_sub(1);
    let mut bytes = vec![];
    for (at, chunk) in message.chunks(size).enumerate() {
        let opcode = if at == 0 { 0x02 } else { 0x00 };
        if at == last {
            bytes.extend(frame(0x80 | opcode, chunk));
        } else {
            bytes.extend(frame(opcode, chunk));
            bytes.extend(frame(0x89, &[u8::try_from(at).unwrap_or(0)]));
        }
    }
    bytes
}
