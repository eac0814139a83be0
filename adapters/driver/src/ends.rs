//! How every stream begins and ends: with the head of a request, and with a last word that is read.

use core::future::poll_fn;
use core::net::IpAddr;
use core::task::Poll;
use std::io;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use http::Request;

use crate::Stream;
use crate::http::{HeadError, parse_head};
use crate::proxy::{self, ProxyError};

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

/// Reads the head of a request, of which `bytes` came already; returns what came behind it, too. The
/// inner error is the peer's.
pub(crate) async fn read_head(
    stream: &mut impl Stream,
    bytes: Vec<u8>,
) -> io::Result<Result<(Request<()>, Vec<u8>), HeadError>> {
    read_beginning(stream, bytes, parse_head).await
}

/// Reads a PROXY header; returns the address in it, and what came behind it. The inner error is the
/// proxy's.
pub(crate) async fn read_proxy_header(
    stream: &mut impl Stream,
) -> io::Result<Result<(Option<IpAddr>, Vec<u8>), ProxyError>> {
    let parse = |bytes: &[u8]| {
        let header = proxy::parse(bytes)?;
        Ok(header.map(|header| (header.source, header.length)))
    };
    read_beginning(stream, Vec::new(), parse).await
}

/// Reads until `parse` finds something at the beginning, and its length; returns what came behind it,
/// too. `bytes` came already.
async fn read_beginning<T, E>(
    stream: &mut impl Stream,
    mut bytes: Vec<u8>,
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, E>,
) -> io::Result<Result<(T, Vec<u8>), E>> {
    let mut turns = Turns::default();
    loop {
        match parse(&bytes) {
            Ok(Some((found, length))) => return Ok(Ok((found, bytes.split_off(length)))),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        if turns.read_some(stream, &mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
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
