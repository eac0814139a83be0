//! A TCP port that several processes listen on, if each of them says so: the system deals out what
//! connects.

use core::net::SocketAddr;
use std::io;
use std::net::TcpListener;

/// How many connections may wait to be accepted.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const BACKLOG: i32 = 4096;

/// A socket that listens on `addr`, as others may that were made by this function; port 0 lets the
/// system pick one that is free.
///
/// # Errors
/// What the system says, or that it does not deal out connections: Linux (`SO_REUSEPORT`) and
/// FreeBSD (`SO_REUSEPORT_LB`) do.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        use socket2::{Domain, Protocol, Socket, Type};

        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        #[cfg(target_os = "freebsd")]
        socket.set_reuse_port_lb(true)?;
        #[cfg(not(target_os = "freebsd"))]
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let _ = addr;
        let said = "this system does not deal out the connections of one port to several processes";
        Err(io::Error::new(io::ErrorKind::Unsupported, said))
    }
}
