//! The client's end of HTTP and WebSocket, against relays that are written here byte by byte.

use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use pinch_driver::proto::client::{Config, Disconnect, Event, Identity};
use pinch_driver::proto::{Close, CloseCode};
use pinch_driver::{ConnectError, Runtime, bind};

use crate::agents::{Client, client, key, message};
use crate::envelopes::address;
use crate::pipe::{Pipe, pipe};
use crate::raw::{close_payload, header};
use crate::tracked::Tracked;
use crate::wait::{eventually, soon};

const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";

/// A relay that sends what a test says.
struct Script<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Script<S> {
    /// Reads the request for the upgrade, and writes `response` with the right key in it.
    async fn upgrade(stream: S, response: &str) -> Self {
        let mut script = Self { stream };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(script.byte().await.expect("a request"));
        }
        let request = String::from_utf8(request).expect("text");
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = async_tungstenite::tungstenite::handshake::derive_accept_key(
            key.expect("a key").as_bytes(),
        );
        script
            .write(response.replace("ACCEPT", &accept).as_bytes())
            .await;
        script
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = soon("writing", self.stream.write_all(bytes)).await;
        written.expect("the client takes it");
    }

    /// Writes a frame as a relay does.
    async fn send(&mut self, first: u8, payload: &[u8]) {
        let header = header(first, payload.len() as u64, false);
        self.write(&[&header, payload].concat()).await;
    }

    async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        let read = soon("a byte", self.stream.read_exact(&mut byte)).await;
        read.ok().map(|()| byte[0])
    }

    /// The short frame that comes next: its first byte and its payload, which is masked.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.byte().await?;
        let length = self.byte().await?;
        assert!((0x80..0x80 + 126).contains(&length), "masked and short");
        let mut bytes = Vec::new();
        for _ in 0..4 + (length & 0x7f) {
            bytes.push(self.byte().await?);
        }
        let (mask, payload) = bytes.split_at(4);
        let payload = payload.iter().zip(mask.iter().cycle());
        Some((first, payload.map(|(a, b)| a ^ b).collect()))
    }
}

fn name() -> Identity {
    Identity::Name(address("alice"))
}

/// One try of a client against a relay that answers the upgrade with `response`.
async fn answered<R: Runtime>(
    runtime: &Tracked<R>,
    response: &str,
) -> Result<Client<R>, ConnectError> {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("it listens");
    let url = format!("ws://{}/ws", listener.local_addr().expect("it listens"));
    let listener = runtime.listen(listener).expect("it listens");
    let config = Config::new().max_tries(Some(1));
    let connecting = client(runtime, url, name()).config(config).connect();
    let relay = async {
        let (stream, _) = runtime.accept(&listener).await.expect("the client dials");
        Script::upgrade(stream, response).await
    };
    let (joined, _relay) = soon("the upgrade", futures_lite::future::zip(connecting, relay)).await;
    joined
}

pub(crate) async fn a_101_is_read_as_http_says<R: Runtime>(runtime: &Tracked<R>) {
    let with = |from: &str, to: &str| UPGRADED.replacen(from, to, 1);
    let responses = [
        UPGRADED.to_owned(),
        with("Connection: Upgrade", "connection: keep-alive, UPGRADE"),
        with(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection:upgrade",
        ),
        with(
            "Connection: Upgrade",
            "Connection: keep-alive,\r\n\tUpgrade",
        ),
        with("websocket", "WebSocket"),
        with("101 Switching Protocols", "101 "),
        with("\r\n\r\n", "\r\nSec-WebSocket-Extensions:\r\n\r\n"),
        with("\r\n\r\n", "\r\nServer: \u{e4}\r\n\r\n"),
        format!("HTTP/1.1 100 Continue\r\n\r\n{UPGRADED}"),
        format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
             {UPGRADED}"
        ),
    ];
    for response in responses {
        let joined = answered(runtime, &response).await;
        assert!(joined.is_ok(), "{joined:?} after {response}");
    }
}

pub(crate) async fn an_answer_that_is_no_websocket_says_why<R: Runtime>(runtime: &Tracked<R>) {
    let with = |from: &str, to: &str| UPGRADED.replacen(from, to, 1);
    let forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nnot from here";
    let cases = [
        (with("Connection: Upgrade\r\n", ""), "Connection: Upgrade"),
        (with("Upgrade: websocket\r\n", ""), "Upgrade: websocket"),
        (with("websocket", "h2c"), "Upgrade: websocket"),
        (
            with("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "Sec-WebSocket-Accept",
        ),
        (
            with("ACCEPT", "ACCEPT\r\nSec-WebSocket-Accept: ACCEPT"),
            "Sec-WebSocket-Accept",
        ),
        (
            with(
                "\r\n\r\n",
                "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            ),
            "permessage-deflate",
        ),
        (
            with("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
            "chat",
        ),
        (with("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1"),
        ("SSH-2.0-OpenSSH_9.9\r\n".into(), "HTTP/1.1"),
        (forbidden.into(), "403"),
        (forbidden.into(), "not"),
        (format!("HTTP/1.1 100 Continue\r\n\r\n{forbidden}"), "403"),
        // The status is known, though the body does not end.
        (
            "HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n".into(),
            "502",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000)),
            "32768",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\n".repeat(2000), "32768"),
    ];
    for (response, expected) in cases {
        let error = answered(runtime, &response)
            .await
            .expect_err("no WebSocket");
        let text = error.to_string();
        assert!(text.contains(expected), "{text:?} lacks {expected:?}");
        assert!(
            !text.contains("not from"),
            "the body has three bytes: {text}"
        );
    }
}

/// A client that has joined over a pipe, and the relay at the other end.
async fn over_a_pipe<R: Runtime>(runtime: &Tracked<R>) -> (Client<R>, Script<Pipe>, Arc<Break>) {
    let (ends, dialed) = async_channel::unbounded();
    let broken = Arc::<Break>::default();
    let shared = Arc::clone(&broken);
    let dial = move || {
        let (near, far) = pipe(1 << 16);
        let sent = ends.try_send(far);
        let stream = Breakable {
            pipe: near,
            broken: Arc::clone(&shared),
        };
        async move { sent.map(|()| stream).map_err(io::Error::other) }
    };
    let config = Config::new().max_tries(Some(1));
    let connecting = client(runtime, "wss://relay.example.com".into(), name())
        .config(config)
        .dial_with(dial)
        .connect();
    let relay = async {
        let stream = dialed.recv().await.expect("the client dials");
        Script::upgrade(stream, UPGRADED).await
    };
    let (client, relay) = soon("the join", futures_lite::future::zip(connecting, relay)).await;
    (client.expect("it joins"), relay, broken)
}

/// A pipe whose writes fail once it is broken, as those to a socket do whose peer is gone.
struct Breakable {
    pipe: Pipe,
    broken: Arc<Break>,
}

#[derive(Default)]
struct Break {
    is_broken: AtomicBool,
    /// A write has failed.
    is_known: AtomicBool,
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken.is_broken.load(Ordering::Relaxed) {
            self.broken.is_known.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_close(cx)
    }
}

/// Breaks the pipe, and lets `client` write to it.
async fn write_in_vain<R: Runtime>(client: &Client<R>, broken: &Break) {
    broken.is_broken.store(true, Ordering::Relaxed);
    let sent = client.send(message(&address("bob"), "hello")).await;
    sent.expect("it is accepted");
    eventually("a write has failed", || {
        broken.is_known.load(Ordering::Relaxed)
    })
    .await;
}

async fn gave_up<R: Runtime>(client: &mut Client<R>) -> Disconnect {
    match soon("the end", client.next_event()).await {
        Some(Event::GaveUp { why, .. }) => why,
        other => panic!("{other:?} instead of the end"),
    }
}

pub(crate) async fn a_relay_that_breaks_the_protocol_is_told_and_did_not_say_so<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let masked = header(0x82, 0, true);
    let cases = [
        ([&masked[..], &[1, 2, 3, 4]].concat(), 1002),
        (vec![0xc2, 0], 1002),
        (vec![0x83, 0], 1002),
        (vec![0x80, 0], 1002),
        (vec![0x09, 0], 1002),
        (vec![0x88, 1, 3], 1002),
        // Codes that no close frame may carry.
        (vec![0x88, 2, 0x03, 0xe7], 1002),
        (vec![0x88, 2, 0x03, 0xed], 1002),
        (vec![0x81, 2, b'h', b'i'], 1003),
        (vec![0x88, 3, 0x03, 0xe8, 0xff], 1007),
        (header(0x82, 1 << 40, false), 1009),
    ];
    for (bytes, code) in cases {
        let (mut client, mut relay, _) = over_a_pipe(runtime).await;
        relay.write(&bytes).await;
        let why = gave_up(&mut client).await;
        assert!(
            matches!(why, Disconnect::Link(_)),
            "{why:?} after {bytes:x?}"
        );
        assert!(
            why.to_string()
                .starts_with("the relay broke the protocol: "),
            "{why}"
        );
        let (first, payload) = relay.frame().await.expect("a close frame");
        assert_eq!(first, 0x88, "after {bytes:x?}");
        assert_eq!(payload[..2], u16::to_be_bytes(code), "after {bytes:x?}");
        assert_eq!(relay.byte().await, None, "the stream ends");
    }
}

pub(crate) async fn a_close_code_of_the_relay_is_echoed_and_reported<R: Runtime>(
    runtime: &Tracked<R>,
) {
    for code in [1001, 1002, 1013, 1014, 3000, 4999] {
        let (mut client, mut relay, _) = over_a_pipe(runtime).await;
        relay.send(0x88, &close_payload(code, "so")).await;
        let close = Close::new(CloseCode(code), "so");
        assert_eq!(gave_up(&mut client).await, Disconnect::Closed(close));
        assert_eq!(relay.frame().await, Some((0x88, close_payload(code, "so"))));
        assert_eq!(relay.byte().await, None, "the stream ends");
    }
    let (mut client, mut relay, _) = over_a_pipe(runtime).await;
    relay.send(0x88, b"").await;
    let close = Close::new(CloseCode(1005), "");
    assert_eq!(gave_up(&mut client).await, Disconnect::Closed(close));
    assert_eq!(relay.frame().await, Some((0x88, vec![])));
}

pub(crate) async fn the_reason_of_the_relay_survives_a_broken_pipe<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let (mut client, mut relay, broken) = over_a_pipe(runtime).await;
    write_in_vain(&client, &broken).await;
    // A pong is in the way, too.
    relay.send(0x89, b"?").await;
    relay
        .send(0x88, &close_payload(1013, "come back later"))
        .await;
    let close = Close::new(CloseCode::TRY_AGAIN_LATER, "come back later");
    assert_eq!(gave_up(&mut client).await, Disconnect::Closed(close));

    let (mut client, relay, broken) = over_a_pipe(runtime).await;
    write_in_vain(&client, &broken).await;
    drop(relay);
    let why = gave_up(&mut client).await.to_string();
    assert!(why.contains("broken pipe"), "{why}");
}

pub(crate) async fn a_ping_of_the_relay_is_answered<R: Runtime>(runtime: &Tracked<R>) {
    let (client, mut relay, _) = over_a_pipe(runtime).await;
    relay.send(0x89, b"there?").await;
    assert_eq!(relay.frame().await, Some((0x8a, b"there?".to_vec())));
    drop(client);
}

pub(crate) async fn a_url_that_cannot_be_used_is_an_error<R: Runtime>(runtime: &Tracked<R>) {
    for url in [
        "ws://127.0.0.1:65616/ws",
        "ws://127.0.0.1:99999",
        "ws://me:secret@127.0.0.1/ws",
        "WS://secret@127.0.0.1:99999",
        "ws://127.0.0.1/ws#secret@",
        "ws://127.0.0.1:+80",
        "ws://::1/ws",
    ] {
        let error = client(runtime, url.into(), key(1)).connect().await;
        let error = error.expect_err("it cannot be used");
        assert!(matches!(error, ConnectError::Url(_)), "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}
