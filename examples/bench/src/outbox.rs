//! Bytes that wait until a socket takes them.

use std::io::{self, ErrorKind, Write};

/// What has not been taken yet, in order.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Outbox {
    /// Nothing.
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
        }
    }

    /// How many bytes wait.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where more can be appended.
    pub(crate) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Hands `bytes` to `socket` behind what waits, and keeps what it does not take.
    pub(crate) fn send(&mut self, socket: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
        let taken = if self.is_empty() {
            write_some(socket, bytes)?
        } else {
            0
        };
        self.bytes.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Hands what waits to `socket`, as far as it takes it. Nothing is held when nothing waits.
    pub(crate) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        self.taken += write_some(socket, &self.bytes[self.taken..])?;
        if self.is_empty() {
            *self = Self::new();
        }
        Ok(())
    }
}

/// Writes until the socket is full; returns how much it has taken.
fn write_some(socket: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match socket.write(&bytes[taken..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(more) => taken += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes some bytes, then none until it is emptied.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let some = bytes.len().min(self.room);
            if some == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= some;
            self.taken.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_bytes_leave_in_order_however_little_is_taken_at_once() {
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 3,
        };
        let mut outbox = Outbox::new();
        outbox.send(&mut socket, b"abcde").unwrap();
        assert_eq!(outbox.len(), 2);
        outbox.send(&mut socket, b"fgh").unwrap();
        assert_eq!(outbox.len(), 5);
        while !outbox.is_empty() {
            socket.room = 2;
            outbox.flush(&mut socket).unwrap();
        }
        assert_eq!(socket.taken, b"abcdefgh");
    }

    #[test]
    fn a_broken_socket_is_told() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sent = Outbox::new().send(&mut Broken, b"a");
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
