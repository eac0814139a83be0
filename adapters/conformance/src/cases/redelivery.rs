//! What a relay delivers twice, because it cannot know that it has arrived, and what our own client
//! makes of it.

use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll, ready};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use async_io::Async;
use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::proto::client::{Config, Event, Identity};
use pinch_driver::{Auth, MemoryStore, Runtime};

use crate::agents::{Client, client, url};
use crate::envelopes::{address, decode, message};
use crate::peer::Peer;
use crate::relays::{self, config};
use crate::starter::Starter as _;
use crate::tracked::Tracked;
use crate::wait::{eventually, millis, soon};

const COUNT: u64 = 200;

/// More bytes than one hears who joins, and fewer than with the first envelope.
const JOINED: usize = 300;

/// A connection that swallows what is written to it from some point on, and that can be made to end.
#[derive(Clone)]
struct Link {
    stream: Arc<Async<TcpStream>>,
    read: Arc<AtomicUsize>,
    /// When more was read than this, what is written is swallowed.
    swallows_behind: usize,
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut &*self.stream).poll_read(cx, buffer))?;
        self.read.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.read.load(Ordering::Relaxed) > self.swallows_behind {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut &*self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self.stream).poll_close(cx)
    }
}

/// The next envelope from another agent, whatever else happens before it.
async fn next<R: Runtime>(client: &mut Client<R>, from: &str) -> Bytes {
    loop {
        let event = soon("an envelope", client.next_event()).await;
        if let Event::Received(envelope) = event.expect("a client that lives")
            && decode(&envelope).from_address == from
        {
            return envelope;
        }
    }
}

pub(crate) async fn a_client_that_is_cut_before_it_has_confirmed_hands_everything_over_once<
    R: Runtime,
>(
    runtime: &Tracked<R>,
) {
    let relay = runtime.builder().hub(config()).auth(Auth::Open);
    let relay = relays::bind(runtime, relay.store(MemoryStore::new())).await;
    let (from, to) = (address("alice"), address("bob"));
    let numbered = |number| message(&from, &to, number, 100);
    let mut alice = Peer::named(&relay, "alice").await;
    for number in 0..COUNT {
        alice.send(numbered(number)).await;
    }
    eventually("all are stored", || relay.stats().hub.stored == COUNT).await;

    let (dialed, links) = async_channel::unbounded();
    let addr = relay.local_addr().expect("it listens");
    let is_first = Arc::new(AtomicBool::new(true));
    let dial = move || {
        let dialed = dialed.clone();
        // From the first envelope on, whatever it confirms is lost.
        let swallows_behind = if is_first.swap(false, Ordering::Relaxed) {
            JOINED
        } else {
            usize::MAX
        };
        async move {
            let link = Link {
                stream: Arc::new(Async::<TcpStream>::connect(addr).await?),
                read: Arc::default(),
                swallows_behind,
            };
            dialed.try_send(link.clone()).map_err(io::Error::other)?;
            Ok(link)
        }
    };
    let bob = client(runtime, url(&relay), Identity::Name(to.clone())).dial_with(dial);
    let quick = Config::new().backoff(millis(1), millis(2));
    let mut bob = bob.config(quick).start().expect("a client");
    let link = soon("a link", links.recv()).await.expect("a link");
    for number in 0..COUNT {
        assert_eq!(next(&mut bob, from.as_str()).await, numbered(number));
    }
    let socket = link.stream.get_ref();
    socket.shutdown(Shutdown::Both).expect("an open socket");
    let joins = || relay.stats().hub.registered == 3;
    eventually("another connection", joins).await;
    alice.send(numbered(COUNT)).await;
    assert_eq!(next(&mut bob, from.as_str()).await, numbered(COUNT));
    let dropped = bob.dropped_duplicates();
    assert_eq!(dropped, COUNT, "all came twice");
    eventually("all is confirmed", || {
        relay.stats().hub.delivered == COUNT + 1
    })
    .await;
    drop(bob);
    alice.leave().await;
}
