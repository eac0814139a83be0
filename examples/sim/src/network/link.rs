//! A connection: what is on its way in both directions, and who still holds which end.
//!
//! It behaves as TCP does: what goes in comes out in order, later, or not at all any more. A
//! direction holds so much and no more; whoever writes has to wait until the other side has read.

use std::collections::VecDeque;

use bytes::Bytes;
use pinch_proto::hub::ConnId;
use pinch_proto::{Close, Frame, Time};

/// What goes over a link: WebSocket frames, and its end.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Message(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(Close),
    /// Nothing follows: the other end is gone.
    End,
}

impl From<Frame> for Packet {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Message(bytes) => Self::Message(bytes),
            Frame::Ping(payload) => Self::Ping(payload),
            Frame::Pong(payload) => Self::Pong(payload),
            Frame::Close(close) => Self::Close(close),
        }
    }
}

impl Packet {
    fn len(&self) -> usize {
        match self {
            Self::Message(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len() + 2,
            Self::Close(close) => close.reason.len() + 4,
            Self::End => 0,
        }
    }
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// What is on its way or unread, and when it arrives.
    packets: VecDeque<(Time, Packet)>,
    bytes: usize,
    /// When the last of them arrives.
    last: Time,
    /// Somebody waits for room.
    pub(super) is_blocked: bool,
    /// An arrival is planned.
    pub(super) is_planned: bool,
}

impl Pipe {
    /// A packet that arrives at `at`, but not before those ahead of it.
    pub(super) fn push(&mut self, at: Time, packet: Packet) {
        self.last = self.last.max(at);
        self.bytes += packet.len();
        self.packets.push_back((self.last, packet));
    }

    /// Nothing arrives before `at`.
    pub(super) fn hold_until(&mut self, at: Time) {
        self.last = self.last.max(at);
    }

    /// The next packet that has arrived.
    pub(super) fn pop(&mut self, now: Time) -> Option<Packet> {
        let (_, packet) = match self.packets.front() {
            Some((at, _)) if *at <= now => self.packets.pop_front()?,
            Some(_) | None => return None,
        };
        self.bytes -= packet.len();
        if self.packets.is_empty() {
            // Links are idle most of the time, and there are many of them.
            self.packets = VecDeque::new();
        }
        Some(packet)
    }

    /// When the next packet arrives.
    pub(super) fn next_arrival(&self) -> Option<Time> {
        self.packets.front().map(|(at, _)| *at)
    }

    /// How much more of `capacity` it takes.
    pub(super) const fn room(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.bytes)
    }
}

/// A connection between an agent and a relay.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) agent: u32,
    /// The relay's name for it.
    pub(super) conn: Option<ConnId>,
    /// From the agent to the relay.
    pub(super) up: Pipe,
    /// From the relay to the agent.
    pub(super) down: Pipe,
    /// How long a packet takes, at least, in nanoseconds.
    pub(super) latency: u64,
    pub(super) is_held_by_agent: bool,
    pub(super) is_held_by_relay: bool,
    /// Nothing arrives any more, and nobody is told.
    pub(super) is_dead: bool,
    /// The agent's close frame came before the relay sent one.
    pub(super) is_closed_by_agent: bool,
    /// The relay has sent a close frame.
    pub(super) is_closed_by_relay: bool,
}

impl Link {
    pub(super) fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the relay.
    Up,
    /// To the agent.
    Down,
}

slotmap::new_key_type! {
    /// Names a link, and never another.
    pub(super) struct LinkId;
}
