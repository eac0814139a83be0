//! One registered connection: what it has been handed, what it is owed, and how far its ping is.
//!
//! A connection decides which frame comes next; when something happens to it, and what that means
//! for others, is the hub's business.

use alloc::boxed::Box;

use bytes::Bytes;

use super::backlog::Backlog;
use super::io::{CloseCause, ConnId, JoinOptions};
use super::outbox::{Acked, BufferPool, ENVELOPE_OVERHEAD, Outbox, OutboxLimits, Queued};
use super::rate::TokenBucket;
use super::shares::Shares;
use super::slab::MAX_SLOTS;
use super::unsettled::Unsettled;
use super::{AckOnClose, Delivery};
use crate::{Address, Close, Frame};

/// Maximum number of bytes in flight behind the last ping while more waits to go out.
const PROBE_BYTES: usize = 64 << 10;

/// The same when nothing waits: large envelopes that come one by one are kept no longer than their
/// acks take.
const LAST_BYTES: usize = 32 << 10;

/// Maximum number of envelopes in flight behind the last ping.
const PROBE_COUNT: u64 = 256;

/// What one rejection takes at most, in bytes, with the longest addresses, id and reason.
const REJECTION_BYTES: usize = 768;

/// ```text
///            pong, or 1 s                a fault, a timeout, a
///  Joining ───────────────► Live ──────► close frame, a takeover, ──► Closing ──► removed
///     │                                  a shutdown                     ▲
///     └─────────────────────────────────────────────────────────────────┘
/// ```
/// From each of them the end of the socket leads straight to the removal.
#[derive(Debug)]
pub(super) enum Phase {
    /// Registered; hears AUTH_RESULT, a ping and pongs, and nothing else yet.
    Joining {
        // Boxed, for it is short-lived and would make every connection larger.
        greeting: Option<Box<Bytes>>,
    },
    /// Hears everything.
    Live,
    /// Out of the routing table; hears what is buffered, then the close frame, if one is left; before
    /// that a ping, whose pong tells whether it has got all of it. (That it answers the close frame
    /// would not do: its own may have crossed it.) If it was the first to send a close frame, it
    /// hears what was refused.
    Closing(Box<Closing>),
}

/// The end of a connection that has begun.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) cause: CloseCause,
    /// The relay's close frame, unless the peer was the first.
    pub(super) frame: Option<Close>,
    /// The answer to the peer's close frame is queued, or was handed out: nothing may follow it.
    pub(super) answered: bool,
    /// The relay's close frame waits for verdicts of other shards: rejections go before it.
    pub(super) waits: bool,
}

impl Closing {
    /// Whether the peer has said goodbye, and listens until it is answered.
    fn is_by_peer(&self) -> bool {
        self.cause == CloseCause::Peer
    }
}

/// How far the heartbeat of a connection is.
///
/// ```text
///          due         transmitted      came again           pong timeout
///  Idle ───────► Queued ─────────► Sent ──────────► Awaited ──────────────► Overdue
///   ▲                               │ blocked          ▲
///   │ any sign of life              ▼    all was taken │
///   └──────────────────────────── Unsent ──────────────┘
/// ```
/// What is overdue when the driver has looked at the socket once more is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    Idle,
    Queued,
    /// It was transmitted last, and the pong timeout runs, unless the socket has not taken it.
    Sent,
    /// The socket has not taken it.
    Unsent,
    /// The pong timeout runs.
    Awaited,
    /// It has passed.
    Overdue,
}

/// How much may be handed out before the peer has confirmed any of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) delivery: Delivery,
    pub(super) bytes: usize,
    pub(super) count: usize,
}

impl Window {
    /// One that never closes.
    const fn open(self) -> Self {
        Self {
            bytes: usize::MAX,
            count: usize::MAX,
            ..self
        }
    }

    /// One envelope goes out, whatever its size, if there is room for any.
    pub(super) fn is_open(self, outbox: &Outbox) -> bool {
        outbox.in_flight_bytes() < self.bytes && outbox.in_flight() < self.count
    }
}

/// What the socket of a connection does, and its driver.
///
/// ```text
///               all was transmitted            not all was taken
///     Asleep ◄──────────────────────── Awake ───────────────────► Blocked ───────► Stalled
///        │    something to transmit,    ▲ ▲        all was taken     │   timeout    │
///        └────────── or to look at ─────┘ └─────────────────────────┴──────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// The driver comes by itself, or was woken.
    Awake,
    /// All that waited was transmitted: the driver must be woken when something is there.
    Asleep,
    /// The socket has not taken all that was transmitted.
    Blocked,
    /// It has taken none of them for as long as the stall timeout: unless it has by the time that
    /// the driver looks at it once more, it is too slow.
    Stalled,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) address: Address,
    pub(super) options: JoinOptions,
    pub(super) phase: Phase,
    pub(super) outbox: Outbox,
    /// What of its queue is not in memory, if there may be something.
    pub(super) backlog: Option<Box<Backlog>>,
    /// Its agent's place among the shares of the queue, if there is one.
    pub(super) place: u32,
    pub(super) bucket: TokenBucket,
    /// The slot of whom it wrote to last, if it did.
    pub(super) last_recipient: u32,
    pub(super) ping: Ping,
    /// Number of pings that were handed out and have no pong yet.
    pub(super) owed_pongs: u16,
    /// How many control frames and short fragments it may still send.
    pub(super) control_bucket: TokenBucket,
    /// Bytes that the driver holds for its message that has begun.
    pub(super) begun: u32,
    /// The number that the last ping carried.
    pub(super) ping_number: u64,
    /// An ack probe is to follow what is in flight.
    pub(super) probe_due: bool,
    /// Its queue was read to the end, and the last of it has no ack probe behind it yet.
    pub(super) drained: bool,
    /// How many DELIVERY_CONFIRM it may send that cost no token: one for each envelope that it got.
    pub(super) confirm_credits: u32,
    /// What it sent that the store has not answered for: each may become a rejection.
    pub(super) unsettled: Unsettled,
    /// The driver is to read nothing from it until it comes again.
    pub(super) paused: bool,
    /// The links to other shards have little room left: it is to send no more until there is some.
    pub(super) awaits_links: bool,
    /// Number of its envelopes for other shards that these have neither decided nor given to the store.
    pub(super) open_items: u32,
    pub(super) socket: Socket,
    /// It has acknowledged nothing for as long as the stall timeout: unless it has by the time that
    /// the driver looks at it once more, it is too slow.
    pub(super) ack_overdue: bool,
}

impl Connection {
    pub(super) fn new(
        id: ConnId,
        address: Address,
        options: JoinOptions,
        greeting: Option<Bytes>,
        bucket: TokenBucket,
        place: u32,
    ) -> Self {
        let greeting = greeting.map(Box::new);
        Self {
            id,
            address,
            options,
            phase: Phase::Joining { greeting },
            outbox: Outbox::default(),
            backlog: None,
            place,
            bucket,
            last_recipient: MAX_SLOTS,
            ping: Ping::Queued,
            owed_pongs: 0,
            control_bucket: TokenBucket::FULL,
            begun: 0,
            ping_number: 0,
            probe_due: false,
            drained: false,
            confirm_credits: 0,
            unsettled: Unsettled::default(),
            paused: false,
            awaits_links: false,
            open_items: 0,
            socket: Socket::Awake,
            ack_overdue: false,
        }
    }

    /// Whether a deadline of it has passed, and it is closed unless the peer has shown life since.
    pub(super) fn is_suspect(&self) -> bool {
        self.ping == Ping::Overdue || self.ack_overdue
    }

    /// Whether the socket has not taken all that was transmitted.
    pub(super) const fn is_blocked(&self) -> bool {
        matches!(self.socket, Socket::Blocked | Socket::Stalled)
    }

    pub(super) const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Whether so many rejections wait for it, or may still come, that it is to send no more.
    pub(super) fn is_congested(&self, limits: &OutboxLimits) -> bool {
        let may_come = self.unsettled.len() as usize * REJECTION_BYTES;
        let is_full = self.outbox.control_bytes() + may_come > limits.control_bytes;
        !self.is_closing() && (is_full || self.awaits_links)
    }

    /// Whether the relay's close frame waits for verdicts of other shards.
    pub(super) fn waits_to_close(&self) -> bool {
        matches!(&self.phase, Phase::Closing(closing) if closing.waits)
    }

    /// Whether it can be told what becomes of what it sent: the last word to it is not said.
    pub(super) fn hears_rejections(&self) -> bool {
        match &self.phase {
            Phase::Joining { .. } | Phase::Live => true,
            Phase::Closing(closing) => closing.waits || (closing.is_by_peer() && !closing.answered),
        }
    }

    /// Whether a clean close acknowledges what is in flight: the peer closed first, and is neither a
    /// browser nor one that deduplicates.
    pub(super) fn may_ack_by_closing(&self, policy: AckOnClose) -> bool {
        let by_peer = matches!(&self.phase, Phase::Closing(closing) if closing.is_by_peer());
        let JoinOptions {
            deduplicates,
            browser,
            send_only: _,
        } = self.options;
        policy == AckOnClose::Clean && by_peer && !deduplicates && !browser
    }

    /// The bytes of all envelopes that are held for it.
    pub(super) fn held_bytes(&self) -> usize {
        let behind_a_read = self
            .backlog
            .as_ref()
            .map_or(0, |backlog| backlog.deferred().1);
        self.outbox.held().1 + behind_a_read
    }

    /// What it counts for in the memory of the hub.
    pub(super) fn weight(&self) -> usize {
        let behind_a_read = self
            .backlog
            .as_ref()
            .map_or(0, |backlog| backlog.deferred().0);
        let count = self.outbox.held().0 + behind_a_read;
        self.held_bytes() + count * ENVELOPE_OVERHEAD
    }

    /// Whether an ack probe is to follow what was written last: no other is unanswered, and the gap
    /// between two of them is over, or this is the end of a drain. `paced` is whether the gap lasts.
    pub(super) fn wants_probe(&self, paced: bool) -> bool {
        let outbox = &self.outbox;
        let ends_drain = self.drained && self.outbox.waiting() == 0;
        matches!(self.phase, Phase::Live)
            && outbox.unprobed_count() > 0
            && outbox.last_probe().is_none()
            && (!paced || ends_drain)
    }

    /// Whether so much is in flight behind the last ping that an ack probe follows at once, whatever
    /// is unanswered.
    pub(super) fn needs_probe(&self, window: Window) -> bool {
        let outbox = &self.outbox;
        let full = !window.is_open(outbox) && outbox.unprobed_count() > 0;
        let bytes = if self.outbox.waiting() > 0 {
            PROBE_BYTES
        } else {
            LAST_BYTES
        };
        let much = outbox.unprobed_bytes() >= bytes || outbox.unprobed_count() >= PROBE_COUNT;
        matches!(self.phase, Phase::Live) && (full || much)
    }

    /// Whether [`pop_frame`](Self::pop_frame) would find something.
    pub(super) fn has_frame(&self, window: Window) -> bool {
        match &self.phase {
            Phase::Joining { greeting } => {
                let greets = greeting.is_some() || self.ping == Ping::Queued;
                greets || self.outbox.is_pong_next()
            }
            Phase::Live => {
                self.ping == Ping::Queued
                    || self.probe_due
                    || self.outbox.has_control()
                    || (self.outbox.waiting() > 0 && window.is_open(&self.outbox))
            }
            Phase::Closing(closing) if closing.is_by_peer() => self.outbox.has_control(),
            Phase::Closing(closing) => {
                let outbox = &self.outbox;
                let has_more =
                    outbox.has_control() || outbox.waiting() > 0 || outbox.unprobed_count() > 0;
                closing.frame.is_some() && (!closing.waits || has_more)
            }
        }
    }

    /// The next frame for the socket: the greeting, then a ping, then rejections and replies, then
    /// envelopes, then a ping for them and the close frame. A peer that has sent a close frame gets
    /// rejections, replies and the answer to it, and no more. `next_ping` is the number for a ping, used up if one is returned.
    pub(super) fn pop_frame(
        &mut self,
        next_ping: &mut u64,
        window: Window,
        pool: &mut BufferPool,
        shares: &mut Shares,
    ) -> Option<Frame> {
        match &mut self.phase {
            Phase::Joining { greeting } => {
                if let Some(greeting) = greeting.take() {
                    return Some(Frame::Message(*greeting));
                }
                if let Some(ping) = self.pop_ping(next_ping) {
                    return Some(ping);
                }
                let is_pong = self.outbox.is_pong_next();
                is_pong.then(|| self.outbox.pop_control(pool)).flatten()
            }
            Phase::Live => self
                .pop_ping(next_ping)
                .or_else(|| self.pop_due_probe(next_ping))
                .or_else(|| self.pop_message(window, pool, shares)),
            // The answer to its close frame waits behind what it is told.
            Phase::Closing(closing) if closing.is_by_peer() => self.outbox.pop_control(pool),
            Phase::Closing(closing) => {
                let waits = closing.waits;
                let close = closing.frame.take()?;
                // Bounded by what the outbox may hold: a close does not wait for confirmations.
                let before = self
                    .pop_message(window.open(), pool, shares)
                    .or_else(|| self.pop_last_probe(next_ping));
                if before.is_none() && !waits {
                    return Some(Frame::Close(close));
                }
                if let Phase::Closing(closing) = &mut self.phase {
                    closing.frame = Some(close);
                }
                before
            }
        }
    }

    fn pop_ping(&mut self, next_ping: &mut u64) -> Option<Frame> {
        if self.ping != Ping::Queued {
            return None;
        }
        self.ping = Ping::Sent;
        Some(self.number_ping(next_ping))
    }

    fn pop_due_probe(&mut self, next_ping: &mut u64) -> Option<Frame> {
        self.probe_due.then(|| self.number_ping(next_ping))
    }

    fn pop_last_probe(&mut self, next_ping: &mut u64) -> Option<Frame> {
        let has_unprobed = self.outbox.unprobed_count() > 0;
        has_unprobed.then(|| self.number_ping(next_ping))
    }

    /// Returns a ping; its pong acknowledges everything in flight before it.
    fn number_ping(&mut self, next_ping: &mut u64) -> Frame {
        self.probe_due = false;
        self.drained &= self.outbox.waiting() > 0;
        self.ping_number = *next_ping;
        self.owed_pongs = self.owed_pongs.saturating_add(1);
        self.outbox.probe(self.ping_number);
        *next_ping = next_ping.wrapping_add(1);
        Frame::Ping(Bytes::copy_from_slice(&self.ping_number.to_be_bytes()))
    }

    fn pop_message(
        &mut self,
        window: Window,
        pool: &mut BufferPool,
        shares: &mut Shares,
    ) -> Option<Frame> {
        if let Some(frame) = self.outbox.pop_control(pool) {
            return Some(frame);
        }
        if !window.is_open(&self.outbox) {
            return None;
        }
        let (message, confirmable) = match window.delivery {
            Delivery::AtMostOnce => {
                let queued = self.outbox.pop(pool)?;
                shares.release(&queued, self.place);
                (queued.message, queued.confirmable)
            }
            Delivery::AtLeastOnce => {
                let queued = self.outbox.transmit()?;
                (queued.message.clone(), queued.confirmable)
            }
        };
        let credits = self.confirm_credits;
        self.confirm_credits = credits.saturating_add(u32::from(confirmable));
        Some(Frame::Message(message))
    }

    /// The pong of the ping `number` came.
    pub(super) fn ack(&mut self, number: u64, pool: &mut BufferPool, shares: &mut Shares) -> Acked {
        let place = self.place;
        let release = |queued: &Queued| shares.release(queued, place);
        self.outbox.ack(number, pool, release)
    }

    /// Everything in flight is acknowledged.
    pub(super) fn ack_all(&mut self, pool: &mut BufferPool, shares: &mut Shares) -> Acked {
        let place = self.place;
        let release = |queued: &Queued| shares.release(queued, place);
        self.outbox.ack_all(pool, release)
    }

    /// Whether `payload` answers the last ping that was handed out.
    pub(super) fn is_last_pong(&self, payload: &[u8]) -> bool {
        self.ping != Ping::Queued && payload == self.ping_number.to_be_bytes()
    }
}
