//! How streams are read at their beginning, and end: with a last word that is read.

use core::future::poll_fn;
use core::task::Poll;
use std::io;

use crate::Stream;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};

/// How much is read at once where little is expected, in bytes.
const READ_SIZE: usize = 1024;

/// How often a stream is read before other tasks get their turn, and deadlines are looked at: a peer
/// may send more than anybody can read, and its stream never asks for patience.
const READS: u32 = 16;

/// Counts the reads of a stream.
#[derive(Default)]
pub(crate) struct Turns {
    reads: u32,
}

impl Turns {
    /// Reads once, and appends it to `bytes`. Returns how much it was: 0 at the end of the stream.
    pub(crate) async fn read_some(
        &mut self,
        stream: &mut impl Stream,
        bytes: &mut Vec<u8>,
    ) -> io::Result<usize> {
        if self.reads == READS {
            self.reads = 0;
            let_others().await;
        }
        self.reads += 1;
        let mut chunk = [0; READ_SIZE];
        let read = stream.read(&mut chunk).await?;
        bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Completes when other tasks have had their turn.
async fn let_others() {
    let mut had = false;
    poll_fn(|cx| {
        if core::mem::replace(&mut had, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Writes `bytes`, and passes on what the stream keeps of them.
pub(crate) async fn say(stream: &mut impl Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Says the last word, and waits until the peer has read it: a socket that is dropped with unread
/// bytes takes the last word back.
pub(crate) async fn farewell(stream: &mut impl Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.close().await?;
    let (mut turns, mut ignored) = (Turns::default(), Vec::new());
    while turns.read_some(stream, &mut ignored).await? > 0 {
        ignored.clear();
    }
    Ok(())
}
