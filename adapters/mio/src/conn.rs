//! One connection: its socket, its session, and what its socket has not taken.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pinch_driver::LateAck;
use pinch_driver::proto::peers::{PendingId, Place, Source};
use pinch_driver::session::{Outcome, Session, WriteBatch};

/// A connection, whichever thread has it.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: TcpStream,
    pub(crate) session: Session,
    /// What the socket has not taken. Nearly always there is nothing.
    unsent: Option<Box<WriteBatch>>,
    pub(crate) seat: Seat,
    /// What becomes of it if it does not join.
    pub(crate) outcome: Outcome,
    /// The address that it comes from.
    pub(crate) source: Source,
    late_ack: LateAck,
    /// A read may bring something.
    pub(crate) is_readable: bool,
    /// The peer has ended its half: a read that takes everything is not the last.
    has_ended: bool,
    /// Its socket has failed.
    is_lost: bool,
    /// It is in the list of those that have something to do.
    pub(crate) is_queued: bool,
}

/// What a connection takes of the limits of its source address.
#[derive(Debug)]
pub(crate) enum Seat {
    Pending(PendingId),
    /// `None` if it gave way to another in the moment in which it joined.
    Joined(Option<Place>),
}

impl Seat {
    /// Whether it is that of the handshake `id`.
    pub(crate) fn is(&self, id: PendingId) -> bool {
        matches!(self, Self::Pending(pending) if *pending == id)
    }
}

impl Conn {
    pub(crate) fn new(socket: TcpStream, session: Session, id: PendingId, source: Source) -> Self {
        Self {
            socket,
            session,
            unsent: None,
            seat: Seat::Pending(id),
            outcome: Outcome::Left,
            source,
            late_ack: LateAck::default(),
            is_readable: false,
            has_ended: false,
            is_lost: false,
            is_queued: false,
        }
    }

    /// Has the loop of `registry` told when this socket has something new: its interest stays.
    pub(crate) fn register(&mut self, registry: &Registry, token: usize) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = registry.register(&mut self.socket, Token(token), interest);
        self.is_lost |= registered.is_err();
    }

    /// Lets another loop have it.
    pub(crate) fn deregister(&mut self, registry: &Registry) {
        self.is_lost |= registry.deregister(&mut self.socket).is_err();
    }

    /// Notes what is new; whether that is something to do.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        self.has_ended |= event.is_read_closed() || event.is_error();
        self.is_readable |= event.is_readable() || self.has_ended;
        self.is_readable || (self.is_blocked() && event.is_writable())
    }

    /// Whether the socket has to take something first.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.unsent.is_some()
    }

    /// Whether there may be something to read that is wanted.
    pub(crate) fn can_read(&self) -> bool {
        self.is_readable && self.session.wants_read(self.is_blocked()) > 0
    }

    /// Reads once into `buffer`, if anything is wanted, and hands it to `receive`.
    pub(crate) fn read(&mut self, buffer: &mut [u8], receive: impl FnOnce(&mut Session, &[u8])) {
        let wanted = self.session.wants_read(self.is_blocked());
        if !self.is_readable || wanted == 0 {
            return;
        }
        let length = wanted.min(buffer.len());
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        match self.socket.read(buffer) {
            Ok(0) => self.session.receive_end(),
            Ok(read) => {
                // A read that does not fill its buffer has emptied the socket, but on Windows mio tells
                // of what comes next only when a read has found nothing.
                self.is_readable = read == length || self.has_ended || cfg!(windows);
                self.late_ack.after_read(&self.socket, read);
                receive(&mut self.session, buffer.get(..read).unwrap_or_default());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.is_lost = true,
        }
    }

    /// Writes what the socket did not take before; whether it took some of it.
    pub(crate) fn write_unsent(&mut self) -> bool {
        let Some(mut unsent) = self.unsent.take() else {
            return false;
        };
        let before = unsent.len();
        self.write_all(&mut unsent);
        let progressed = unsent.len() < before;
        self.unsent = (!unsent.is_empty()).then_some(unsent);
        progressed
    }

    /// Writes `out` behind what is unsent, and keeps what the socket does not take. If everything is
    /// written, the session goes on.
    pub(crate) fn write(&mut self, out: &mut WriteBatch) {
        if let Some(unsent) = &mut self.unsent {
            let moved = out.write_with(|slices| {
                slices
                    .iter()
                    .for_each(|slice| unsent.extend_from_slice(slice));
                Ok(slices.iter().map(|slice| slice.len()).sum())
            });
            self.is_lost |= moved.is_err();
            return;
        }
        self.write_all(out);
        if !out.is_empty() {
            self.unsent = Some(Box::new(out.take_rest()));
            return;
        }
        self.session.flushed();
        if self.session.wants_end() {
            // A socket without a peer has no half to end; a read tells.
            drop(self.socket.shutdown(Shutdown::Write));
            self.session.ended();
        }
    }

    /// Writes until the socket takes no more. What one that is lost does not take is forgotten.
    fn write_all(&mut self, batch: &mut WriteBatch) {
        let socket = &mut self.socket;
        let written = batch.write_with(|slices| match slices {
            [one] => socket.write(one),
            many => socket.write_vectored(many),
        });
        if written.is_err() {
            self.is_lost = true;
            batch.clear();
        }
    }

    /// Whether nothing more comes of it.
    pub(crate) const fn is_over(&self) -> bool {
        self.is_lost || self.session.is_over()
    }
}
