//! A hub on `tokio-tungstenite`, with its defaults.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, interval, sleep_until};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::{MAX_MESSAGE, PING_INTERVAL, PONG_TIMEOUT, Routes, leave, route};
use crate::upgrade;

/// Runs the hub.
#[must_use]
pub fn main() -> ExitCode {
    let routes = Routes::default();
    super::main(move |stream, batch| {
        let routes = Arc::clone(&routes);
        async move {
            if let Some((address, socket)) = join(stream).await {
                let (sender, receiver) = unbounded_channel();
                routes.insert(address.clone(), sender.clone());
                // However it ends, it has ended.
                let _ = converse(socket, receiver, &routes, batch).await;
                leave(&routes, &address, &sender);
            }
        }
    })
}

#[allow(
    clippy::result_large_err,
    reason = "the library wants the callback to return its response"
)]
async fn join(stream: TcpStream) -> Option<(String, WebSocketStream<TcpStream>)> {
    let mut address = None;
    let name = |request: &Request, response: Response| {
        address = request.uri().query().and_then(upgrade::address);
        if address.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        Err(refusal)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let joined = accept_hdr_async_with_config(stream, name, Some(config)).await;
    Some((address?, joined.ok()?))
}

async fn converse(
    mut socket: WebSocketStream<TcpStream>,
    mut messages: UnboundedReceiver<Message>,
    routes: &Routes<Message>,
    batch: bool,
) -> Result<(), Error> {
    let mut ping = interval(PING_INTERVAL);
    let mut pong = core::pin::pin!(sleep_until(Instant::now()));
    let mut awaits_pong = false;
    loop {
        tokio::select! {
            heard = socket.next() => match heard.ok_or(Error::ConnectionClosed)?? {
                Message::Binary(envelope) => {
                    if let Some(to) = route(routes, &envelope) {
                        let _ = to.send(Message::Binary(envelope));
                    }
                }
                Message::Pong(_) => awaits_pong = false,
                // The library answers both by itself, while it reads.
                Message::Ping(_) | Message::Close(_) | Message::Text(_) | Message::Frame(_) => {}
            },
            Some(message) = messages.recv() => {
                if batch {
                    socket.feed(message).await?;
                    while let Ok(message) = messages.try_recv() {
                        socket.feed(message).await?;
                    }
                    socket.flush().await?;
                } else {
                    socket.send(message).await?;
                }
            }
            _ = ping.tick() => {
                socket.send(Message::Ping(bytes::Bytes::new())).await?;
                awaits_pong = true;
                pong.as_mut().reset(Instant::now() + PONG_TIMEOUT);
            }
            () = &mut pong, if awaits_pong => return Ok(()),
        }
    }
}
