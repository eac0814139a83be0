//! The sockets that a relay listens on.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io::{self, ErrorKind};
use std::net::TcpListener;

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait to be accepted: many, for all that were cut come back at once.
const BACKLOG: i32 = 4096;

/// Where a relay listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On one address.
    Address(SocketAddr),
    /// On this port of every interface, with IPv4 and IPv6.
    EveryInterface(u16),
}

impl Listen {
    /// The address, or the one that stands for every interface.
    #[must_use]
    pub fn addr(self) -> SocketAddr {
        match self {
            Self::Address(addr) => addr,
            Self::EveryInterface(port) => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr().fmt(f)
    }
}

/// Sockets that listen; port 0 lets the system pick one that is free.
///
/// For every interface, it is one socket for both versions of IP where the system has that, and else
/// one for each version that the system has.
///
/// With `reuse_port`, other processes may listen there that say so, too, and the system deals out what
/// connects.
///
/// # Errors
/// What the system says, or that it does not deal out connections: Linux (`SO_REUSEPORT`) and FreeBSD
/// (`SO_REUSEPORT_LB`) do.
pub fn listen(on: Listen, reuse_port: bool) -> io::Result<(TcpListener, Option<TcpListener>)> {
    match on {
        Listen::Address(addr) => {
            let socket = new(Domain::for_address(addr))?;
            Ok((start(socket, addr, reuse_port)?, None))
        }
        Listen::EveryInterface(port) => match dual_stack(port, reuse_port)? {
            Some(listener) => Ok((listener, None)),
            None => one_per_version(port, reuse_port),
        },
    }
}

/// A socket for both versions of IP; `None` if the system has none.
fn dual_stack(port: u16, reuse_port: bool) -> io::Result<Option<TcpListener>> {
    let Ok(socket) = new(Domain::IPV6) else {
        return Ok(None);
    };
    if socket.set_only_v6(false).is_err() {
        return Ok(None);
    }
    if_available(start(
        socket,
        (Ipv6Addr::UNSPECIFIED, port).into(),
        reuse_port,
    ))
}

/// A socket for each version of IP that the system has, on the same port.
fn one_per_version(port: u16, reuse_port: bool) -> io::Result<(TcpListener, Option<TcpListener>)> {
    let with_v6 = |port| {
        let Ok(socket) = new(Domain::IPV6) else {
            return Ok(None);
        };
        socket.set_only_v6(true)?;
        let addr = (Ipv6Addr::UNSPECIFIED, port).into();
        if_available(start(socket, addr, reuse_port))
    };
    let with_v4 = || {
        let addr = (Ipv4Addr::UNSPECIFIED, port).into();
        start(new(Domain::IPV4)?, addr, reuse_port)
    };
    match with_v4() {
        Ok(v4) => {
            let port = v4.local_addr()?.port();
            Ok((v4, with_v6(port)?))
        }
        Err(error) => match with_v6(port)? {
            Some(v6) if error.kind() != ErrorKind::AddrInUse => Ok((v6, None)),
            Some(_) | None => Err(error),
        },
    }
}

/// `None` if the system has this version of IP and no address of it.
fn if_available(listener: io::Result<TcpListener>) -> io::Result<Option<TcpListener>> {
    match listener {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Ok(None),
        other => other.map(Some),
    }
}

fn new(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

fn start(socket: Socket, addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    // Elsewhere it would let two programs listen on one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if reuse_port {
        share_port(&socket)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(target_os = "freebsd")]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn share_port(_: &Socket) -> io::Result<()> {
    let said = "this system does not deal out the connections of one port to several processes";
    Err(io::Error::new(ErrorKind::Unsupported, said))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Whether this machine has IPv6.
    fn has_ipv6() -> bool {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    fn is_reachable(port: u16) {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if has_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn every_interface_is_reachable_with_ipv4_and_ipv6() {
        let (first, second) = listen(Listen::EveryInterface(0), false).unwrap();
        assert!(second.is_none(), "one socket is enough");
        is_reachable(first.local_addr().unwrap().port());
    }

    #[test]
    fn without_a_socket_for_both_there_is_one_for_each() {
        let (first, second) = one_per_version(0, false).unwrap();
        assert_eq!(second.is_some(), has_ipv6());
        is_reachable(first.local_addr().unwrap().port());
    }

    #[test]
    fn a_port_that_is_taken_with_ipv4_is_taken() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen(Listen::EveryInterface(port), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
