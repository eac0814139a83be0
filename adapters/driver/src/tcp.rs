//! What an adapter does with its TCP sockets, beyond moving bytes.

use core::net::SocketAddr;
use std::io;
use std::net::TcpListener;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// How many connections may wait to be accepted: many, for all that were cut come back at once.
const BACKLOG: i32 = 4096;

/// A socket that listens on `addr`, as [`Runtime::listen`](crate::Runtime::listen) takes it; port 0
/// lets the system pick one.
///
/// # Errors
/// What the system says.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Elsewhere it would let two programs listen on one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let listener = socket.into();
    prepare(&listener)?;
    Ok(listener)
}

/// Makes a socket that listens what [`Runtime::listen`](crate::Runtime::listen) takes.
///
/// # Errors
/// What the system says.
pub fn prepare(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    SockRef::from(listener).set_tcp_nodelay(true)
}

/// Turns Nagle's algorithm off for `accepted`, which comes from a socket that [`bind`] has made, or
/// [`Builder::listen_on`](crate::Builder::listen_on) was given.
///
/// On Linux it has that from the socket which has accepted it, and this does nothing: a system call
/// less for each connection.
///
/// # Errors
/// What the system says, but for a connection that the peer has reset already: macOS calls that an
/// invalid argument, and it is no reason to accept no others for a while. A read will tell.
pub fn disable_nagle<'a, S>(accepted: &'a S) -> io::Result<()>
where
    SockRef<'a>: From<&'a S>,
{
    let accepted = SockRef::from(accepted);
    if cfg!(any(target_os = "linux", target_os = "android")) {
        Ok(())
    } else {
        match accepted.set_tcp_nodelay(true) {
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};

    use super::{bind, disable_nagle, prepare};

    #[test]
    fn what_is_accepted_has_nagles_algorithm_off() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(&own).unwrap();
        for listener in [bind(([127, 0, 0, 1], 0).into()).unwrap(), own] {
            let none = listener.accept().unwrap_err();
            assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
            // From here on it waits, so that the test need not.
            listener.set_nonblocking(false).unwrap();
            let _near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            disable_nagle(&far).unwrap();
            assert!(far.nodelay().unwrap());
        }
    }

    #[test]
    fn a_port_is_taken_once_and_free_again_at_once() {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let addr = listener.local_addr().unwrap();
        let taken = bind(addr).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        listener.set_nonblocking(false).unwrap();
        let _near = TcpStream::connect(addr).unwrap();
        // The end that is closed first keeps the port busy for a while.
        drop(listener.accept().unwrap());
        drop(listener);
        bind(addr).unwrap();
    }
}
