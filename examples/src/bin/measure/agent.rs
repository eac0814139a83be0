//! A light agent in open mode: a WebSocket and nothing more. Pings are answered by tungstenite
//! while the agent is read from.

use core::time::Duration;
use std::io;

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::{WebSocketStream, client_async_with_config};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::relay::authority;

/// What takes longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Agent(WebSocketStream<Compat<TcpStream>>);

impl Agent {
    /// Joins the relay at `url` under [`name`]`(number)`.
    pub(crate) async fn join(url: &str, number: usize) -> io::Result<Self> {
        Self::join_once(TcpStream::connect(authority(url)?), url, number).await
    }

    /// As [`join`](Self::join), over `socket`.
    pub(crate) async fn join_over(socket: TcpSocket, url: &str, number: usize) -> io::Result<Self> {
        let relay = authority(url)?.parse().map_err(io::Error::other)?;
        Self::join_once(socket.connect(relay), url, number).await
    }

    async fn join_once(
        connecting: impl Future<Output = io::Result<TcpStream>>,
        url: &str,
        number: usize,
    ) -> io::Result<Self> {
        let joining = async {
            let stream = connecting.await?;
            stream.set_nodelay(true)?;
            let request = format!("{url}?address={}", name(number));
            let config = WebSocketConfig::default()
                .read_buffer_size(1024)
                .write_buffer_size(0);
            let joined = client_async_with_config(request, stream.compat(), Some(config)).await;
            joined.map_err(io::Error::other)
        };
        let (stream, _) = timeout(PATIENCE, joining)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Self(stream))
    }

    /// The next envelope.
    pub(crate) async fn envelope(&mut self) -> io::Result<Bytes> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(envelope))) => return Ok(envelope),
                Some(Ok(Message::Close(frame))) => {
                    return Err(io::Error::other(format!("closed by the relay: {frame:?}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Writes `count` copies of `envelope` at once.
    pub(crate) async fn send(&mut self, envelope: &Bytes, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let message = Message::Binary(envelope.clone());
            self.0.feed(message).await.map_err(io::Error::other)?;
        }
        self.0.flush().await.map_err(io::Error::other)
    }

    /// Says goodbye.
    pub(crate) async fn leave(mut self) -> io::Result<()> {
        self.0.close(None).await.map_err(io::Error::other)
    }

    /// Ends the connection as a crash would: the system tells the relay, and forgets what was under
    /// way.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.0.get_ref().get_ref().set_zero_linger()
    }
}

/// The address of the agent with this number, which needs no percent-encoding.
pub(crate) fn name(number: usize) -> String {
    format!("pinch:agent-{number}@localhost")
}

/// An envelope of exactly `size` bytes, if that is more than its frame takes.
pub(crate) fn envelope(from: usize, to: usize, size: usize) -> Bytes {
    let with = |len| {
        let payload = EncryptedPayload {
            ciphertext: vec![7; len].into(),
            ..EncryptedPayload::default()
        };
        Envelope {
            version: 1,
            from_address: name(from),
            to_address: name(to),
            r#type: MessageType::Message.into(),
            payload: Some(Payload::Encrypted(payload)),
            ..Envelope::default()
        }
        .to_bytes()
    };
    // The lengths of the lengths grow with the size, so the first guess may be too long.
    let mut padding = size.saturating_sub(with(0).len());
    while padding > 0 && with(padding).len() > size {
        padding -= 1;
    }
    with(padding)
}
