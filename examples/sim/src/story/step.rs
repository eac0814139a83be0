//! What happens in a story: each step is a line of prose.
//!
//! A step names agents, not connections, and the store's requests by their order: so it means
//! something whatever was there before, and a story from which steps were taken out is still one.

use core::fmt;

use pinch_proto::hub::{Fault, JoinOptions};
use pinch_proto::queue::{Failure, Refusal};

use super::cast::{Agent, To, Who};
use super::settings::PLENTY;

/// One thing that happens to a hub.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An agent joins, by its key or by its name.
    Join(Agent, bool, Session),
    /// A message comes.
    Send {
        /// From whom.
        from: Who,
        /// To whom.
        to: To,
        /// What it is.
        what: What,
        /// How large it is.
        size: Size,
    },
    /// So many small messages come that a ping goes behind them at once.
    Flood(Who, Agent),
    /// A socket has taken everything, and takes some more.
    Writable(Who, Credit),
    /// A pong comes.
    Pong(Who, Pong),
    /// A socket takes everything there is, and each ping is answered.
    Catch(Who),
    /// Something else happens to a connection.
    Socket(Who, Socket),
    /// The store does something.
    Store(Store),
    /// The bus between the shards does something.
    Bus(Carry),
    /// Time passes, or something is due.
    Clock(Clock),
    /// The driver does the first thing that the hub says next, and the rest only when it asks what
    /// is due.
    Forget,
    /// The relay shuts down.
    Shutdown,
    /// The relay begins anew with what its store has. If it crashed, what the store was asked and
    /// had not done is lost.
    Restart(bool),
}

/// A kind of connection, as its upgrade request shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// It receives and sends.
    Plain,
    /// It only sends.
    SendOnly,
    /// It drops what is redelivered.
    Deduplicates,
    /// It is a browser's.
    Browser,
}

impl Session {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [
        Self::Plain,
        Self::SendOnly,
        Self::Deduplicates,
        Self::Browser,
    ];

    /// The properties of such a connection.
    #[must_use]
    pub fn options(self) -> JoinOptions {
        JoinOptions {
            send_only: self == Self::SendOnly,
            deduplicates: self == Self::Deduplicates,
            browser: self == Self::Browser,
        }
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A MESSAGE.
    Message,
    /// An envelope of the type with this number, whatever its payload is. There may be none.
    OfType(u8),
    /// A DELIVERY_CONFIRM.
    Confirm,
    /// A MESSAGE with an id that is too long to be repeated.
    LongId,
    /// A HEARTBEAT.
    Heartbeat,
    /// Something that only the sender of another address may say.
    Foreign(Agent),
    /// No envelope.
    Garbage,
    /// Nothing at all.
    Empty,
    /// A `BLOCK_NOTIFICATION`.
    Block(Agent),
    /// An `UNBLOCK_NOTIFICATION`.
    Unblock(Agent),
    /// A `BLOCK_NOTIFICATION` about what is no address.
    BlockNobody,
    /// An `UNBLOCK_NOTIFICATION` about what is no address.
    UnblockNobody,
    /// A `BLOCK_NOTIFICATION` with the payload of the opposite, or the other way round.
    Mislabelled(bool),
}

impl What {
    /// One more than the types of the protocol.
    pub const MAX_TYPE: u8 = 16;
}

/// How large an envelope is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As small as can be, and so many more.
    Small(u8),
    /// As large as an envelope may be.
    Limit,
    /// One more than that.
    OverLimit,
    /// One more than a message may have.
    TooBig,
    /// More than half of what goes before a ping at the most.
    Large,
}

/// How many bytes a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// So many.
    Bytes(u8),
    /// More than there are.
    Plenty,
}

impl Credit {
    /// The number.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes as usize,
            Self::Plenty => PLENTY,
        }
    }
}

/// Which ping a pong answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pong {
    /// The last one.
    Last,
    /// The first one that has not been answered.
    First,
    /// The first one of all, once more.
    Again,
    /// The one with this number, whoever was given it.
    Number(u8),
    /// One that was never sent.
    Unasked,
    /// None: its payload is no number.
    Garbled,
}

/// What happens to a connection besides messages, pongs and room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// The socket has not taken everything, but perhaps something.
    Blocked(bool),
    /// The peer sends a ping with this payload.
    Ping(u8),
    /// A part of a message came: four times so many bytes are held of it, so many of its fragments were short.
    Partial(u8, u8),
    /// The peer breaks a rule.
    Faulty(Fault),
    /// The peer sends a close frame, with a code or without.
    PeerClosed(bool),
    /// The socket is gone, or the peer has ended its stream in order.
    Closed(bool),
}

impl Socket {
    /// Every fault there is.
    pub const FAULTS: [Fault; 4] = [
        Fault::Text,
        Fault::InvalidUtf8,
        Fault::TooBig,
        Fault::Protocol,
    ];
}

/// What the bus between the shards does with what is first on its way from one shard to another: the
/// n-th pair of those between which something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// It delivers up to so many parcels at once.
    Deliver(u8, u8),
    /// It loses one, if it is a bad bus, as in what follows.
    Lose(u8),
    /// It delivers one, and keeps it.
    Repeat(u8),
    /// It lets all others overtake it.
    Delay(u8),
}

/// What the store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It does up to so many things that it was asked, and answers each at once.
    Serve(u8),
    /// It does the next thing in some way; its answer waits.
    Do(Manner),
    /// The n-th of the answers that wait is handed in.
    Answer(u8),
    /// The n-th of the answers that wait is lost for ever.
    Lose(u8),
    /// An answer comes that is not owed: one that was given before, or never asked for.
    Unknown(u8),
}

/// How the store does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it was asked.
    Asked,
    /// Not at all.
    Fails(Failure),
    /// An envelope is refused; anything else is done.
    Refuses(Refusal),
    /// One envelope is read, however many are asked for; anything else is done.
    Sparing,
    /// Nothing is done, and the answer is one to another question.
    Nonsense,
    /// Nothing is done, and what was read is no envelope.
    MakesUp,
}

impl Manner {
    /// Every failure there is.
    pub const FAILURES: [Failure; 3] = [Failure::DiskFull, Failure::ReadOnly, Failure::Broken];

    /// Every refusal there is.
    pub const REFUSALS: [Refusal; 3] = [
        Refusal::RecipientFull { limit: 7 },
        Refusal::SenderFull { limit: 7 },
        Refusal::StoreFull { limit: 7 },
    ];
}

/// What becomes of the time. Nothing is done about it, if it does not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// So many milliseconds pass, and what falls due is done in time.
    Pass(u8),
    /// So many milliseconds pass.
    Skip(u8),
    /// Until the next thing is due, and it is done.
    Due,
    /// Until just before that, and nothing is done.
    AlmostDue,
    /// An hour passes.
    Long,
    /// So many milliseconds are taken back.
    Back(u8),
    /// What is due is done.
    Timeout,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(agent, by_key, session) => {
                let how = if *by_key { "key" } else { "name" };
                write!(f, "{agent} joins by {how}, {session:?}")
            }
            Self::Send {
                from,
                to,
                what,
                size,
            } => write!(f, "{from} sends {to} {what}, {size}"),
            Self::Flood(from, to) => write!(f, "{from} sends {to} hundreds of messages"),
            Self::Writable(who, Credit::Bytes(bytes)) => {
                write!(f, "{who}: the socket takes {bytes} bytes")
            }
            Self::Writable(who, Credit::Plenty) => write!(f, "{who}: the socket takes everything"),
            Self::Pong(who, pong) => write!(f, "{who} {pong}"),
            Self::Catch(who) => write!(f, "{who} reads everything and answers each ping"),
            Self::Socket(who, socket) => write!(f, "{who}: {socket}"),
            Self::Store(store) => write!(f, "the store {store}"),
            Self::Bus(bus) => write!(f, "the bus {bus}"),
            Self::Clock(clock) => clock.fmt(f),
            Self::Forget => {
                f.write_str("the driver does one thing and forgets the rest for a moment")
            }
            Self::Shutdown => f.write_str("the relay shuts down"),
            Self::Restart(true) => f.write_str("the relay crashes and begins anew"),
            Self::Restart(false) => f.write_str("the relay begins anew"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => f.write_str("a message"),
            Self::OfType(number) => write!(f, "an envelope of type {number}"),
            Self::Confirm => f.write_str("a confirmation"),
            Self::LongId => f.write_str("a message with a long id"),
            Self::Heartbeat => f.write_str("a heartbeat"),
            Self::Foreign(agent) => write!(f, "a message in the name of {agent}"),
            Self::Garbage => f.write_str("garbage"),
            Self::Empty => f.write_str("nothing at all"),
            Self::Block(agent) => write!(f, "a block of {agent}"),
            Self::Unblock(agent) => write!(f, "an unblock of {agent}"),
            Self::BlockNobody => f.write_str("a block of what is no address"),
            Self::UnblockNobody => f.write_str("an unblock of what is no address"),
            Self::Mislabelled(true) => f.write_str("a block that says that it is an unblock"),
            Self::Mislabelled(false) => f.write_str("an unblock that says that it is a block"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(bytes) => write!(f, "with {bytes} bytes of text"),
            Self::Limit => f.write_str("as large as may be"),
            Self::OverLimit => f.write_str("one byte over the envelope limit"),
            Self::TooBig => f.write_str("one byte over the message limit"),
            Self::Large => f.write_str("33,000 bytes if that may be"),
        }
    }
}

impl fmt::Display for Pong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("answers the last ping"),
            Self::First => f.write_str("answers the first ping that is open"),
            Self::Again => f.write_str("answers the first ping of all"),
            Self::Number(number) => write!(f, "answers ping {number}, whoever got it"),
            Self::Unasked => f.write_str("answers a ping that never was"),
            Self::Garbled => f.write_str("sends a pong that is no number"),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(true) => f.write_str("the socket has taken a part"),
            Self::Blocked(false) => f.write_str("the socket has taken nothing"),
            Self::Ping(payload) => write!(f, "a ping, {payload}"),
            Self::Partial(bytes, short) => {
                write!(
                    f,
                    "a part of a message, 4 * {bytes} bytes held, {short} short fragments"
                )
            }
            Self::Faulty(fault) => write!(f, "a breach of WebSocket, {fault:?}"),
            Self::PeerClosed(true) => f.write_str("a close frame with a code"),
            Self::PeerClosed(false) => f.write_str("a close frame"),
            Self::Closed(false) => f.write_str("the socket is gone"),
            Self::Closed(true) => f.write_str("the end of the stream, in order"),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve(count) => write!(f, "does and answers the next {count} requests"),
            Self::Do(Manner::Asked) => f.write_str("does the next thing"),
            Self::Do(Manner::Fails(failure)) => write!(f, "fails in the next thing: {failure}"),
            Self::Do(Manner::Refuses(refusal)) => write!(f, "refuses the next thing: {refusal}"),
            Self::Do(Manner::Sparing) => f.write_str("does the next thing, and reads one at most"),
            Self::Do(Manner::Nonsense) => f.write_str("comes to nonsense"),
            Self::Do(Manner::MakesUp) => f.write_str("makes up what it reads"),
            Self::Answer(nth) => write!(f, "gives the answer that waits, number {nth}"),
            Self::Lose(nth) => write!(f, "loses the answer that waits, number {nth}"),
            Self::Unknown(ticket) => {
                write!(f, "gives an answer that it does not owe, number {ticket}")
            }
        }
    }
}

impl fmt::Display for Carry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(pair, count) => write!(f, "delivers {count} parcels of pair {pair}"),
            Self::Lose(pair) => write!(f, "loses a parcel of pair {pair}"),
            Self::Repeat(pair) => write!(f, "delivers a parcel of pair {pair}, and keeps it"),
            Self::Delay(pair) => write!(f, "delays a parcel of pair {pair}"),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(millis) => write!(f, "{millis} ms pass"),
            Self::Skip(millis) => write!(f, "{millis} ms pass without anybody noticing"),
            Self::Due => f.write_str("time passes until something is due"),
            Self::AlmostDue => f.write_str("time passes until something is almost due"),
            Self::Long => f.write_str("an hour passes"),
            Self::Back(millis) => write!(f, "the clock goes back by {millis} ms"),
            Self::Timeout => f.write_str("what is due is done"),
        }
    }
}
