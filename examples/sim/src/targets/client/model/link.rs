//! What a client must hand to its socket, and what a pong confirms.

use bytes::Bytes;
use pinch_proto::client::Output;
use pinch_proto::{Close, CloseCode, Frame};

use super::{Model, Phase, Step, Want};

impl Model {
    pub(in crate::targets::client) fn writable(&mut self, bytes: usize) -> Vec<Want> {
        if !self.has_link() {
            return vec![];
        }
        let pong_due = self.after(self.settings.pong_timeout);
        if let Some(ping) = &mut self.ping {
            let was_taken = core::mem::replace(&mut ping.is_taken, true);
            if ping.is_heartbeat && !was_taken {
                self.pong_due = Some(pong_due);
            }
        }
        let wants = if bytes > 0 {
            self.hand_out(bytes)
        } else {
            vec![]
        };
        self.is_asleep = wants.is_empty() && !self.has_frame();
        self.stalls_at = self.after(self.settings.stall_timeout);
        wants
    }

    fn hand_out(&mut self, bytes: usize) -> Vec<Want> {
        let transmit = |frame| Want::Exactly(Output::Transmit(frame));
        let mut wants = vec![];
        match &mut self.phase {
            Phase::Joining { step, .. } if *step == Step::Answering => {
                *step = Step::Answered;
                wants.push(Want::Response);
            }
            Phase::Joined { .. } => {
                let mut written = 0;
                while written < bytes && self.sent < self.accepted.len() {
                    let envelope = self.accepted[self.sent].clone();
                    self.sent += 1;
                    written += envelope.len();
                    wants.push(transmit(Frame::Message(envelope)));
                }
                if self.wants_ping() {
                    wants.push(Want::Ping);
                }
            }
            Phase::Leaving { has_said_so, .. } if !*has_said_so => {
                *has_said_so = true;
                let close = Close::new(CloseCode::NORMAL, "");
                wants.push(transmit(Frame::Close(close)));
            }
            Phase::Joining { .. }
            | Phase::Leaving { .. }
            | Phase::Away { .. }
            | Phase::Dialing { .. }
            | Phase::Ended => {}
        }
        wants
    }

    /// A ping follows each burst, one at a time.
    fn wants_ping(&self) -> bool {
        self.ping.is_none() && (self.heartbeat_is_due || self.sent > self.covered)
    }

    fn has_frame(&self) -> bool {
        match self.phase {
            Phase::Joining { step, .. } => step == Step::Answering,
            Phase::Joined { .. } => self.sent < self.accepted.len() || self.wants_ping(),
            Phase::Leaving { has_said_so, .. } => !has_said_so,
            Phase::Away { .. } | Phase::Dialing { .. } | Phase::Ended => false,
        }
    }

    pub(super) fn wake(&mut self) -> Vec<Want> {
        if !self.is_asleep || !self.has_frame() {
            return vec![];
        }
        self.is_asleep = false;
        self.stalls_at = self.after(self.settings.stall_timeout);
        vec![Want::Exactly(Output::Wake)]
    }

    pub(in crate::targets::client) fn ponged(&mut self, payload: &Bytes) -> Vec<Want> {
        let (Phase::Joined { .. } | Phase::Leaving { .. }) = self.phase else {
            return vec![];
        };
        self.pong_due = None;
        if self.ping_on_its_way() != Some(payload) {
            return vec![];
        }
        self.ping = None;
        let mut wants = vec![];
        if self.covered > self.confirmed {
            self.confirmed = self.covered;
            let total = self.confirmed as u64;
            wants.push(Want::Exactly(Output::Confirmed { total }));
        }
        if self.flush_until.is_some() && self.outbox().is_empty() {
            wants.extend(self.leave_if_joined());
        }
        wants.extend(self.wake());
        wants
    }

    pub(in crate::targets::client) fn is_asleep(&self) -> bool {
        self.is_asleep
    }

    /// The ping whose pong is missing.
    pub(in crate::targets::client) fn ping_on_its_way(&self) -> Option<&Bytes> {
        self.ping.as_ref().map(|ping| &ping.payload)
    }
}
