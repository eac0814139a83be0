//! What an adapter does with its TCP sockets, beyond moving bytes.

use socket2::SockRef;

/// Up to so many bytes are a pong or two. Nobody waits behind those.
const PONGS: usize = 32;

/// Every so many reads the kernel is told. It forgets in a pause.
const EVERY: u8 = 16;

/// Lets the acknowledgements of what is read from one socket wait for others, or for something that is
/// written (RFC 1122, section 4.2.3.2).
///
/// Linux acknowledges at once whatever a read has emptied a socket of, unless both sides speak in turn.
/// Agents that mostly send do not: with each of their envelopes goes a segment back to them that says
/// nothing else, and to a relay it is as dear as one that does. So an adapter has one of these for each
/// connection, and tells it of every read. The kernel still acknowledges every second full segment, and
/// all others within 40 ms.
///
/// Other systems decide that for themselves; there, this does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct LateAck {
    reads: u8,
}

impl LateAck {
    /// `read` bytes were just read from `socket`.
    pub fn after_read<'a, S>(&mut self, socket: &'a S, read: usize)
    where
        SockRef<'a>: From<&'a S>,
    {
        if read <= PONGS {
            return;
        }
        if self.reads == 0 {
            acknowledge_late(&SockRef::from(socket));
        }
        self.reads = (self.reads + 1) % EVERY;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn acknowledge_late(socket: &SockRef<'_>) {
    // A socket that does not know this acknowledges as it likes.
    let _ = socket.set_tcp_quickack(false);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
const fn acknowledge_late(_: &SockRef<'_>) {}
