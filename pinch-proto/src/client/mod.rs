//! An agent's side of a connection to a relay: joining, staying joined, coming back.
//!
//! A [`Client`] is a pure state machine, like the relay's hub: a driver hands it what
//! happened ([`Input`], [`Client::submit`]) and the time, does what it says ([`Output`]), and calls
//! [`Client::handle_timeout`] when the [`Wakeup`] is due. What envelopes say, and how they are
//! encrypted, is the business of whoever submits them.
//!
//! ```
//! use pinch_proto::client::{Client, Config, Event, Identity, Input, Output};
//! use pinch_proto::wire::{Envelope, MessageType};
//! use pinch_proto::{Address, Frame, Time, UnixMillis};
//!
//! let now = Time::ZERO;
//! let alice = Address::parse("pinch:alice@relay.example.com")?;
//! let seed = [7; 16]; // In earnest: random bytes.
//! let mut client = Client::new(Config::new().build()?, Identity::Name(alice.clone()), seed, now, UnixMillis(0));
//!
//! // It is due at once, and wants to be connected.
//! let mut turn = client.handle_timeout(now);
//! assert_eq!(turn.poll_output(), Some(Output::Dial));
//! let mut turn = client.handle_input(Input::Connected, now);
//! assert_eq!(turn.poll_output(), Some(Output::Event(Event::Joined { address: alice.clone() })));
//!
//! // An envelope waits in the client until the socket can take it.
//! let envelope = Envelope {
//!     from_address: alice.as_str().into(),
//!     to_address: "pinch:bob@relay.example.com".into(),
//!     r#type: MessageType::Message.into(),
//!     ..Envelope::default()
//! }
//! .to_bytes();
//! let mut turn = client.submit(envelope.clone(), now)?;
//! assert_eq!(turn.poll_output(), Some(Output::Wake));
//!
//! // A ping follows it; once the pong is back, the envelope has arrived.
//! let mut turn = client.handle_input(Input::Writable { bytes: 65_536 }, now);
//! assert_eq!(turn.poll_output(), Some(Output::Transmit(Frame::Message(envelope))));
//! let Some(Output::Transmit(Frame::Ping(payload))) = turn.poll_output() else { panic!("no ping") };
//! let mut turn = client.handle_input(Input::Pong { payload }, now);
//! assert_eq!(turn.poll_output(), Some(Output::Confirmed { total: 1 }));
//! assert!(turn.finish().is_some_and(|wakeup| wakeup.at > now));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # What a driver does
//!
//! There is one link at a time: [`Output::Dial`] begins it, [`Output::Hangup`],
//! [`Input::Disconnected`] or [`Input::UpgradeRejected`] ends it, and nothing is said of it afterwards
//! by either side.
//!
//! Frames are handed out only for [`Input::Writable`], which also asserts that the socket has taken
//! everything handed out before. A driver says it again after each write, until one gets nothing;
//! from then on the client says [`Output::Wake`] once something is there. Nothing waits outside of
//! the client beyond one such batch.
//!
//! A client ends in exactly one [`Event::GaveUp`] or [`Event::Closed`]. After it there are no more
//! outputs and no wake-up.
//!
//! # Pauses
//!
//! A process can stand still for any time: SIGSTOP, a debugger, a suspended machine. The relay
//! answers meanwhile; but when the process goes on, its runtime may notice that time has passed
//! before it notices what has arrived. So all timeouts of a client count *attended* time: of the
//! time between two calls, at most one step of 250 ms counts (a quarter of the shortest timeout, if
//! that is less). While one of them runs, wakeups come that often, and two steps of grace are added
//! to each. A driver reads what the link has before it calls
//! [`handle_timeout`](Client::handle_timeout).
//!
//! # What happens to an envelope
//!
//! The protocol has no acknowledgement, but a connection keeps its order and a relay answers pings.
//! So a ping follows each burst, one at a time; what was written before it has reached the relay
//! once its pong is back, and is [confirmed](Output::Confirmed). Whether the *recipient* has it is
//! another question: the relay may refuse it (QUEUE_FULL, RATE_LIMITED), and says so in an
//! [`Event::Received`].
//!
//! When a link ends, everything unconfirmed is sent again after the next join, in the old order. So
//! an envelope can arrive twice, if it was the pong that got lost, but none is lost: each one is
//! confirmed or comes back as `unsent` in the last event. A proxy that answers pings by itself
//! weakens this to "has reached the proxy".
//!
//! # What happens to an envelope that comes
//!
//! A relay delivers at least once: what was on its way to this agent when a link ended, and may or
//! may not have arrived, comes again after the next join. A client remembers, over all its links,
//! what it has handed over in an [`Event::Received`], and [drops](Duplicates::Drop) what repeats
//! that: the same sender, the same message id, and all other bytes the same, too, because relays
//! forward verbatim, and clients send again what they sent. Such an envelope is a sign of life like
//! any other, and is [counted](Client::dropped_duplicates); nothing else comes of it.
//!
//! An envelope can still come twice
//! - when the program restarts, or has a new [`Client`]: what the old one had remembered is gone;
//! - when more others came in between than are [remembered](Duplicates::Drop::remembered);
//! - when it has no message id or no `from_address`: who knows whether its sender meant it twice;
//! - when its sender writes it anew, with another timestamp, say, under the same id: bytes that were
//!   never handed over are not dropped.
//!
//! So a program for which twice would be wrong keeps the ids that it has dealt with, where it keeps
//! what it did. What the relay says itself (QUEUE_STATUS, QUEUE_FULL, RATE_LIMITED) is never
//! dropped.

mod backoff;
mod config;
mod duplicates;
mod heartbeat;
mod io;
mod link;
mod outbox;
mod state;
mod timers;
mod turn;

use alloc::collections::VecDeque;
use core::hash::Hasher as _;

use bytes::Bytes;
use siphasher::sip::SipHasher24;

pub use self::config::{Config, ConfigError, Duplicates};
pub use self::io::{
    Disconnect, Event, Input, Output, SubmitError, Unsendable, UpgradeRejection, Wakeup,
    WakeupReason,
};
pub use self::turn::Turn;

use self::backoff::Backoff;
use self::duplicates::Seen;
use self::heartbeat::PingNumbers;
use self::outbox::Outbox;
use self::state::State;
use crate::attended::{AttendedClock, AttendedTime};
use crate::{Address, EnvelopeView, Host, SecretKey, Time, UnixMillis};

/// Who an agent is, and thereby how it joins (protocol section 3).
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per client")]
pub enum Identity {
    /// The holder of a key, at a relay in challenge mode.
    Key {
        /// The key.
        secret: SecretKey,
        /// The relay's public host, as its challenges name it.
        host: Host,
    },
    /// Whoever it says it is, at a relay in open mode. The driver puts the address into the
    /// request for the upgrade.
    Name(Address),
}

/// An agent's connection to its relay, over all links that it takes. See the [module](self) for how
/// to drive it.
#[derive(Debug)]
pub struct Client {
    config: Config,
    identity: Identity,
    address: Address,
    /// The latest time that was handed in.
    now: Time,
    /// The time by which the link is given up.
    attended: AttendedClock,
    /// What the wall clock showed at [`Time::ZERO`], so to speak.
    unix_at_zero: i64,
    state: State,
    /// Set once the user wants to leave: until when unconfirmed envelopes are waited for.
    flush_until: Option<AttendedTime>,
    outbox: Outbox,
    backoff: Backoff,
    pings: PingNumbers,
    /// What was handed to the user; `None` if that does not matter.
    seen: Option<Seen>,
    dropped_duplicates: u64,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that will dial as soon as [`handle_timeout`](Self::handle_timeout) is called.
    ///
    /// `seed` is for the jitter of reconnects and for telling envelopes apart, and should be
    /// unpredictable: with the same one, two clients that lost their relay together come back
    /// together, and a sender who knows it can write two envelopes that count as one. With the same
    /// seed and inputs a client gives the same outputs. `now` and `unix` are the same moment on the
    /// two clocks.
    #[must_use]
    pub fn new(
        config: Config,
        identity: Identity,
        seed: [u8; 16],
        now: Time,
        unix: UnixMillis,
    ) -> Self {
        let address = match &identity {
            Identity::Key { secret, host } => Address::from_public_key(&secret.public_key(), host),
            Identity::Name(address) => address.clone(),
        };
        Self {
            address,
            identity,
            now,
            attended: AttendedClock::new(config.shortest_timeout()),
            unix_at_zero: unix.0.saturating_sub(millis(now)),
            state: State::Waiting { until: now },
            flush_until: None,
            outbox: Outbox::new(config.outbox_bytes, config.outbox_count),
            backoff: Backoff::new(
                config.backoff_base,
                config.backoff_cap,
                config.max_tries,
                jitter_seed(&seed),
            ),
            pings: PingNumbers::default(),
            seen: match config.duplicates {
                Duplicates::Drop { remembered } => Some(Seen::new(remembered, seed)),
                Duplicates::Deliver => None,
            },
            dropped_duplicates: 0,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Tells the client what happened, and returns what to do about it.
    ///
    /// A `now` before an earlier one counts as that earlier one. Inputs about a link that does not
    /// exist are ignored.
    pub fn handle_input(&mut self, input: Input, now: Time) -> Turn<'_> {
        self.advance(now);
        match input {
            Input::Connected => self.connected(),
            Input::Disconnected { why } => self.disconnected(why),
            Input::UpgradeRejected {
                rejection,
                retry_after,
            } => self.upgrade_rejected(rejection, retry_after),
            Input::Received(message) => self.receive(message),
            Input::PeerClosed(close) => self.peer_closed(close),
            Input::Pong { payload } => self.pong(&payload),
            Input::Writable { bytes } => self.writable(bytes),
            Input::Close => self.close(),
        }
        Turn::new(self)
    }

    /// Does what is due at `now`. Called too early, it does nothing. It does one thing; if more is
    /// due, the turn's [`Wakeup`] is too.
    pub fn handle_timeout(&mut self, now: Time) -> Turn<'_> {
        self.advance(now);
        self.expire();
        Turn::new(self)
    }

    /// Takes an encoded [`Envelope`](crate::wire::Envelope) for sending, joined or not.
    ///
    /// It is kept until it is confirmed. Don't hand in a slice that pins a large buffer.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] gives the envelope back and says why. Only [`Unsendable::Full`] passes by
    /// itself: wait for [`Output::Confirmed`].
    pub fn submit(&mut self, envelope: Bytes, now: Time) -> Result<Turn<'_>, SubmitError> {
        self.advance(now);
        match self.check(&envelope) {
            Ok(()) => {
                self.outbox.push(envelope);
                self.wake();
                Ok(Turn::new(self))
            }
            Err(reason) => Err(SubmitError { envelope, reason }),
        }
    }

    fn check(&self, envelope: &[u8]) -> Result<(), Unsendable> {
        if self.flush_until.is_some() || self.is_ended() {
            return Err(Unsendable::Closed);
        }
        let (len, limit) = (envelope.len(), self.config.envelope_bytes);
        if len > limit {
            return Err(Unsendable::TooLarge { len, limit });
        }
        let view = EnvelopeView::parse(envelope)?;
        if !self.address.is_written(view.sender_bytes()) {
            return Err(Unsendable::NotYourAddress);
        }
        if let Some(relay_only) = view.message_type().filter(|it| it.is_relay_only()) {
            return Err(Unsendable::RelayOnly(relay_only));
        }
        if !self.has_room_for(len) {
            return Err(Unsendable::Full);
        }
        Ok(())
    }

    /// Whether an envelope of `len` bytes fits into the outbox now. If not, it may after the next
    /// [`Output::Confirmed`].
    #[must_use]
    pub fn has_room_for(&self, len: usize) -> bool {
        self.outbox.has_room_for(len)
    }

    /// How many envelopes were taken so far. What was submitted up to now is flushed when
    /// [`confirmed`](Self::confirmed) reaches this number.
    #[must_use]
    pub const fn submitted(&self) -> u64 {
        self.outbox.submitted()
    }

    /// How many envelopes were confirmed so far: always the oldest ones.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.outbox.confirmed()
    }

    /// Whether everything that was submitted is confirmed.
    #[must_use]
    pub const fn is_flushed(&self) -> bool {
        self.submitted() == self.confirmed()
    }

    /// How many envelopes came again and were dropped so far: see [`Duplicates`].
    #[must_use]
    pub const fn dropped_duplicates(&self) -> u64 {
        self.dropped_duplicates
    }

    /// Whether the last event has been said, or waits in the outputs.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The address of this agent, for `from_address`.
    ///
    /// It is known from the start. If the relay writes its host in another case than [`Identity`]
    /// does, the spelling changes to the relay's with the first [`Event::Joined`].
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Who this agent is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn advance(&mut self, now: Time) {
        self.attended.advance(self.now, now);
        self.now = self.now.max(now);
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_at_zero.saturating_add(millis(self.now)))
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// What the jitter begins with. It shows in when a client comes back, so it must not give away the
/// rest of the seed.
fn jitter_seed(seed: &[u8; 16]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(seed);
    hasher.write(b"jitter");
    hasher.finish()
}

/// The milliseconds since the epoch of the monotonic clock.
fn millis(time: Time) -> i64 {
    i64::try_from(time.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
