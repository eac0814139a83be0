//! What a task meets that runs late: a slot that is another's by now, a stream that breaks behind its
//! last words, a shard that has shut down before another.

#![cfg(not(shuttle))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod by_hand;

use core::num::NonZero;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::Wake;

use futures_util::future::{BoxFuture, FutureExt as _, pending};
use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::proto::queue::{Operation, Outcome, Restored};
use pinch_driver::{Auth, Builder, Relay, Store};

use self::by_hand::{ByHand, Task};

impl ByHand {
    fn relay(&self, shards: u16) -> Builder<Self> {
        let builder = Relay::builder_on(self.clone()).auth(Auth::Open);
        builder.shards(NonZero::new(shards).unwrap())
    }

    fn take(&self) -> Task {
        self.tasks.lock().unwrap().pop_front().unwrap()
    }

    fn pass(&self, millis: u64) {
        self.nanos.fetch_add(millis * 1_000_000, Ordering::Relaxed);
    }

    /// Polls all tasks, several times.
    fn run(&self, waker: &Waker) {
        for _ in 0..5 {
            let count = self.tasks.lock().unwrap().len();
            for _ in 0..count {
                let mut task = self.take();
                if !poll(&mut task, waker) {
                    self.tasks.lock().unwrap().push_back(task);
                }
            }
        }
    }
}

/// Whether `task` has ended.
fn poll(task: &mut Task, waker: &Waker) -> bool {
    task.as_mut()
        .poll(&mut Context::from_waker(waker))
        .is_ready()
}

/// Gives a piece for each read, and then breaks if it is to.
#[derive(Clone, Default)]
struct Pieces {
    pieces: Arc<Mutex<VecDeque<Vec<u8>>>>,
    breaks: Arc<AtomicBool>,
}

impl Pieces {
    fn push(&self, piece: Vec<u8>) {
        self.pieces.lock().unwrap().push_back(piece);
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(piece) = self.pieces.lock().unwrap().pop_front() {
            buffer[..piece.len()].copy_from_slice(&piece);
            return Poll::Ready(Ok(piece.len()));
        }
        if self.breaks.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Pieces {
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

/// A peer that asks for an upgrade as `name`.
fn join(relay: &Relay<ByHand>, name: &str) -> Pieces {
    let stream = Pieces::default();
    relay.adopt(stream.clone());
    let request = format!(
        "GET /ws?address=pinch:{name}@localhost HTTP/1.1\r\nHost: localhost\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.push(request.into());
    stream
}

/// A short frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}

/// An envelope in a frame: version, addresses and type.
fn envelope(from: &str, to: &str) -> Vec<u8> {
    let [from, to] = [from, to].map(|name| format!("pinch:{name}@localhost"));
    let [from_length, to_length] = [&from, &to].map(|it| u8::try_from(it.len()).unwrap());
    let parts = [
        &[0x08, 1, 0x12, from_length][..],
        from.as_bytes(),
        &[0x1a, to_length],
        to.as_bytes(),
        &[0x20, 4],
    ];
    frame(0x82, &parts.concat())
}

#[test]
fn what_came_before_a_close_frame_counts_though_the_stream_breaks_behind_it() {
    let runtime = ByHand::new(Duration::ZERO);
    let relay = runtime.relay(1).detached().unwrap();
    let alice = join(&relay, "alice");
    runtime.run(Waker::noop());
    alice.push(
        [
            envelope("alice", "bob"),
            frame(0x88, &1000_u16.to_be_bytes()),
        ]
        .concat(),
    );
    alice.breaks.store(true, Ordering::Relaxed);
    runtime.run(Waker::noop());
    let hub = relay.stats().hub;
    assert_eq!((hub.received, hub.connections, hub.closing), (1, 0, 0));
}

/// Does something once when it is woken, as another thread would just then.
struct Once {
    is_armed: AtomicBool,
    act: Box<dyn Fn() + Send + Sync>,
}

impl Wake for Once {
    fn wake(self: Arc<Self>) {
        if self.is_armed.swap(false, Ordering::SeqCst) {
            (self.act)();
        }
    }
}

/// Never answers.
struct Silent;

impl Store for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn restored(&self) -> Restored {
        Restored::default()
    }

    fn execute(&self, _: Vec<Operation>) -> BoxFuture<'_, Vec<Outcome>> {
        pending().boxed()
    }
}

/// Envelopes come for one shard from another, between its shutdown and that of the other.
#[test]
fn a_shutdown_ends_though_one_shard_has_shut_down_before_another_forwards_to_it() {
    for number in 0..8 {
        let runtime = ByHand::new(Duration::ZERO);
        let relay = runtime.relay(2).store(Silent).detached().unwrap();
        let name = format!("alice{number}");
        let alice = join(&relay, &name);
        let meanwhile = runtime.clone();
        let once = Arc::new(Once {
            is_armed: AtomicBool::new(false),
            act: Box::new(move || {
                for other in 0..8 {
                    alice.push(envelope(&name, &format!("bob{other}")));
                }
                meanwhile.run(Waker::noop());
            }),
        });
        runtime.run(&Waker::from(Arc::clone(&once)));
        let mut shutdown = Box::pin(relay.shutdown());
        once.is_armed.store(true, Ordering::SeqCst);
        let mut is_down = (&mut shutdown).now_or_never().is_some();
        // Half a minute, in steps of half a second.
        for _ in 0..60 {
            runtime.pass(500);
            runtime.run(Waker::noop());
            is_down |= !is_down && (&mut shutdown).now_or_never().is_some();
        }
        assert!(is_down, "{:?}", relay.stats());
    }
}

/// Counts how often it is woken.
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_that_ends_late_does_not_take_the_waker_of_its_successor() {
    for is_late in [false, true] {
        let runtime = ByHand::new(Duration::ZERO);
        let relay = runtime.relay(1).detached().unwrap();
        let (mut timer, noop) = (runtime.take(), Waker::noop());
        let alice_stream = join(&relay, "alice");
        let mut alice = runtime.take();
        poll(&mut alice, noop);
        // She breaks the protocol, and does not answer the close frame.
        alice_stream.push(frame(0x81, b"text"));
        poll(&mut alice, noop);
        for _ in 0..80 {
            runtime.pass(125);
            poll(&mut timer, noop);
        }
        assert_eq!(relay.stats().hub.closed, 1);
        assert!(is_late || poll(&mut alice, noop));
        // Bob gets her place in the hub.
        join(&relay, "bob");
        let mut bob = runtime.take();
        let count = Arc::new(Count(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        poll(&mut bob, &waker);
        for _ in 0..20 {
            runtime.pass(125);
            poll(&mut timer, noop);
        }
        poll(&mut bob, &waker);
        assert!(!is_late || poll(&mut alice, noop));
        count.0.store(0, Ordering::SeqCst);
        let carol_stream = join(&relay, "carol");
        let mut carol = runtime.take();
        poll(&mut carol, noop);
        carol_stream.push(envelope("carol", "bob"));
        poll(&mut carol, noop);
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "late: {is_late}");
    }
}
