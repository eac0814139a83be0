//! What the tests of a relay on tokio share: waits that end, settings for tests, envelopes, and a
//! [`Peer`] that is another WebSocket implementation (tungstenite). A [`Raw`](raw::Raw) peer says
//! byte by byte what it wants to say, right or wrong.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod raw;

use core::future::{Future, IntoFuture};
use core::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error as WsError, Message as WsMessage};
use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncWrite};
use futures_util::{FutureExt as _, StreamExt as _};
use pinch_proto::handshake::Agent;
use pinch_proto::hub::Config;
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload, QueueFull};
use pinch_proto::{Address, Host, SecretKey, UnixMillis};
use pinch_tokio::{Auth, Builder, Relay, Tokio};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

pub(crate) const HOST: &str = "relay.example.com";

/// What takes longer than this has gone wrong. It is long because machines that run tests are busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Tasks of a relay that listens and has no connections: the timer's and the listener's.
pub(crate) const IDLE_TASKS: usize = 2;

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits for `future`, but not for ever.
pub(crate) async fn soon<F: IntoFuture>(what: &str, future: F) -> F::Output {
    let waited = tokio::time::timeout(LIMIT, future.into_future()).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(millis(1)).await;
        }
    })
    .await;
}

/// The defaults, without a rate limit.
pub(crate) fn config() -> Config {
    Config::new(Host::parse(HOST).expect("a host")).rate_limit(None)
}

pub(crate) async fn bind(builder: Builder<Tokio>) -> Relay {
    builder.bind(([127, 0, 0, 1], 0)).await.expect("it listens")
}

/// A relay in open mode.
pub(crate) async fn open(config: Config) -> Relay {
    bind(Relay::builder().hub(config).auth(Auth::Open)).await
}

/// A relay in challenge mode.
pub(crate) async fn challenge(config: Config) -> Relay {
    bind(Relay::builder().hub(config)).await
}

pub(crate) async fn connect(relay: &Relay) -> TcpStream {
    let addr = relay.local_addr().expect("it listens");
    let stream = soon("connecting", TcpStream::connect(addr)).await;
    let stream = stream.expect("the relay accepts");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Waits until nothing of any connection is left in `relay`.
pub(crate) async fn emptied(relay: &Relay) {
    eventually(&format!("an empty relay, not {relay:?}"), || {
        let stats = relay.stats();
        let hub = stats.hub;
        let held = hub.connections + hub.closing + hub.queued + hub.queued_bytes + hub.in_flight;
        (held, stats.pending, stats.tasks) == (0, 0, IDLE_TASKS)
    })
    .await;
    let hub = relay.stats().hub;
    assert_eq!(hub.registered, hub.closed);
    assert_eq!(hub.accepted, hub.delivered + hub.returned + hub.unconfirmed);
}

/// Tells whether the task that `future` would wait in has nothing to do yet.
pub(crate) fn is_pending(future: impl Future) -> bool {
    future.now_or_never().is_none()
}

pub(crate) fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@{HOST}")).expect("an address")
}

/// The key number `seed`.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The address of the key number `seed`.
pub(crate) fn key_address(seed: u8) -> Address {
    let host = Host::parse(HOST).expect("a host");
    Address::from_public_key(&key(seed).public_key(), &host)
}

/// An envelope without a payload, named by `number`.
pub(crate) fn envelope(from: &Address, to: &Address, kind: MessageType, number: u64) -> Envelope {
    Envelope {
        version: 1,
        from_address: from.as_str().into(),
        to_address: to.as_str().into(),
        r#type: kind.into(),
        message_id: Bytes::copy_from_slice(&number.to_be_bytes()),
        ..Envelope::default()
    }
}

/// A MESSAGE with a ciphertext of `len` bytes.
pub(crate) fn message(from: &Address, to: &Address, number: u64, len: usize) -> Bytes {
    let ciphertext = (0..len).map(|at| at.to_le_bytes()[0]).collect();
    let payload = EncryptedPayload {
        ciphertext,
        ..EncryptedPayload::default()
    };
    Envelope {
        payload: Some(Payload::Encrypted(payload)),
        ..envelope(from, to, MessageType::Message, number)
    }
    .to_bytes()
}

/// A MESSAGE that is `len` bytes long as a whole.
pub(crate) fn message_of(from: &Address, to: &Address, number: u64, len: usize) -> Bytes {
    let mut ciphertext = len;
    loop {
        let message = message(from, to, number, ciphertext);
        match message.len().checked_sub(len) {
            Some(0) => return message,
            over => ciphertext -= over.expect("every length can be had"),
        }
    }
}

pub(crate) fn decode(message: &[u8]) -> Envelope {
    Envelope::decode(message).expect("an envelope")
}

/// The number in the message id.
pub(crate) fn number(envelope: &Envelope) -> u64 {
    let id = envelope.message_id.as_ref().try_into();
    u64::from_be_bytes(id.expect("a number for an id"))
}

/// The refusal that `message` is, if it is one, and the number of the envelope that it is about.
pub(crate) fn refusal(message: &[u8]) -> Option<(u64, QueueFull)> {
    let envelope = decode(message);
    let about = number(&envelope);
    match envelope.payload {
        Some(Payload::QueueFull(refusal)) => Some((about, refusal)),
        _ => None,
    }
}

/// What a peer hears from the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Envelope(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(u16, String),
    /// The end of the stream, in order or not.
    End,
}

impl Heard {
    /// A close frame, for comparison.
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        Self::Close(code, reason.into())
    }
}

/// An agent that does what it should: it answers pings, while it listens.
#[derive(Debug)]
pub(crate) struct Peer<S = Compat<TcpStream>> {
    pub(crate) address: Address,
    socket: WebSocketStream<S>,
    /// How many pings it has answered.
    pub(crate) pings: usize,
}

impl Peer {
    /// Joins `relay`, which is in open mode, and answers the first ping.
    pub(crate) async fn named(relay: &Relay, name: &str) -> Self {
        Self::named_over(connect(relay).await.compat(), name).await
    }

    /// Joins `relay`, which is in challenge mode, and answers the first ping.
    pub(crate) async fn proven(relay: &Relay, seed: u8) -> Self {
        Self::proven_over(connect(relay).await.compat(), seed).await
    }

    /// Leaves with a reset instead of the end of a stream.
    pub(crate) fn reset(self) {
        let stream = self.socket.into_inner().into_inner();
        stream.set_zero_linger().expect("a TCP socket");
    }

    /// Its socket, for another runtime.
    pub(crate) fn into_std(self) -> std::net::TcpStream {
        let stream = self.socket.into_inner().into_inner();
        stream.into_std().expect("a TCP socket")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) async fn named_over(stream: S, name: &str) -> Self {
        let address = address(name);
        let mut peer = Self::upgrade(stream, &format!("/ws?address={address}"), address).await;
        peer.answer_ping().await;
        peer
    }

    pub(crate) async fn proven_over(stream: S, seed: u8) -> Self {
        let host = Host::parse(HOST).expect("a host");
        let mut peer = Self::upgrade(stream, "/ws", key_address(seed)).await;
        let challenge = peer.envelope().await;
        let agent = Agent::new(key(seed), host);
        let (answer, agent) = agent
            .handle_challenge(&challenge, UnixMillis(0))
            .expect("a challenge");
        peer.send(answer).await;
        let address = agent.handle_result(&peer.envelope().await);
        assert_eq!(address.as_ref(), Ok(&peer.address));
        peer.answer_ping().await;
        peer
    }

    async fn upgrade(stream: S, target: &str, address: Address) -> Self {
        let request = format!("ws://{HOST}{target}");
        let upgrade = async_tungstenite::client_async(request, stream);
        let (socket, _) = soon("the upgrade", upgrade).await.expect("an upgrade");
        Self {
            address,
            socket,
            pings: 0,
        }
    }

    async fn answer_ping(&mut self) {
        let heard = self.hear().await;
        assert!(matches!(heard, Heard::Ping(_)), "{heard:?} before a ping");
    }

    /// What comes next. A ping has been answered by then.
    pub(crate) async fn hear(&mut self) -> Heard {
        match soon("something to hear", self.socket.next()).await {
            Some(Ok(WsMessage::Binary(message))) => Heard::Envelope(message),
            Some(Ok(WsMessage::Ping(payload))) => {
                self.pings += 1;
                let pong = WsMessage::Pong(payload.clone());
                // Who has been cut meanwhile will hear that next.
                let _ = soon("sending a pong", self.socket.send(pong)).await;
                Heard::Ping(payload)
            }
            Some(Ok(WsMessage::Pong(payload))) => Heard::Pong(payload),
            Some(Ok(WsMessage::Close(Some(frame)))) => {
                Heard::Close(frame.code.into(), frame.reason.as_str().into())
            }
            Some(Ok(other)) => panic!("the relay says {other:?}"),
            Some(Err(_)) | None => Heard::End,
        }
    }

    /// What comes next, besides pings.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            let heard = self.hear().await;
            if !matches!(heard, Heard::Ping(_)) {
                return heard;
            }
        }
    }

    /// The next message.
    pub(crate) async fn envelope(&mut self) -> Bytes {
        let heard = self.next().await;
        let Heard::Envelope(message) = heard else {
            panic!("{heard:?} instead of an envelope")
        };
        message
    }

    /// The close frame, which is answered, and the end of the stream.
    pub(crate) async fn closed(&mut self) -> Heard {
        let close = self.next().await;
        assert!(matches!(close, Heard::Close(..)), "{close:?}");
        assert_eq!(self.next().await, Heard::End);
        close
    }

    pub(crate) async fn send(&mut self, message: Bytes) {
        self.send_any(WsMessage::Binary(message)).await;
    }

    /// Sends, if the relay is still there.
    pub(crate) async fn try_send(&mut self, message: Bytes) -> Result<(), WsError> {
        soon("sending", self.socket.send(WsMessage::Binary(message))).await
    }

    pub(crate) async fn send_any(&mut self, message: WsMessage) {
        let sent = soon("sending", self.socket.send(message)).await;
        sent.expect("the relay takes it");
    }

    /// Leaves in order.
    pub(crate) async fn leave(mut self) {
        self.say_goodbye().await;
        while self.next().await != Heard::close(1000, "done") {}
        assert_eq!(self.next().await, Heard::End);
    }

    /// Leaves in order, but does not wait for the relay's answer.
    pub(crate) async fn say_goodbye(&mut self) {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "done".into(),
        };
        let sent = soon("sending", self.socket.close(Some(frame))).await;
        sent.expect("the relay takes it");
    }
}
