//! How much of a peer that never pauses one visit of its task takes in.

#![cfg(not(shuttle))]

mod by_hand;

use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::{Auth, Relay};

use self::by_hand::ByHand;

/// A pong without a payload, as a client writes it.
const PONG: [u8; 6] = [0x8a, 0x80, 1, 2, 3, 4];

const UPGRADE: &[u8] = b"GET /ws?address=pinch:flood@localhost HTTP/1.1\r\nHost: localhost\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const UNPOISONED: &str = "no task panics";

/// Joins, and then sends pongs without end. What the relay says is thrown away.
struct Flood {
    request: &'static [u8],
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !self.request.is_empty() {
            let length = self.request.len().min(buffer.len());
            let (some, rest) = self.request.split_at(length);
            buffer[..length].copy_from_slice(some);
            self.request = rest;
            return Poll::Ready(Ok(length));
        }
        let length = buffer.len() - buffer.len() % PONG.len();
        for pong in buffer[..length].chunks_mut(PONG.len()) {
            pong.copy_from_slice(&PONG);
        }
        self.read.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The most bytes that one poll of a task reads, where each look at the clock takes `step`.
fn most_in_one_poll(step: Duration) -> usize {
    let runtime = ByHand::new(step);
    let relay = Relay::builder_on(runtime.clone()).auth(Auth::Open);
    let relay = relay.detached().expect("no socket is needed");
    let read = Arc::new(AtomicUsize::new(0));
    relay.adopt(Flood {
        request: UPGRADE,
        read: Arc::clone(&read),
    });
    let mut most = 0;
    for _ in 0..20 {
        let Some(mut task) = runtime.tasks.lock().expect(UNPOISONED).pop_front() else {
            break;
        };
        let before = read.load(Ordering::Relaxed);
        let polled = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        most = most.max(read.load(Ordering::Relaxed) - before);
        if polled.is_pending() {
            runtime.tasks.lock().expect(UNPOISONED).push_back(task);
        }
    }
    assert!(most > 0, "nothing was read");
    most
}

#[test]
fn a_turn_is_bounded_by_time() {
    // Behind each read is one look at the clock: four of them after the first, they make 200 µs.
    let most = most_in_one_poll(Duration::from_micros(50));
    assert!(most <= 5 * (32 << 10), "{most} bytes in one poll");
}

#[test]
fn a_turn_is_bounded_by_frames_where_the_clock_stands_still() {
    let frames = most_in_one_poll(Duration::ZERO) / PONG.len();
    assert!(frames <= 16 * 5461, "{frames} frames in one poll");
}
