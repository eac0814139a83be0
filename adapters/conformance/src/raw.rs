//! A peer without manners: it writes the bytes that a test gives it, reads frames as they come, and
//! answers nothing by itself, but for pings while it waits for an envelope.

use std::net::TcpStream;

use async_io::Async;
use bytes::{Buf as _, Bytes};
use futures_lite::future::poll_once;
use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use pinch_driver::proto::handshake::signed_bytes;
use pinch_driver::proto::wire::{AuthChallenge, AuthResponse, Envelope, MessageType, Payload};
use pinch_driver::proto::{Address, SecretKey};

use crate::envelopes::{address, decode, key};
use crate::peer::Heard;
use crate::relays::{self, HOST, connect};
use crate::starter::Running;
use crate::wait::soon;

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// The final fragment of a message.
pub(crate) const LAST: u8 = 0x80;
/// A binary frame after which more fragments follow.
pub(crate) const FIRST: u8 = 0x02;
/// A fragment after which more follow.
pub(crate) const MIDDLE: u8 = 0x00;

/// A frame as a client has to write it. `first` is its first byte: the final bit, the reserved
/// bits, and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = header(first, payload.len() as u64, true);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// The beginning of a frame, up to where its mask would be.
pub(crate) fn header(first: u8, len: u64, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let [.., high, low] = len.to_be_bytes();
    match len {
        0..126 => vec![first, mask | low],
        126..=0xffff => vec![first, mask | 126, high, low],
        _ => [&[first, mask | 127][..], &len.to_be_bytes()].concat(),
    }
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A request for an upgrade that the relay accepts.
pub(crate) fn upgrade_request(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// The answer to `challenge` that proves `key`, but for what `change` does to it.
pub(crate) fn answer(
    challenge: &AuthChallenge,
    key: &SecretKey,
    change: impl FnOnce(&mut AuthResponse),
) -> Bytes {
    let nonce = challenge.nonce.as_ref().try_into().expect("32 bytes");
    let signature = key.sign(&signed_bytes(&challenge.relay_host, &nonce));
    let mut response = AuthResponse {
        version: 1,
        public_key: Bytes::copy_from_slice(key.public_key().as_bytes()),
        signature: Bytes::copy_from_slice(signature.as_bytes()),
        nonce: challenge.nonce.clone(),
    };
    change(&mut response);
    Envelope {
        version: 1,
        r#type: MessageType::AuthResponse.into(),
        payload: Some(Payload::AuthResponse(response)),
        ..Envelope::default()
    }
    .to_bytes()
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = fields.filter(|field| field.0.eq_ignore_ascii_case(name));
        found.next().map(|field| field.1)
    }
}

#[derive(Debug)]
pub(crate) struct Raw<S = Async<TcpStream>> {
    pub(crate) stream: S,
    /// What was read and not looked at.
    ahead: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(relay: &impl Running) -> Self {
        Self::new(connect(relay).await)
    }

    /// The relay's answer to one HEAD request: a response whose body does not follow.
    pub(crate) async fn ask_head(relay: &impl Running, request: &str) -> Response {
        let mut raw = Self::connect(relay).await;
        raw.write(request.as_bytes()).await;
        let response = raw.response_head().await;
        assert_eq!(raw.hear().await, Heard::End, "{response:?}");
        assert_eq!(raw.ahead, b"", "{response:?}");
        response
    }

    /// The relay's answer to one request.
    pub(crate) async fn ask(relay: &impl Running, request: &str) -> Response {
        let mut raw = Self::connect(relay).await;
        raw.write(request.as_bytes()).await;
        let response = raw.response().await;
        if response.status != 101 {
            let expected = match response.status {
                426 => "upgrade, close",
                _ => "close",
            };
            assert_eq!(
                response.header("connection"),
                Some(expected),
                "{response:?}"
            );
            assert_eq!(raw.hear().await, Heard::End);
        }
        response
    }

    /// Joins `relay`, which is in open mode, and answers the first ping.
    pub(crate) async fn named(relay: &impl Running, name: &str) -> Self {
        let mut raw = Self::upgraded(relay, name).await;
        raw.answer_ping().await;
        raw
    }

    /// Joins `relay`, which is in open mode, and answers nothing.
    pub(crate) async fn upgraded(relay: &impl Running, name: &str) -> Self {
        let mut raw = Self::connect(relay).await;
        raw.upgrade(&named_target(&address(name))).await;
        raw
    }

    /// Is asked by `relay`, which is in challenge mode, who it is.
    pub(crate) async fn challenged(relay: &impl Running) -> (Self, AuthChallenge) {
        let mut raw = Self::connect(relay).await;
        raw.upgrade("/ws").await;
        let challenge = raw.challenge().await;
        (raw, challenge)
    }

    /// Leaves with a reset instead of the end of a stream.
    pub(crate) fn reset(self) {
        relays::reset(&self.stream);
    }
}

pub(crate) fn named_target(address: &Address) -> String {
    format!("/ws?address={address}")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) const fn new(stream: S) -> Self {
        let ahead = Vec::new();
        Self { stream, ahead }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let written = soon("writing", self.stream.write_all(bytes)).await;
        written.expect("the relay takes it");
    }

    /// Writes a frame: see [`frame`].
    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.write(&frame(first, payload)).await;
    }

    pub(crate) async fn upgrade(&mut self, target: &str) {
        self.write(upgrade_request(target).as_bytes()).await;
        self.upgraded_response().await;
    }

    pub(crate) async fn upgraded_response(&mut self) {
        let response = self.response().await;
        assert_eq!(response.status, 101, "{response:?}");
        let accept = response.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.response_head().await;
        let length = response.header("content-length").unwrap_or("0");
        let length = length.parse().expect("a length");
        let body = self.take(length).await.expect("a whole body");
        response.body = String::from_utf8(body.into()).expect("text");
        response
    }

    async fn response_head(&mut self) -> Response {
        let head_len = loop {
            let end = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => assert!(self.read().await, "no response, but {:?}", self.ahead),
            }
        };
        let head = String::from_utf8(self.take(head_len).await.expect("it is there").into());
        let head = head.expect("text");
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse().ok());
        Response {
            status: status.expect("a status"),
            head,
            body: String::new(),
        }
    }

    /// The frame that comes next.
    pub(crate) async fn hear(&mut self) -> Heard {
        soon("a frame", self.try_hear()).await.unwrap_or(Heard::End)
    }

    /// The frame that comes next; `None` if the stream ends before it does.
    async fn try_hear(&mut self) -> Option<Heard> {
        let mut head = self.take(2).await?;
        let (first, len) = (head.get_u8(), head.get_u8());
        assert!(len < 128, "a relay's frame is not masked");
        let len = match len {
            126 => usize::from(self.take(2).await?.get_u16()),
            127 => usize::try_from(self.take(8).await?.get_u64()).expect("a length"),
            len => usize::from(len),
        };
        let mut payload = self.take(len).await?;
        Some(match first {
            BINARY => Heard::Envelope(payload),
            PING => Heard::Ping(payload),
            PONG => Heard::Pong(payload),
            CLOSE => {
                let code = payload.get_u16();
                let reason = String::from_utf8(payload.into()).expect("a reason in UTF-8");
                Heard::Close(code, reason)
            }
            other => panic!("the relay sent a frame {other:#x}"),
        })
    }

    /// The next message; pings that come before it are answered.
    pub(crate) async fn envelope(&mut self) -> Bytes {
        loop {
            match self.hear().await {
                Heard::Envelope(message) => return message,
                Heard::Ping(payload) => self.send(PONG, &payload).await,
                heard @ (Heard::Pong(_) | Heard::Close(..) | Heard::End) => {
                    panic!("{heard:?} instead of an envelope")
                }
            }
        }
    }

    pub(crate) async fn challenge(&mut self) -> AuthChallenge {
        match decode(&self.envelope().await).payload {
            Some(Payload::AuthChallenge(challenge)) => challenge,
            other => panic!("{other:?} instead of a challenge"),
        }
    }

    pub(crate) async fn ping(&mut self) -> Bytes {
        let heard = self.hear().await;
        let Heard::Ping(payload) = heard else {
            panic!("{heard:?} instead of a ping")
        };
        payload
    }

    pub(crate) async fn answer_ping(&mut self) {
        let payload = self.ping().await;
        self.send(PONG, &payload).await;
    }

    /// Joins a relay in challenge mode with the key number `seed`, and answers the first ping.
    pub(crate) async fn prove(&mut self, seed: u8) -> Address {
        self.upgrade("/ws").await;
        self.prove_upgraded(seed).await
    }

    /// Does what [`prove`](Self::prove) does after the upgrade.
    pub(crate) async fn prove_upgraded(&mut self, seed: u8) -> Address {
        let challenge = self.challenge().await;
        let answer = answer(&challenge, &key(seed), |_| ());
        self.send(BINARY, &answer).await;
        let address = match decode(&self.envelope().await).payload {
            Some(Payload::AuthResult(result)) => Address::parse(&result.assigned_address),
            other => panic!("{other:?} instead of AUTH_RESULT"),
        };
        self.answer_ping().await;
        address.expect("an address")
    }

    /// Answers a close frame, after which the relay ends the stream.
    pub(crate) async fn answer_close(&mut self) {
        self.send(CLOSE, &close_payload(1000, "")).await;
        assert_eq!(self.hear().await, Heard::End);
    }

    /// The next frame but pings, which are not answered.
    pub(crate) async fn hear_no_ping(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Ping(_) => {}
                heard @ (Heard::Envelope(_) | Heard::Pong(_) | Heard::Close(..) | Heard::End) => {
                    return heard;
                }
            }
        }
    }

    /// What still comes, to the end, besides pings.
    pub(crate) async fn rest(&mut self) -> Vec<Heard> {
        let mut rest = Vec::new();
        loop {
            let heard = self.hear().await;
            if heard == Heard::End {
                return rest;
            }
            if !matches!(heard, Heard::Ping(_)) {
                rest.push(heard);
            }
        }
    }

    /// Whether something has come that was not looked at, as far as one look tells.
    pub(crate) async fn has_more(&mut self) -> bool {
        let mut chunk = [0; 1];
        let read = poll_once(self.stream.read(&mut chunk)).await;
        let read = read.map_or(0, |read| read.expect("a living stream"));
        self.ahead.extend(&chunk[..read]);
        !self.ahead.is_empty()
    }

    async fn take(&mut self, len: usize) -> Option<Bytes> {
        while self.ahead.len() < len {
            if !soon("bytes", self.read()).await {
                return None;
            }
        }
        let rest = self.ahead.split_off(len);
        Some(core::mem::replace(&mut self.ahead, rest).into())
    }

    /// Reads once; false at the end of the stream, in order or not.
    async fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = soon("bytes", self.stream.read(&mut chunk)).await;
        let read = read.unwrap_or(0);
        self.ahead.extend(&chunk[..read]);
        read > 0
    }
}
