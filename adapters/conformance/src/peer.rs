//! An agent that is another WebSocket implementation (tungstenite) and does what it should.

use core::time::Duration;
use std::net::TcpStream;

use async_io::Async;
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{Error as WsError, Message as WsMessage};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::proto::handshake::Agent;
use pinch_driver::proto::{Address, Host, UnixMillis};

use crate::envelopes::{address, key, key_address};
use crate::relays::{self, HOST, connect};
use crate::starter::Running;
use crate::wait::soon;

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
pub(crate) struct Peer<S = Async<TcpStream>> {
    pub(crate) address: Address,
    socket: WebSocketStream<S>,
    /// How many pings it has answered.
    pub(crate) pings: usize,
}

impl Peer {
    /// Joins `relay`, which is in open mode, and answers the first ping.
    pub(crate) async fn named(relay: &impl Running, name: &str) -> Self {
        Self::named_over(connect(relay).await, name).await
    }

    /// Joins `relay`, which is in challenge mode, and answers the first ping.
    pub(crate) async fn proven(relay: &impl Running, seed: u8) -> Self {
        Self::proven_over(connect(relay).await, seed).await
    }

    /// Leaves with a reset instead of the end of a stream.
    pub(crate) fn reset(self) {
        relays::reset(self.socket.get_ref());
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
        let address = agent.handle_result(&peer.envelope().await, Duration::ZERO);
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
