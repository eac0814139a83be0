//! The floor: the least that a relay on one thread can do, in safe Rust.
//!
//! It receives, unmasks, finds the recipient and sends; nothing else. It knows open mode only,
//! believes whoever joins, pings nobody, keeps nothing for those who are away, tells nobody what did
//! not arrive, and takes no fragments. What any relay costs beyond it is the price of what it does
//! for its users, or a waste. It is a yardstick, not a relay to run.
//!
//! - Sockets are watched edge-triggered and registered once; one read takes what is there.
//! - All reads of one turn go into one arena, behind each other. Frames are unmasked where they are,
//!   and a relay's header fits where the longer one of a client was: nothing is copied.
//! - At the end of the turn each recipient gets all of its frames in one write.
//! - An idle connection holds no buffer.

mod connection;

use core::net::SocketAddr;
use core::ops::ControlFlow;
use std::io::{self, ErrorKind, Read as _};
use std::sync::Arc;

use hashbrown::HashMap;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use tungstenite::handshake::derive_accept_key;

use self::connection::Connection;
use crate::frame::{self, Header, Opcode};
use crate::recipient::recipient;
use crate::upgrade;

const EVENTS: usize = 1024;
const ARENA: usize = 1024 * 1024;

/// One read takes at most so much; no frame is longer.
const READ: usize = 256 * 1024;

/// A recipient that leaves more than this unread is cut.
const UNREAD: usize = 64 * 1024 * 1024;

const LISTENER: Token = Token(usize::MAX);

/// A relay that does the minimum.
#[derive(Debug)]
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    routes: HashMap<Arc<[u8]>, usize>,
    arena: Vec<u8>,
    used: usize,
    /// The connections for which something waits in the arena.
    recipients: Vec<usize>,
}

impl Floor {
    /// Listens at `addr`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let mut listener = TcpListener::bind(addr)?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            routes: HashMap::new(),
            arena: vec![0; ARENA],
            used: 0,
            recipients: Vec::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Relays, until the system fails.
    ///
    /// # Errors
    /// The system does not say any more what happens.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(number) => {
                        if event.is_writable() {
                            self.drain(number);
                        }
                        if event.is_readable() || event.is_error() {
                            // Behind the last bytes of a stream comes its end, and no other event.
                            let to_the_end = event.is_read_closed() || event.is_error();
                            self.read(number, to_the_end);
                        }
                    }
                }
            }
            self.flush();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It went away before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or(self.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut stream, Token(number), interest)?;
            let connection = Some(Connection::new(stream));
            match self.connections.get_mut(number) {
                Some(place) => *place = connection,
                None => self.connections.push(connection),
            }
        }
    }

    fn drain(&mut self, number: usize) {
        if let Some(connection) = &mut self.connections[number]
            && !connection.outbox.is_empty()
            && connection.outbox.flush(&mut connection.stream).is_err()
        {
            self.end(number);
        }
    }

    fn read(&mut self, number: usize, to_the_end: bool) {
        loop {
            if self.arena.len() - self.used < READ {
                self.flush();
            }
            let Some(connection) = &mut self.connections[number] else {
                return;
            };
            let begin = self.used;
            let kept = connection.partial.len();
            let room = &mut self.arena[begin..begin + READ];
            room[..kept].copy_from_slice(&connection.partial);
            let read = match connection.stream.read(&mut room[kept..]) {
                Ok(0) => return self.end(number),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.end(number),
            };
            connection.partial = Vec::new();
            self.used = begin + kept + read;
            if self.take_in(number, begin).is_break() {
                return self.end(number);
            }
            if cfg!(unix) && !to_the_end && kept + read < READ {
                return;
            }
        }
    }

    /// Takes in what is in the arena from `begin` on. What breaks off, ends the connection.
    fn take_in(&mut self, number: usize, mut begin: usize) -> ControlFlow<()> {
        let end = self.used;
        let has_joined = self.connections[number]
            .as_ref()
            .is_some_and(|connection| connection.address.is_some());
        if !has_joined {
            match self.join(number, begin)? {
                Some(len) => begin += len,
                None => return self.keep(number, begin),
            }
        }
        while let Some(header) = Header::parse(&self.arena[begin..end]) {
            if header.frame_len() > READ {
                return ControlFlow::Break(());
            }
            if header.frame_len() > end - begin {
                break;
            }
            self.take_frame(number, &header, begin)?;
            begin += header.frame_len();
        }
        self.keep(number, begin)
    }

    /// Keeps what is not complete.
    fn keep(&mut self, number: usize, begin: usize) -> ControlFlow<()> {
        let rest = &self.arena[begin..self.used];
        if let Some(connection) = &mut self.connections[number] {
            connection.partial.extend_from_slice(rest);
        }
        if rest.len() < READ {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    #[inline]
    fn take_frame(&mut self, number: usize, header: &Header, begin: usize) -> ControlFlow<()> {
        let Some(key) = header.mask else {
            return ControlFlow::Break(());
        };
        let body = begin + header.len;
        let end = body + header.payload;
        let payload = &mut self.arena[body..end];
        frame::apply_mask(payload, key);
        match header.opcode {
            Opcode::Binary if header.fin => self.forward(body, end),
            Opcode::Ping => self.answer(number, Opcode::Pong, body, end),
            Opcode::Pong => {}
            Opcode::Close => {
                self.answer(number, Opcode::Close, body, end);
                return ControlFlow::Break(());
            }
            Opcode::Binary | Opcode::Text | Opcode::Continuation | Opcode::Reserved => {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Leaves the envelope where it is, for its recipient.
    fn forward(&mut self, body: usize, end: usize) {
        let envelope = &self.arena[body..end];
        let Some(&number) = recipient(envelope).and_then(|to| self.routes.get(to)) else {
            return;
        };
        let (header, len) = frame::unmasked_header(Opcode::Binary, envelope.len());
        let begin = body - len;
        self.arena[begin..body].copy_from_slice(&header[..len]);
        let Some(connection) = &mut self.connections[number] else {
            return;
        };
        if connection.waiting.is_empty() {
            self.recipients.push(number);
        }
        let at = |at| u32::try_from(at).expect("the arena is smaller than 4 GiB");
        connection.waiting.push(at(begin)..at(end));
    }

    fn answer(&mut self, number: usize, opcode: Opcode, body: usize, end: usize) {
        if let Some(connection) = &mut self.connections[number] {
            let mut answer = Vec::new();
            frame::put_unmasked(&mut answer, opcode, &self.arena[body..end]);
            // A socket that is broken says so when it is read.
            let _ = connection.outbox.send(&mut connection.stream, &answer);
        }
    }

    /// Gives every recipient what waits for it, and the arena back.
    fn flush(&mut self) {
        let mut recipients = core::mem::take(&mut self.recipients);
        for number in recipients.drain(..) {
            let Some(connection) = &mut self.connections[number] else {
                continue;
            };
            if connection.flush(&self.arena).is_err() || connection.outbox.len() > UNREAD {
                self.end(number);
            }
        }
        self.recipients = recipients;
        self.used = 0;
    }

    /// Answers the HTTP request, if it is complete; returns its length then.
    fn join(&mut self, number: usize, begin: usize) -> ControlFlow<(), Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let len = match request.parse(&self.arena[begin..self.used]) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return ControlFlow::Continue(None),
            Err(_) => return ControlFlow::Break(()),
        };
        let target = request.path.unwrap_or_default().split_once('?');
        let address = target.and_then(|(_, query)| upgrade::address(query));
        let mut headers = request.headers.iter();
        let key = headers.find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
        let (Some(address), Some(key)) = (address, key) else {
            return ControlFlow::Break(());
        };
        let accept = derive_accept_key(key.value);
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        if let Some(connection) = &mut self.connections[number] {
            let _ = connection
                .outbox
                .send(&mut connection.stream, response.as_bytes());
            let address: Arc<[u8]> = address.into_bytes().into();
            connection.address = Some(Arc::clone(&address));
            self.routes.insert(address, number);
        }
        ControlFlow::Continue(Some(len))
    }

    fn end(&mut self, number: usize) {
        let Some(connection) = self.connections[number].take() else {
            return;
        };
        self.free.push(number);
        if let Some(address) = connection.address
            && self.routes.get(&address) == Some(&number)
        {
            self.routes.remove(&address);
        }
    }
}
