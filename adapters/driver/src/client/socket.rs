//! The WebSocket of a client: the bytes of a stream on one side, what the machine takes on the
//! other.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use pinch_proto::client::Input;
use pinch_proto::{Close, Frame};

use crate::clock::within;
use crate::codec::{Decoder, Encoder, Incoming};
use crate::ends::farewell;
use crate::{Runtime, Stream};

/// How much is read from the stream at once, in bytes.
const READ_BUFFER: usize = 16 << 10;

/// The largest buffer that is kept for what is written, in bytes.
const WRITE_BUFFER: usize = 64 << 10;

/// How long a relay may take to read a close frame and to end the stream.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) struct WebSocket {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    encoder: Encoder,
    message_bytes: usize,
    buffer: Box<[u8]>,
    /// What came and was not taken.
    received: VecDeque<Input>,
    /// What the stream has not taken, from `written` on.
    outgoing: Vec<u8>,
    written: usize,
    /// A close frame was sent: nothing may follow.
    is_closing: bool,
    /// The relay sent a close frame or broke the protocol: what follows has no meaning.
    is_over: bool,
    /// Why the stream takes nothing more. What the relay sent before can still be read, its close
    /// frame above all.
    broken: Option<io::Error>,
}

impl WebSocket {
    /// A WebSocket over `stream`, of which `rest` was read already.
    pub(super) fn new(stream: Box<dyn Stream>, rest: Vec<u8>, message_bytes: usize) -> Self {
        let mut decoder = Decoder::of_relay(message_bytes);
        decoder.preload(rest);
        let mut socket = Self {
            stream,
            decoder,
            encoder: Encoder::new(),
            message_bytes,
            buffer: vec![0; READ_BUFFER].into(),
            received: VecDeque::new(),
            outgoing: Vec::new(),
            written: 0,
            is_closing: false,
            is_over: false,
            broken: None,
        };
        socket.decode(0);
        socket
    }

    /// Sends `frame` with the next flush.
    pub(super) fn send(&mut self, frame: Frame) {
        self.is_closing |= matches!(frame, Frame::Close(_));
        self.encoder.encode(frame, &mut self.outgoing);
    }

    /// Completes when the stream has taken everything.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.broken.is_none() {
            match ready!(self.poll_write(cx)) {
                Ok(()) => return Poll::Ready(()),
                Err(error) => self.broken = Some(error),
            }
        }
        // How it ended is read.
        self.outgoing.clear();
        self.written = 0;
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            stream,
            outgoing,
            written,
            ..
        } = self;
        let mut stream = Pin::new(stream);
        while let Some(rest) = outgoing.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(stream.as_mut().poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => *written += taken,
            }
        }
        outgoing.clear();
        outgoing.shrink_to(WRITE_BUFFER);
        *written = 0;
        stream.poll_flush(cx)
    }

    /// What comes next. After [`Input::PeerClosed`] or [`Input::Disconnected`], nothing does.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            if let Some(input) = self.received.pop_front() {
                return Poll::Ready(input);
            }
            let Self { stream, buffer, .. } = self;
            let failure = match ready!(Pin::new(stream).poll_read(cx, buffer)) {
                Ok(0) => None,
                Ok(read) => {
                    self.decode(read);
                    continue;
                }
                Err(error) => Some(error),
            };
            let failure = self.broken.take().or(failure);
            let why = failure.map_or_else(
                || "the connection was lost".into(),
                |failure| failure.to_string().into(),
            );
            return Poll::Ready(Input::Disconnected { why });
        }
    }

    /// Decodes what was preloaded and the first `read` bytes of the buffer.
    fn decode(&mut self, read: usize) {
        if self.is_over {
            return;
        }
        let Self {
            decoder, received, ..
        } = self;
        let (mut pings, mut end) = (Vec::new(), None);
        let bytes = self.buffer.get(..read).unwrap_or_default();
        decoder.decode(bytes, |incoming: Incoming| match incoming {
            Incoming::Message(message) => received.push_back(Input::Received(message)),
            Incoming::Ping(payload) => pings.push(payload),
            Incoming::Pong(payload) => received.push_back(Input::Pong { payload }),
            Incoming::Close(close) => end = Some(Ok(close)),
            Incoming::Fault(fault) => end = Some(Err(fault)),
            Incoming::Text(never) => match never {},
        });
        if !self.is_closing {
            for payload in pings {
                self.encoder
                    .encode(Frame::Pong(payload), &mut self.outgoing);
            }
        }
        let received = &mut self.received;
        if received.is_empty() && end.is_none() && read > 0 {
            // A ping, or a part of a message: a sign of life, as a pong is that answers nothing.
            let payload = Bytes::new();
            received.push_back(Input::Pong { payload });
        }
        let Some(end) = end else {
            return;
        };
        self.is_over = true;
        let (answer, input) = match end {
            Ok(close) => {
                let close = close.unwrap_or(Close::NO_STATUS);
                (close.clone(), Input::PeerClosed(close))
            }
            Err(fault) => {
                let close = fault.violation(self.message_bytes).close();
                let why = format!("the relay broke the protocol: {}", close.reason).into();
                (close, Input::Disconnected { why })
            }
        };
        if !self.is_closing {
            self.send(Frame::Close(answer));
        }
        self.received.push_back(input);
    }

    /// Drops the stream. If a close frame was sent, it is written first, and the stream ends in
    /// order, in the background.
    pub(super) fn hang_up<R: Runtime>(mut self, runtime: &R) {
        if !self.is_closing || self.broken.is_some() {
            return;
        }
        let task_runtime = runtime.clone();
        runtime.spawn(async move {
            let rest = self.outgoing.get(self.written..).unwrap_or_default();
            let farewell = farewell(&mut self.stream, rest);
            let _ = within(&task_runtime, FAREWELL, farewell).await;
        });
    }
}
