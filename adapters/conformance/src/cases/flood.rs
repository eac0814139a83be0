//! Peers that send more than anybody can read: their stream always has something at once. Others get
//! their turn, and deadlines hold.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_driver::{Runtime, Upgrade};

use crate::envelopes::{address, message};
use crate::peer::Peer;
use crate::raw::{FIRST, MIDDLE, PONG, frame, upgrade_request};
use crate::relays::{bind, config, emptied, open};
use crate::starter::Starter as _;
use crate::tracked::Tracked;
use crate::wait::{eventually, millis, soon};

/// The stream of such a peer. It takes whatever it is told.
struct Flood {
    begin: Vec<u8>,
    /// What comes again and again behind that.
    again: Vec<u8>,
    read: usize,
}

impl Flood {
    fn new(begin: Vec<u8>, again: Vec<u8>) -> Self {
        Self {
            begin,
            again,
            read: 0,
        }
    }
}

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let endless = self.begin.iter().chain(self.again.iter().cycle());
        let cycled = self.read.saturating_sub(self.begin.len());
        let skipped = self.read - cycled + cycled % self.again.len();
        for (byte, next) in buffer.iter_mut().zip(endless.skip(skipped)) {
            *byte = *next;
        }
        self.read += buffer.len();
        Poll::Ready(Ok(buffer.len()))
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

pub(crate) async fn a_flood_before_the_join_ends_at_its_deadline<R: Runtime>(runtime: &Tracked<R>) {
    let relay = bind(
        runtime,
        runtime.builder().hub(config()).auth_timeout(millis(300)),
    )
    .await;
    // A message without an end, in fragments without a byte.
    let begin = [upgrade_request("/ws").as_bytes(), &frame(FIRST, b"")].concat();
    relay.adopt(Flood::new(begin, frame(MIDDLE, b"")));
    emptied(&relay).await;
}

pub(crate) async fn a_flood_behind_the_last_word_ends_too<R: Runtime>(runtime: &Tracked<R>) {
    let relay = open(runtime, config()).await;
    let request = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
    relay.adopt(Flood::new(request.to_vec(), b"more of it".to_vec()));
    emptied(&relay).await;
}

pub(crate) async fn a_flood_after_the_join_leaves_others_their_turn<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = open(
        runtime,
        config().close_timeout(millis(100)).control_limit(None),
    )
    .await;
    let pongs = frame(PONG, &[0; 125]);
    let upgrade = Upgrade::trusted().vouched_for(address("mallory"));
    relay.adopt_upgraded(Flood::new(vec![], pongs), upgrade);
    eventually("it has joined", || relay.stats().hub.connections == 1).await;
    let mut alice = Peer::named(&relay, "alice").await;
    for number in 0..2 {
        let said = message(&alice.address, &alice.address, number, 100);
        alice.send(said.clone()).await;
        assert_eq!(alice.envelope().await, said);
    }
    assert_eq!(relay.stats().hub.connections, 2, "the flood goes on");
    drop(alice);
    soon("the shutdown", relay.shutdown()).await;
    assert_eq!(relay.stats().tasks, 0);
}
