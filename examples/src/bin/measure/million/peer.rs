//! A connection without a network: a stream that is read from and written to by a relay, and the
//! agent at its other end, who lives inside of it and does nothing but answer pings and goodbyes.
//!
//! It has no buffers. A relay writes whole frames to streams that take everything, so a frame that
//! is not whole, or that only somebody with something to say would be sent, is a fault.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io;
use std::sync::{Arc, OnceLock};

use futures_util::io::{AsyncRead, AsyncWrite};

// The first byte of a whole frame (RFC 6455, section 5.2).
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

// The first two bytes of what the agent says: a client's frames are masked.
const PONG_HEAD: [u8; 2] = [0x8a, 0x80 | 8];
const CLOSE_HEAD: [u8; 2] = [CLOSE, 0x80];

/// Any other would do.
const MASK: [u8; 4] = [0x3d, 0xa7, 0x51, 0xe2];

/// A ping carries so many bytes.
const PING_BYTES: usize = 8;

/// The first fault of any of the peers.
#[derive(Debug, Default)]
pub(super) struct Fault(OnceLock<String>);

impl Fault {
    pub(super) fn message(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Keeps `message` if it is the first, and makes an error of it.
    fn report(&self, message: String) -> io::Error {
        let error = io::Error::other(message.clone());
        // The first one tells most: others may follow from it.
        let _ = self.0.set(message);
        error
    }
}

/// What the agent does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    /// It waits.
    Listens,
    /// It answers this ping.
    Answers([u8; PING_BYTES]),
    /// It echoes the close frame.
    Leaves,
    /// Nothing: it has left.
    Left,
}

/// The relay's end of the connection, with everything that is behind it.
#[derive(Debug)]
pub(super) struct Peer {
    agent: Agent,
    reader: Option<Waker>,
    fault: Arc<Fault>,
}

impl Peer {
    pub(super) fn new(fault: Arc<Fault>) -> Self {
        Self {
            agent: Agent::Listens,
            reader: None,
            fault,
        }
    }

    /// Lets the agent hear whole frames.
    fn hear(&mut self, frames: &[u8]) -> Result<(), String> {
        let mut rest = frames;
        while let [opcode, length, behind @ ..] = rest {
            let Some((payload, behind)) = behind.split_at_checked(usize::from(*length)) else {
                return Err(format!("expected whole frames in one write, got {rest:?}"));
            };
            rest = behind;
            self.agent = match (*opcode, <[u8; PING_BYTES]>::try_from(payload), self.agent) {
                (PING, Ok(payload), Agent::Listens) => Agent::Answers(payload),
                (CLOSE, _, Agent::Listens | Agent::Answers(_)) => Agent::Leaves,
                (_, _, agent) => {
                    return Err(format!(
                        "expected a ping of {PING_BYTES} bytes or the close frame, \
                         got {opcode:#04x} with {payload:?} while the agent is {agent:?}"
                    ));
                }
            };
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "expected whole frames in one write, got {frames:?}"
            ))
        }
    }

    /// Puts the next frame of the agent into `buffer`; `None` if it has nothing to say.
    fn say(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, String> {
        let (head, payload, next) = match &self.agent {
            Agent::Listens => return Ok(None),
            Agent::Answers(payload) => (PONG_HEAD, payload.as_slice(), Agent::Listens),
            Agent::Leaves => (CLOSE_HEAD, [].as_slice(), Agent::Left),
            Agent::Left => return Ok(Some(0)),
        };
        let length = head.len() + MASK.len() + payload.len();
        let room = buffer.len();
        let Some(frame) = buffer.get_mut(..length) else {
            return Err(format!("expected room for {length} bytes, got {room}"));
        };
        let masked = payload.iter().zip(MASK.iter().cycle());
        let masked = masked.map(|(byte, mask)| byte ^ mask);
        let bytes = head.into_iter().chain(MASK).chain(masked);
        frame
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, byte)| *to = byte);
        self.agent = next;
        Ok(Some(length))
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.say(buffer) {
            Ok(Some(said)) => Poll::Ready(Ok(said)),
            Ok(None) => {
                match &mut self.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    None => self.reader = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Err(message) => Poll::Ready(Err(self.fault.report(message))),
        }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Err(message) = self.hear(bytes) {
            return Poll::Ready(Err(self.fault.report(message)));
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};

    use super::{Fault, Peer};

    /// What the agent has said to `frames`, each of them one write, within one read.
    fn answer(peer: &mut Peer, frames: &[&[u8]]) -> Option<Vec<u8>> {
        for frame in frames {
            let written = peer.write(frame).now_or_never().unwrap();
            assert_eq!(written.unwrap(), frame.len());
        }
        let mut buffer = [0; 64];
        let read = peer.read(&mut buffer).now_or_never()?.unwrap();
        Some(buffer[..read].to_vec())
    }

    #[test]
    fn pings_and_goodbyes_are_answered() {
        let mut peer = Peer::new(Arc::default());
        assert_eq!(answer(&mut peer, &[]), None);
        let pong = answer(&mut peer, &[b"\x89\x08abcdefgh"]).unwrap();
        let (head, masked) = pong.split_at(6);
        assert_eq!(head[..2], [0x8a, 0x88]);
        let mask = head[2..].iter().cycle();
        let payload: Vec<u8> = masked
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        assert_eq!(payload, b"abcdefgh");
        assert_eq!(answer(&mut peer, &[]), None);
        // A goodbye is the last word, also right behind a ping.
        let goodbye = answer(&mut peer, &[b"\x89\x08abcdefgh\x88\x02\x03\xe9"]).unwrap();
        assert_eq!(goodbye[..2], [0x88, 0x80]);
        assert_eq!(answer(&mut peer, &[]), Some(Vec::new()));
    }

    #[test]
    fn whatever_is_neither_is_a_fault() {
        for (written, said) in [
            (b"\x89\x08abcd".as_slice(), "whole frames"),
            (b"\x89", "whole frames"),
            (b"\x89\x04abcd", "a ping of 8 bytes"),
            (b"\x82\x03abc", "a ping of 8 bytes"),
            (b"\x89\x08abcdefgh\x89\x08abcdefgh", "a ping of 8 bytes"),
        ] {
            let fault = Arc::<Fault>::default();
            let mut peer = Peer::new(Arc::clone(&fault));
            let error = peer.write(written).now_or_never().unwrap().unwrap_err();
            assert!(error.to_string().contains(said), "{written:?}: {error}");
            assert_eq!(fault.message(), Some(error.to_string().as_str()));
        }
    }
}
