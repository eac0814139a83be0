//! What an adapter does with its TCP sockets, beyond moving bytes.

use socket2::SockRef;

/// Up to so many bytes are a pong or two. For those nobody waits, and a system call would be a fifth
/// of what an idle connection costs.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PONGS: usize = 32;

/// Lets the acknowledgement of `read` bytes, which were just read from `socket`, wait for others, or
/// for something that is written (RFC 1122, section 4.2.3.2).
///
/// Linux acknowledges at once whatever a read has emptied a socket of, unless both sides speak in turn.
/// Agents that mostly send do not: with each of their envelopes goes a segment back to them that says
/// nothing else, and to a relay it is as dear as one that does. So an adapter calls this after every
/// read. The kernel still acknowledges every second full segment, and all others within 40 ms.
///
/// Other systems decide that for themselves; there, this does nothing.
pub fn acknowledge_late<'a, S>(socket: &'a S, read: usize)
where
    SockRef<'a>: From<&'a S>,
{
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if read > PONGS {
        // A socket that does not know this acknowledges as it likes.
        let _ = SockRef::from(socket).set_tcp_quickack(false);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (SockRef::from(socket), read);
}
