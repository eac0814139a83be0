//! The relay's side of one connection as a machine over bytes: no I/O, no clock, no randomness.
//!
//! A [`Session`] reads what a peer sends (an optional PROXY header, an HTTP request, the answer to a
//! challenge, WebSocket frames) and writes what it gets. Its caller moves the bytes, answers what
//! the session asks for before the connection joins ([`Event`]), and carries hub inputs and frames
//! between the session and the [`Hub`] afterwards. An async task, an event loop, a simulator and a
//! fuzzer drive the same code.
//!
//! # The life of a connection
//!
//! ```text
//!  bytes came        receive, receive_end     then poll_event until there is none
//!  bytes can go      transmit, flushed        the frames of the hub go through transmit
//!  time has come     handle_timeout           at next_timeout
//!  it is over        is_over, closed          drop the stream, tell the hub
//! ```
//!
//! ```
//! use std::io;
//! use std::sync::Arc;
//!
//! use pinch_driver::proto::hub::{self, Hub, Output};
//! use pinch_driver::proto::{Host, Time, UnixMillis};
//! use pinch_driver::session::{Config, Entry, Event, Session, WriteBatch};
//! use pinch_driver::Auth;
//!
//! /// Takes everything that is to be written.
//! fn written(out: &mut WriteBatch) -> io::Result<Vec<u8>> {
//!     let mut bytes = Vec::new();
//!     out.write_with(|slices| io::Write::write_vectored(&mut bytes, slices))?;
//!     Ok(bytes)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::parse("relay.example.com")?;
//! let hub_config = hub::Config::new(host.clone()).addressing(hub::Addressing::Names).build()?;
//! let config = Config::new(host, hub_config.max_message_bytes()).auth(Auth::Open);
//! let mut hub = Hub::new(hub_config, [7; 16], Time::ZERO, UnixMillis(0));
//!
//! let (now, mut out) = (Time::ZERO, WriteBatch::default());
//! let mut session = Session::new(Arc::new(config), Entry::Fresh, None, now);
//!
//! // A request for an upgrade comes.
//! session.receive(
//!     b"GET /ws?address=pinch:alice@relay.example.com HTTP/1.1\r\nHost: relay.example.com\r\n\
//!       Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
//!       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
//!     |_| unreachable!("it has not joined"),
//! );
//! while let Some(event) = session.poll_event(now, &mut out) {
//!     match event {
//!         Event::Upgrade(upgrade) => upgrade.answer(Ok(()), now, &mut out),
//!         Event::Register(register) => {
//!             let mut turn = hub.handle_input(register.input(), now);
//!             match turn.poll_output() {
//!                 Some(Output::Registered { conn, .. }) => register.registered(conn, &mut out),
//!                 other => panic!("{other:?}"),
//!             }
//!             let _ = turn.finish();
//!         }
//!         other => panic!("{other:?}"),
//!     }
//! }
//! assert!(written(&mut out)?.starts_with(b"HTTP/1.1 101 "));
//!
//! // It has joined: frames of the hub go out.
//! let conn = session.conn().expect("it has joined");
//! let turn = hub.poll_transmit(conn, 65_536, now, |frame| session.transmit(frame, &mut out));
//! let _ = turn.finish();
//! assert_eq!(written(&mut out)?[..2], [0x89, 8], "a ping");
//!
//! // A close frame comes, masked with zeros, and is answered.
//! session.receive(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8], |input| {
//!     let _ = hub.handle_input(input, now).finish();
//! });
//! let turn = hub.poll_transmit(conn, 65_536, now, |frame| session.transmit(frame, &mut out));
//! let _ = turn.finish();
//! assert_eq!(written(&mut out)?, [0x88, 2, 0x03, 0xe8]);
//!
//! // Then the relay ends its half of the stream, and the peer does.
//! session.flushed();
//! assert!(session.wants_end());
//! session.ended();
//! session.receive_end();
//! assert!(session.is_over());
//! assert_eq!(session.closed(), Some(hub::Input::Closed { conn, clean: true }));
//! # Ok(()) }
//! ```

mod batch;
mod config;
mod joined;
mod joining;
mod reason;

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use http::Response;
use pinch_proto::hub::{Admission, ConnId, Hub, Input, JoinOptions, JoinRefusal};
use pinch_proto::{Address, Frame, Time, Timeout, UnixMillis, peers};

pub use self::batch::WriteBatch;
pub use self::config::Config;
use self::joined::Joined;
use self::joining::{Joining, Waits};
pub use self::reason::{Reason, Rejected};
use crate::Upgrade;

/// How long a peer that is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// Maximum number of bytes that [`Session::wants_read`] asks for.
pub const MAX_READ: usize = joined::MAX_READ;

/// How far a stream is when its session begins.
#[derive(Debug)]
pub enum Entry {
    /// The relay has accepted it. Its HTTP request comes, and before it a PROXY header if a trusted
    /// proxy has opened it and these are expected.
    Accepted,
    /// Its HTTP request comes.
    Fresh,
    /// It speaks WebSocket already.
    Upgraded(Upgrade),
}

/// How a connection ended that has not joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went away, or ended with the relay.
    Left,
    /// Its request was answered.
    Answered,
    /// It gave way to a newcomer.
    Evicted,
    /// It was rejected.
    Rejected(Reason),
}

/// The relay's side of one connection: see the [module](self).
///
/// Before the join, its state is in a box; afterwards it is all that an idle connection keeps.
#[derive(Debug)]
pub struct Session {
    state: State,
}

/// ```text
///  Joining ──────────────► Joined
///     │
///     ├── is told why ───► Leaving ──► Over
///     └── is gone ─────────────────────► ▲
/// ```
#[derive(Debug)]
enum State {
    Joining(Box<Joining>),
    Joined(Joined),
    Leaving(Box<Leaving>),
    Over(Option<Outcome>),
}

/// A connection that is told why it does not join, and waited for until it has read that: a stream
/// that is dropped with unread bytes takes back what was written.
#[derive(Debug)]
struct Leaving {
    timeout: Timeout,
    outcome: Option<Outcome>,
    phase: Linger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linger {
    Writing,
    Written,
    Ended,
}

/// What a session asks its caller for, or tells it, before the connection has joined.
///
/// An event that wants an answer comes again until it is answered.
#[derive(Debug)]
pub enum Event<'a> {
    /// A trusted proxy says that the connection comes from this address.
    Identified(IpAddr),
    /// The connection asks for an upgrade: may it, at the limits of its source address?
    Upgrade(AskUpgrade<'a>),
    /// A request for `/health`.
    Health(AskHealth<'a>),
    /// A challenge needs 32 unpredictable bytes.
    Nonce(AskNonce<'a>),
    /// The connection is to be entered into the routing table.
    Register(AskRegister<'a>),
    /// The connection does not join. What is still to be written, and when it is over, the session
    /// knows.
    Left(Outcome),
}

/// See [`Event::Upgrade`].
#[derive(Debug)]
#[must_use = "the session waits for the answer"]
pub struct AskUpgrade<'a>(&'a mut Session);

/// See [`Event::Health`].
#[derive(Debug)]
#[must_use = "the session waits for the answer"]
pub struct AskHealth<'a>(&'a mut Session);

/// See [`Event::Nonce`].
#[derive(Debug)]
#[must_use = "the session waits for the answer"]
pub struct AskNonce<'a>(&'a mut Session);

/// See [`Event::Register`].
#[derive(Debug)]
#[must_use = "the session waits for the answer"]
pub struct AskRegister<'a> {
    session: &'a mut Session,
    address: Address,
    admission: Admission,
    options: JoinOptions,
}

impl AskUpgrade<'_> {
    /// Says whether the source address may have one connection more
    /// ([`Peers::upgrade`](pinch_proto::peers::Peers::upgrade)).
    pub fn answer(self, admitted: Result<(), peers::Rejection>, now: Time, out: &mut WriteBatch) {
        if let State::Joining(joining) = &mut self.0.state
            && let Err(outcome) = joining.upgraded(admitted, out)
        {
            self.0.leave(outcome, now);
        }
    }
}

impl AskHealth<'_> {
    /// Gives the report.
    pub fn answer(self, report: &Response<String>, now: Time, out: &mut WriteBatch) {
        if let State::Joining(joining) = &mut self.0.state {
            let outcome = joining.health(report, out);
            self.0.leave(outcome, now);
        }
    }
}

impl AskNonce<'_> {
    /// Gives the bytes. `now` and `unix` are the same moment on the two clocks.
    pub fn answer(self, nonce: [u8; 32], now: Time, unix: UnixMillis, out: &mut WriteBatch) {
        if let State::Joining(joining) = &mut self.0.state {
            joining.challenge(nonce, now, unix, out);
        }
    }

    /// There are none: the session is over.
    pub fn give_up(self) {
        self.0.state = State::Over(Some(Outcome::Left));
    }
}

impl AskRegister<'_> {
    /// The address that it wants: the connection belongs to the shard in which that lives.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the question for the hub.
    #[must_use]
    pub fn input(&self) -> Input {
        Input::Register {
            address: self.address.clone(),
            admission: self.admission,
            options: self.options,
        }
    }

    /// It has joined. Something may have come behind the handshake: call [`Session::receive`] with
    /// no bytes.
    pub fn registered(self, conn: ConnId, out: &mut WriteBatch) {
        if let State::Joining(joining) = &mut self.session.state {
            let (message_bytes, rest) = joining.registered(out);
            self.session.state = State::Joined(Joined::new(conn, message_bytes, rest));
        }
    }

    /// The hub does not admit it.
    pub fn refused(self, refusal: JoinRefusal, now: Time, out: &mut WriteBatch) {
        if let State::Joining(joining) = &mut self.session.state {
            let outcome = joining.refused(refusal, now, out);
            self.session.leave(outcome, now);
        }
    }
}

impl Session {
    /// Begins with a stream that comes from `peer`, if that is known. Poll it for an
    /// [event](Self::poll_event) at once.
    #[must_use]
    pub fn new(config: Arc<Config>, entry: Entry, peer: Option<IpAddr>, now: Time) -> Self {
        let joining = Joining::new(config, entry, peer, now);
        Self {
            state: State::Joining(Box::new(joining)),
        }
    }

    /// The connection that it has become.
    #[must_use]
    pub const fn conn(&self) -> Option<ConnId> {
        match &self.state {
            State::Joined(joined) => Some(joined.conn()),
            State::Joining(_) | State::Leaving(_) | State::Over(_) => None,
        }
    }

    /// Maximum number of bytes that the next read should take; 0 if nothing is to be read now.
    /// `is_blocked` says that something is left to be written: before the join, a peer has to read
    /// before it is read.
    #[must_use]
    pub fn wants_read(&self, is_blocked: bool) -> usize {
        match &self.state {
            State::Joining(joining) if joining.wants_read() && !is_blocked => joining::READ,
            State::Joined(joined) => joined.wants_read(),
            State::Leaving(leaving) if leaving.phase == Linger::Ended => joining::READ,
            State::Joining(_) | State::Leaving(_) | State::Over(_) => 0,
        }
    }

    /// Bytes came. Of a connection that has joined, they become inputs for the hub, in order; before
    /// that, [`poll_event`](Self::poll_event) looks at them.
    pub fn receive(&mut self, bytes: &[u8], on_input: impl FnMut(Input)) {
        match &mut self.state {
            State::Joining(joining) => joining.receive(bytes),
            State::Joined(joined) => joined.receive(bytes, on_input),
            State::Leaving(_) | State::Over(_) => {}
        }
    }

    /// The peer has ended its half of the stream.
    pub fn receive_end(&mut self) {
        match &mut self.state {
            State::Joining(_) => self.state = State::Over(Some(Outcome::Left)),
            State::Joined(joined) => joined.receive_end(),
            State::Leaving(leaving) => self.state = State::Over(leaving.outcome),
            State::Over(_) => {}
        }
    }

    /// Whether the peer has just sent a close frame, the first of the two: then read once more before
    /// the hub learns of it. A peer that has ended its stream already waits for no answer, and that
    /// acknowledges nothing.
    #[must_use]
    pub const fn expects_end(&self) -> bool {
        match &self.state {
            State::Joined(joined) => joined.expects_end(),
            State::Joining(_) | State::Leaving(_) | State::Over(_) => false,
        }
    }

    /// What is to be done or known before the connection joins, if there is something. What is to be
    /// written is added to `out`.
    pub fn poll_event(&mut self, now: Time, out: &mut WriteBatch) -> Option<Event<'_>> {
        let waits = match &mut self.state {
            State::Joining(joining) => joining.advance(now, out),
            State::Joined(_) => return None,
            State::Leaving(leaving) => return leaving.outcome.take().map(Event::Left),
            State::Over(outcome) => return outcome.take().map(Event::Left),
        };
        match waits {
            Ok(Waits::Peer) => None,
            Ok(Waits::Identified(ip)) => Some(Event::Identified(ip)),
            Ok(Waits::Upgrade) => Some(Event::Upgrade(AskUpgrade(self))),
            Ok(Waits::Health) => Some(Event::Health(AskHealth(self))),
            Ok(Waits::Nonce) => Some(Event::Nonce(AskNonce(self))),
            Ok(Waits::Register(address, admission, options)) => {
                Some(Event::Register(AskRegister {
                    session: self,
                    address,
                    admission,
                    options,
                }))
            }
            Err(outcome) => {
                self.leave(outcome, now);
                self.poll_event(now, out)
            }
        }
    }

    /// Adds a frame of the hub to what is to be written.
    pub fn transmit(&mut self, frame: Frame, out: &mut WriteBatch) {
        if let State::Joined(joined) = &mut self.state {
            joined.transmit(&frame);
            out.push(frame);
        }
    }

    /// Everything was written, as far as the stream knows; said after each write, or when there was
    /// nothing to write. [`wants_end`](Self::wants_end) and [`is_over`](Self::is_over) follow.
    pub fn flushed(&mut self) {
        match &mut self.state {
            State::Joined(joined) => joined.flushed(),
            State::Leaving(leaving) if leaving.phase == Linger::Writing => {
                leaving.phase = Linger::Written;
            }
            State::Joining(_) | State::Leaving(_) | State::Over(_) => {}
        }
    }

    /// Whether the relay's half of the stream is to be ended: say [`ended`](Self::ended) when that
    /// is done.
    #[must_use]
    pub fn wants_end(&self) -> bool {
        match &self.state {
            State::Joined(joined) => joined.wants_end(),
            State::Leaving(leaving) => leaving.phase == Linger::Written,
            State::Joining(_) | State::Over(_) => false,
        }
    }

    /// The relay's half of the stream has ended.
    pub fn ended(&mut self) {
        match &mut self.state {
            State::Joined(joined) => joined.ended(),
            State::Leaving(leaving) => leaving.phase = Linger::Ended,
            State::Joining(_) | State::Over(_) => {}
        }
    }

    /// Learns from the hub what has become of a connection that has joined, after its inputs were
    /// handed in: whether anything is to be read, and whether a message that has begun is wanted.
    /// Returns false if the hub has ended it, whereupon the stream is dropped.
    pub fn follow(&mut self, hub: &Hub) -> bool {
        match &mut self.state {
            State::Joined(joined) => joined.follow(hub),
            State::Joining(_) | State::Leaving(_) | State::Over(_) => true,
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout): for the HTTP request, the answer to a
    /// challenge, or a peer that does not read why it is rejected. A connection that has joined has
    /// the deadlines of the hub only.
    #[must_use]
    pub fn next_timeout(&mut self) -> Option<Time> {
        self.timeout().map(|timeout| timeout.wakeup())
    }

    /// Looks whether a deadline has passed at `now`. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Time, out: &mut WriteBatch) {
        if !self.timeout().is_some_and(|timeout| timeout.is_over(now)) {
            return;
        }
        match &self.state {
            State::Joining(joining) => {
                let outcome = joining.time_out(out);
                self.leave(outcome, now);
            }
            State::Leaving(leaving) => self.state = State::Over(leaving.outcome),
            State::Joined(_) | State::Over(_) => {}
        }
    }

    /// The relay shuts down: a connection that has not joined is told so. Others hear it from the
    /// hub.
    pub fn shut_down(&mut self, now: Time, out: &mut WriteBatch) {
        if let State::Joining(joining) = &self.state {
            let outcome = joining.shut_down(out);
            self.leave(outcome, now);
        }
    }

    /// A connection that has not joined gives way to a newcomer. It is over: what is to be written
    /// is worth one attempt.
    pub fn evict(&mut self, out: &mut WriteBatch) {
        match &self.state {
            State::Joining(joining) => self.state = State::Over(Some(joining.evict(out))),
            State::Leaving(leaving) => self.state = State::Over(leaving.outcome),
            State::Joined(_) | State::Over(_) => {}
        }
    }

    /// Whether nothing more comes of it: drop the stream, when what is to be written was tried once.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match &self.state {
            State::Joined(joined) => joined.is_over(),
            State::Over(_) => true,
            State::Joining(_) | State::Leaving(_) => false,
        }
    }

    /// The end of a connection that has joined, for the hub, whenever its stream is dropped.
    #[must_use]
    pub const fn closed(&self) -> Option<Input> {
        match &self.state {
            State::Joined(joined) => Some(joined.closed()),
            State::Joining(_) | State::Leaving(_) | State::Over(_) => None,
        }
    }

    fn timeout(&mut self) -> Option<&mut Timeout> {
        match &mut self.state {
            State::Joining(joining) => joining.timeout(),
            State::Leaving(leaving) => Some(&mut leaving.timeout),
            State::Joined(_) | State::Over(_) => None,
        }
    }

    fn leave(&mut self, outcome: Outcome, now: Time) {
        self.state = match outcome {
            Outcome::Left | Outcome::Evicted => State::Over(Some(outcome)),
            Outcome::Answered | Outcome::Rejected(_) => State::Leaving(Box::new(Leaving {
                timeout: Timeout::new(FAREWELL, now),
                outcome: Some(outcome),
                phase: Linger::Writing,
            })),
        };
    }
}

#[cfg(test)]
mod tests;
