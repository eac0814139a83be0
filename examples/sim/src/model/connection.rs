//! One connection: what waits for it, what it was given, and which frame is next.

use bytes::Bytes;
use pinch_proto::hub::{AckOnClose, CloseCause, ConnId, Delivery, ENVELOPE_OVERHEAD, JoinOptions};
use pinch_proto::queue::Seq;
use pinch_proto::wire::MessageType;
use pinch_proto::{Address, Close, EnvelopeView, Frame};

use super::fates::FateId;
use super::queue::Backlog;
use super::rate::Bucket;
use super::replies::{Awaited, Held};
use crate::story::Settings;

/// Behind so many bytes, or so many envelopes, an ack probe goes at once.
const PROBE_BYTES: usize = 64 << 10;
/// Behind the last that there is, it goes from so many on.
const LAST_BYTES: usize = 32 << 10;
const PROBE_COUNT: usize = 256;

/// An envelope on its way to a recipient.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) fate: FateId,
    pub(super) seq: Seq,
    /// Its place in the queue is reserved.
    pub(super) reserved: bool,
    /// The store has it, until it is confirmed.
    pub(super) stored: bool,
    pub(super) message: Bytes,
}

/// A letter that the peer was given and has not confirmed.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) letter: Letter,
    /// The first ping that went behind it: its pong will confirm it.
    pub(super) ping: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// It hears the greeting and a ping.
    Joining { greeting: Option<Bytes> },
    /// It hears everything.
    Live,
    /// It hears what waits, and then the close frame, unless it has heard that or there is none.
    Closing {
        cause: CloseCause,
        frame: Option<Close>,
        /// The answer to the peer's close frame is among what the relay says, or was.
        answered: bool,
        /// The close frame waits until other shards have decided about what came before.
        waits: bool,
    },
}

/// How far the heartbeat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    Idle,
    Queued,
    /// The socket was given it last, and the pong timeout runs.
    Sent,
    /// The socket was given it, and has not taken everything.
    Unsent,
    /// The pong timeout runs.
    Awaited,
    /// The pong timeout has passed.
    Overdue,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) conn: ConnId,
    pub(super) address: Address,
    pub(super) options: JoinOptions,
    pub(super) phase: Phase,
    /// What the relay says itself.
    pub(super) control: Vec<Frame>,
    /// Replies that wait until the store has answered for what came before them.
    pub(super) held: Vec<Held>,
    /// What was not answered, and no reply waits for any more.
    pub(super) given_up: Vec<Awaited>,
    /// Envelopes that wait.
    pub(super) data: Vec<Letter>,
    /// What it was given, if somebody wants to know whether that arrives.
    pub(super) given: Vec<Given>,
    /// What its socket was given in the present call, if nobody does.
    pub(super) unwatched: Vec<Letter>,
    pub(super) backlog: Option<Backlog>,
    /// `None` while it is full.
    pub(super) bucket: Option<Bucket>,
    pub(super) ping: Ping,
    /// How many pings it was given that it has not answered.
    pub(super) owed_pongs: u32,
    /// What it has left for control frames; `None` while that is all.
    pub(super) control_bucket: Option<Bucket>,
    /// What the driver holds of its message that has begun.
    pub(super) begun: usize,
    /// The number of the last ping that it was given.
    pub(super) last_ping: Option<u64>,
    pub(super) probe_due: bool,
    /// Its queue was read to the end, and no ping went behind the last of it.
    pub(super) drained: bool,
    /// Its peer has closed, and may acknowledge what it was given by how it ends its stream.
    pub(super) is_unresolved: bool,
    /// How many confirmations it may send for nothing.
    pub(super) credits: u32,
    /// A link to another shard has little room left.
    pub(super) awaits_link: bool,
    /// It is to send no more before its driver comes again.
    pub(super) paused: bool,
    /// All that there was was transmitted to it.
    pub(super) asleep: bool,
    /// Its socket has not taken everything.
    pub(super) blocked: bool,
    /// It has taken nothing for too long.
    pub(super) stalled: bool,
    /// It has acknowledged nothing for too long.
    pub(super) ack_overdue: bool,
}

impl Connection {
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closing { .. })
    }

    pub(super) fn is_joining(&self) -> bool {
        matches!(self.phase, Phase::Joining { .. })
    }

    /// Whether its peer has sent a close frame first: until that is answered, the peer hears what was
    /// refused of its own, and no more.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        let peer = CloseCause::Peer;
        matches!(&self.phase, Phase::Closing { cause, .. } if *cause == peer)
    }

    /// Whether it can be told what becomes of what it sent.
    pub(super) fn hears_rejections(&self) -> bool {
        let is_answered = matches!(self.phase, Phase::Closing { answered: true, .. });
        self.is_open() || self.waits_to_close() || (self.is_closed_by_peer() && !is_answered)
    }

    /// Whether its close frame waits.
    pub(super) fn waits_to_close(&self) -> bool {
        matches!(self.phase, Phase::Closing { waits: true, .. })
    }

    /// Whether its peer acknowledges what it was given, if it ends its stream in order.
    pub(super) fn may_ack_by_closing(&self, settings: &Settings) -> bool {
        settings.ack_on_close == AckOnClose::Clean
            && self.is_closed_by_peer()
            && !self.options.browser
            && !self.options.deduplicates
    }

    /// Whether the relay has said its last word.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Closing { frame: None, .. })
    }

    /// What waits for it, that included which waits behind a read.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Letter> {
        let held = self.backlog.iter().flat_map(|backlog| &backlog.held);
        self.data.iter().chain(held)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        bytes_of(self.waiting())
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting().count()
    }

    /// What of the hub's memory it takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.waiting_bytes() + self.given_bytes()
    }

    /// How many envelopes take it.
    pub(super) fn held_count(&self) -> usize {
        self.waiting_count() + self.given.len()
    }

    /// What it counts for in the hub's memory.
    pub(super) fn weight(&self) -> usize {
        let count = self.waiting_count() + self.given.len();
        self.held_bytes() + count * ENVELOPE_OVERHEAD
    }

    pub(super) fn given_bytes(&self) -> usize {
        bytes_of(self.given.iter().map(|given| &given.letter))
    }

    pub(super) fn has_unmarked(&self) -> bool {
        self.given.iter().any(|given| given.ping.is_none())
    }

    /// Whether it may be given envelopes before it confirms some.
    fn window_is_open(&self, settings: &Settings) -> bool {
        self.given_bytes() < settings.unconfirmed_bytes
            && self.given.len() < settings.unconfirmed_count
    }

    /// Whether an ack probe is to go that waits for the answer to the last one, and for the end of
    /// the gap unless this is the end of a drain.
    pub(super) fn may_be_probed(&self, in_gap: bool) -> bool {
        let unanswered = self.given.iter().any(|given| given.ping.is_some());
        let ends_drain = self.drained && self.data.is_empty();
        matches!(self.phase, Phase::Live)
            && self.has_unmarked()
            && !unanswered
            && (ends_drain || !in_gap)
    }

    /// Whether an ack probe is to go at once: there is much behind the last one, or it gets nothing
    /// more before it acknowledges.
    pub(super) fn must_be_probed(&self, settings: &Settings) -> bool {
        let unmarked = self.given.iter().filter(|given| given.ping.is_none());
        let unmarked: Vec<_> = unmarked.map(|given| &given.letter).collect();
        let bytes = bytes_of(unmarked.iter().copied());
        let much = unmarked.len() >= PROBE_COUNT
            || bytes >= PROBE_BYTES
            || (bytes >= LAST_BYTES && self.data.is_empty());
        let shut = !unmarked.is_empty() && !self.window_is_open(settings);
        matches!(self.phase, Phase::Live) && (much || shut)
    }

    /// Whether there is a frame for it now.
    pub(super) fn has_frame(&self, settings: &Settings) -> bool {
        let (greets, says_goodbye) = match &self.phase {
            Phase::Joining { greeting } => (greeting.is_some(), false),
            Phase::Live => (false, false),
            Phase::Closing { frame, waits, .. } => {
                (false, frame.is_some() && (!waits || self.has_unmarked()))
            }
        };
        let pings = self.is_open() && (self.ping == Ping::Queued || self.probe_due);
        let refuses = self.hears_next_control();
        let delivers = self.hears_envelopes(settings) && !self.data.is_empty();
        greets || pings || refuses || delivers || says_goodbye
    }

    /// Whether there is something that the relay says, and it is to hear it: while it joins, only
    /// pongs.
    fn hears_next_control(&self) -> bool {
        let hears = !self.is_silent() || self.is_closed_by_peer();
        match self.control.first() {
            None => false,
            Some(Frame::Pong(_)) => hears,
            Some(_) => hears && !self.is_joining(),
        }
    }

    /// A peer that may have more once it confirms some; one to which the relay says goodbye, at once.
    fn hears_envelopes(&self, settings: &Settings) -> bool {
        let is_live = matches!(self.phase, Phase::Live);
        (is_live && self.window_is_open(settings)) || !(self.is_open() || self.is_silent())
    }

    /// The next frame: a greeting, then pings, then what the relay says, then envelopes; at the end a
    /// ping for them, and the close frame, which does not wait for confirmations.
    pub(super) fn next_frame(&mut self, next_ping: &mut u64, settings: &Settings) -> Option<Frame> {
        if let Phase::Joining { greeting } = &mut self.phase
            && let Some(greeting) = greeting.take()
        {
            return Some(Frame::Message(greeting));
        }
        if self.is_open() && (self.ping == Ping::Queued || self.probe_due) {
            if self.ping == Ping::Queued {
                self.ping = Ping::Sent;
            }
            return Some(self.number_ping(next_ping));
        }
        if self.hears_next_control() {
            return Some(self.control.remove(0));
        }
        if self.hears_envelopes(settings) && !self.data.is_empty() {
            let letter = self.data.remove(0);
            let message = letter.message.clone();
            self.credits += u32::from(is_confirmable(&message));
            match settings.delivery {
                Delivery::AtLeastOnce => self.given.push(Given { letter, ping: None }),
                Delivery::AtMostOnce => self.unwatched.push(letter),
            }
            return Some(Frame::Message(message));
        }
        if self.is_open() || self.is_silent() {
            return None;
        }
        if self.has_unmarked() {
            return Some(self.number_ping(next_ping));
        }
        if let Phase::Closing {
            frame,
            waits: false,
            ..
        } = &mut self.phase
        {
            return frame.take().map(Frame::Close);
        }
        None
    }

    /// Every ping marks what went before it.
    fn number_ping(&mut self, next_ping: &mut u64) -> Frame {
        let number = *next_ping;
        *next_ping += 1;
        self.probe_due = false;
        if self.data.is_empty() {
            self.drained = false;
        }
        self.owed_pongs += 1;
        self.last_ping = Some(number);
        for given in &mut self.given {
            given.ping.get_or_insert(number);
        }
        Frame::Ping(Bytes::copy_from_slice(&number.to_be_bytes()))
    }
}

/// Whether a confirmation of `message` costs nothing.
fn is_confirmable(message: &Bytes) -> bool {
    let view = EnvelopeView::parse(message);
    view.is_ok_and(|view| view.message_type() != Some(MessageType::DeliveryConfirm))
}

fn bytes_of<'a>(letters: impl Iterator<Item = &'a Letter>) -> usize {
    letters.map(|letter| letter.message.len()).sum()
}
