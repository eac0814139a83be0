//! Many agents on one thread: one poll, one buffer to read into, and as few calls of the system as
//! can be.
//!
//! Sockets are watched edge-triggered and registered once. Each read takes all that is there, what
//! an agent answers to it leaves in one write, and a read that did not fill the buffer has emptied
//! the socket.

use core::time::Duration;
use std::io::{self, ErrorKind, Read as _};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::LoadError;
use super::connection::{Connection, Ending, Event, MAX_FRAME};
use super::identity::Identity;
use super::target::Endpoint;
use crate::frame::MaskKey;

const EVENTS: usize = 1024;

/// One frame that is not complete, and as much again.
const BUFFER: usize = 2 * MAX_FRAME;

/// How long relays may take to answer close frames.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

const TICK: Duration = Duration::from_millis(50);

/// How an agent behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It answers pings.
    Civil,
    /// It answers one, so that its queue follows, and no other.
    Brief,
    /// It answers none.
    Mute,
}

/// Agents, numbered in the order in which they were told to join.
#[derive(Debug)]
pub(crate) struct Clients {
    endpoint: Endpoint,
    poll: Poll,
    events: Events,
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    spin: bool,
    epoch: Instant,
    pings: u64,
}

impl Clients {
    /// No agents yet. With `spin`, this never sleeps.
    pub(crate) fn new(endpoint: Endpoint, spin: bool) -> io::Result<Self> {
        Ok(Self {
            endpoint,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            connections: Vec::new(),
            buffer: vec![0; BUFFER],
            spin,
            epoch: Instant::now(),
            pings: 0,
        })
    }

    /// Nanoseconds on the clock of this load.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many are connected, joined or not.
    pub(crate) fn connected(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// How many pings of the relay have been answered.
    pub(crate) fn pings(&self) -> u64 {
        let living = self.connections.iter().flatten();
        self.pings + living.map(|connection| connection.pings).sum::<u64>()
    }

    /// Lets `identity` begin to join; returns its number.
    pub(crate) fn join(&mut self, identity: &Identity) -> Result<usize, LoadError> {
        self.join_as(identity, Manner::Civil)
    }

    /// The same, with these manners.
    pub(crate) fn join_as(
        &mut self,
        identity: &Identity,
        manner: Manner,
    ) -> Result<usize, LoadError> {
        let mut mask = MaskKey::default();
        getrandom::fill(&mut mask)?;
        let mut stream = TcpStream::connect(self.endpoint.addr)?;
        stream.set_nodelay(true)?;
        let number = self.connections.len();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut stream, Token(number), interest)?;
        let mut connection = Connection::new(stream, identity, &self.endpoint, mask);
        connection.patience = match manner {
            Manner::Civil => u64::MAX,
            Manner::Brief => 1,
            Manner::Mute => 0,
        };
        self.connections.push(Some(connection));
        Ok(number)
    }

    /// What the frames of an agent are masked with.
    pub(crate) fn mask(&self, number: usize) -> MaskKey {
        let connection = self.connections[number].as_ref();
        connection.map_or(MaskKey::default(), Connection::mask)
    }

    /// Sends whole frames, masked with the agent's key. A socket that is broken says so at the next
    /// poll.
    pub(crate) fn send(&mut self, number: usize, frames: &[u8]) {
        if let Some(connection) = &mut self.connections[number] {
            let _ = connection.outbox.send(&mut connection.stream, frames);
        }
    }

    /// How many bytes the socket of an agent has not taken yet.
    pub(crate) fn unsent(&self, number: usize) -> usize {
        let connection = self.connections[number].as_ref();
        connection.map_or(0, |connection| connection.outbox.len())
    }

    /// Cuts the connection of an agent by a reset.
    pub(crate) fn abort(&mut self, number: usize) {
        if let Some(connection) = &self.connections[number] {
            let linger = Some(Duration::ZERO);
            let _ = SockRef::from(&connection.stream).set_linger(linger);
        }
        self.cut(number);
    }

    /// Gives up on an agent, if it has begun to join.
    pub(crate) fn cut(&mut self, number: usize) {
        let place = self.connections.get_mut(number);
        if let Some(connection) = place.and_then(Option::take) {
            self.pings += connection.pings;
        }
    }

    /// Waits until something happens, or until `timeout` is over, and tells it to `on`.
    pub(crate) fn poll(
        &mut self,
        timeout: Duration,
        mut on: impl FnMut(usize, Event<'_>),
    ) -> io::Result<()> {
        let timeout = if self.spin { Duration::ZERO } else { timeout };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        let mut events = core::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(number) = event.token();
            if event.is_writable() {
                self.write(number, &mut on);
            }
            if event.is_readable() || event.is_error() {
                // Behind the last bytes of a stream comes its end, and no other event.
                let to_the_end = event.is_read_closed() || event.is_error();
                self.read(number, to_the_end, &mut on);
            }
        }
        core::mem::swap(&mut self.events, &mut events);
        Ok(())
    }

    fn write(&mut self, number: usize, on: &mut impl FnMut(usize, Event<'_>)) {
        if let Some(connection) = &mut self.connections[number]
            && !connection.outbox.is_empty()
            && connection.outbox.flush(&mut connection.stream).is_ok()
            && connection.outbox.is_empty()
        {
            on(number, Event::Drained);
        }
    }

    fn read(&mut self, number: usize, to_the_end: bool, on: &mut impl FnMut(usize, Event<'_>)) {
        while let Some(connection) = &mut self.connections[number] {
            let kept = connection.partial().len();
            self.buffer[..kept].copy_from_slice(connection.partial());
            let ending = match connection.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => Ending::EndOfStream,
                Ok(read) => {
                    let at = self.epoch.elapsed().as_nanos();
                    let at = u64::try_from(at).unwrap_or(u64::MAX);
                    let bytes = &self.buffer[..kept + read];
                    let taken = connection.take_in(bytes, at, &mut |event| on(number, event));
                    let _ = connection.outbox.flush(&mut connection.stream);
                    match taken {
                        Ok(()) if cfg!(unix) && !to_the_end && kept + read < BUFFER => return,
                        Ok(()) => continue,
                        Err(ending) => ending,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Ending::Broken(error),
            };
            let left = connection.is_leaving();
            self.cut(number);
            on(
                number,
                Event::Ended(if left { Ending::Left } else { ending }),
            );
        }
    }

    /// Closes all connections, waits a while until the relay has agreed, and tells `on` what still
    /// comes.
    pub(crate) fn leave(&mut self, mut on: impl FnMut(usize, Event<'_>)) -> io::Result<()> {
        for connection in self.connections.iter_mut().flatten() {
            connection.leave();
            let _ = connection.outbox.flush(&mut connection.stream);
        }
        let begin = Instant::now();
        while self.connected() > 0 && begin.elapsed() < CLOSE_LIMIT {
            self.poll(TICK, &mut on)?;
        }
        self.connections.clear();
        Ok(())
    }
}
