//! A hub on `fastwebsockets` and hyper, with their defaults.

use core::convert::Infallible;
use core::sync::atomic::{AtomicBool, Ordering};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::{UpgradeFut, is_upgrade_request, upgrade};
use fastwebsockets::{
    FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketRead, WebSocketWrite,
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, interval, sleep_until};

use super::{MAX_MESSAGE, PING_INTERVAL, PONG_TIMEOUT, Routes, leave, route};

/// What batches are written into.
const BATCH: usize = 16 * 1024;

/// Runs the hub.
#[must_use]
pub fn main() -> ExitCode {
    let routes = Routes::default();
    super::main(move |stream, batch| serve(stream, Arc::clone(&routes), batch))
}

async fn serve(stream: TcpStream, routes: Routes<Frame<'static>>, batch: bool) {
    let service = service_fn(|request| {
        let answer = answer(request, &routes, batch);
        core::future::ready(Ok::<_, Infallible>(answer))
    });
    let http = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // However it ends, it has ended.
    let _ = http.await;
}

fn answer(
    mut request: Request<Incoming>,
    routes: &Routes<Frame<'static>>,
    batch: bool,
) -> Response<Full<Bytes>> {
    let address = request.uri().query().and_then(crate::upgrade::address);
    if let Some(address) = address
        && is_upgrade_request(&request)
        && let Ok((response, upgraded)) = upgrade(&mut request)
    {
        tokio::spawn(join(upgraded, address, Arc::clone(routes), batch));
        return response.map(|_| Full::default());
    }
    let mut refusal = Response::new(Full::default());
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    refusal
}

async fn join(upgraded: UpgradeFut, address: String, routes: Routes<Frame<'static>>, batch: bool) {
    let Ok(mut socket) = upgraded.await else {
        return;
    };
    // The library refuses what has as many bytes as this.
    socket.set_max_message_size(MAX_MESSAGE + 1);
    if batch {
        let (reader, writer) = socket.split(|stream| {
            let (reader, writer) = tokio::io::split(stream);
            (reader, BufWriter::with_capacity(BATCH, writer))
        });
        converse(reader, writer, &address, &routes, batch).await;
    } else {
        let (reader, writer) = socket.split(tokio::io::split);
        converse(reader, writer, &address, &routes, batch).await;
    }
}

async fn converse<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: WebSocketRead<R>,
    writer: WebSocketWrite<W>,
    address: &str,
    routes: &Routes<Frame<'static>>,
    batch: bool,
) {
    let (sender, receiver) = unbounded_channel();
    routes.insert(address.to_owned(), sender.clone());
    let awaits_pong = AtomicBool::new(false);
    // However either ends, both have ended.
    tokio::select! {
        _ = read(reader, &sender, routes, &awaits_pong) => {}
        _ = write(writer, receiver, &awaits_pong, batch) => {}
    }
    leave(routes, address, &sender);
}

async fn read<R: AsyncRead + Unpin>(
    reader: WebSocketRead<R>,
    sender: &UnboundedSender<Frame<'static>>,
    routes: &Routes<Frame<'static>>,
    awaits_pong: &AtomicBool,
) -> Result<(), WebSocketError> {
    let mut reader = FragmentCollectorRead::new(reader);
    // Pongs and close frames are left to whoever writes.
    let mut answer = |frame| {
        let sent = sender.send(frame);
        core::future::ready(sent.map_err(|_| WebSocketError::ConnectionClosed))
    };
    loop {
        let frame = reader.read_frame(&mut answer).await?;
        match frame.opcode {
            OpCode::Binary => {
                let to = route(routes, &frame.payload);
                if let Some(to) = to {
                    let _ = to.send(Frame::binary(frame.payload));
                }
            }
            OpCode::Pong => awaits_pong.store(false, Ordering::Relaxed),
            // The writer ends with the answer.
            OpCode::Close => core::future::pending().await,
            OpCode::Continuation | OpCode::Text | OpCode::Ping => {}
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: WebSocketWrite<W>,
    mut frames: UnboundedReceiver<Frame<'static>>,
    awaits_pong: &AtomicBool,
    batch: bool,
) -> Result<(), WebSocketError> {
    let mut ping = interval(PING_INTERVAL);
    let mut pong = core::pin::pin!(sleep_until(Instant::now()));
    loop {
        tokio::select! {
            Some(frame) = frames.recv() => {
                let mut closes = frame.opcode == OpCode::Close;
                writer.write_frame(frame).await?;
                while batch && !closes && let Ok(frame) = frames.try_recv() {
                    closes = frame.opcode == OpCode::Close;
                    writer.write_frame(frame).await?;
                }
                if batch || closes {
                    writer.flush().await?;
                }
                if closes {
                    return Ok(());
                }
            }
            _ = ping.tick() => {
                let frame = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(&[]));
                writer.write_frame(frame).await?;
                writer.flush().await?;
                awaits_pong.store(true, Ordering::Relaxed);
                pong.as_mut().reset(Instant::now() + PONG_TIMEOUT);
            }
            () = &mut pong, if awaits_pong.load(Ordering::Relaxed) => return Ok(()),
        }
    }
}
