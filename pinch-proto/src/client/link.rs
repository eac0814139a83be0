//! What is handed to the socket, and when.
//!
//! Frames leave only for a `Writable`: during the handshake the response, then envelopes with a
//! ping behind each batch (if none is on its way), in the end the close frame.

use super::Client;
use super::io::Output;
use super::state::{Link, State, Step};
use crate::Frame;

impl Client {
    pub(super) fn writable(&mut self, bytes: usize) {
        if let Some(heartbeat) = self.state.heartbeat_mut() {
            heartbeat.taken(&self.attended);
        }
        let before = self.outputs.len();
        if bytes > 0 {
            self.hand_out(bytes);
        }
        let got_nothing = self.outputs.len() == before && !self.has_frame();
        let stalls_at = self.attended.deadline(self.config.stall_timeout);
        if let Some(link) = self.state.link_mut() {
            *link = if got_nothing {
                Link::Asleep
            } else {
                Link::Writing { stalls_at }
            };
        }
    }

    /// Wakes the driver if it sleeps while something waits.
    pub(super) fn wake(&mut self) {
        if !self.has_frame() {
            return;
        }
        let stalls_at = self.attended.deadline(self.config.stall_timeout);
        if let Some(link @ Link::Asleep) = self.state.link_mut() {
            *link = Link::Writing { stalls_at };
            self.outputs.push_back(Output::Wake);
        }
    }

    /// Whether [`hand_out`](Self::hand_out) would find something.
    fn has_frame(&self) -> bool {
        match &self.state {
            State::Joining(joining) => matches!(
                joining.step,
                Step::AwaitingResult {
                    response: Some(_),
                    ..
                }
            ),
            State::Joined(joined) => {
                self.outbox.has_waiting()
                    || joined.heartbeat.wants_ping(self.outbox.has_uncovered())
            }
            State::Leaving(leaving) => leaving.farewell.is_some(),
            State::Waiting { .. } | State::Dialing { .. } | State::Ended => false,
        }
    }

    fn hand_out(&mut self, bytes: usize) {
        match &mut self.state {
            State::Joining(joining) => {
                if let Step::AwaitingResult { response, .. } = &mut joining.step {
                    self.outputs.extend(
                        response
                            .take()
                            .map(|response| Output::Transmit(Frame::Message(response))),
                    );
                }
            }
            State::Joined(joined) => {
                let mut room = bytes;
                while room > 0
                    && let Some(envelope) = self.outbox.hand_out()
                {
                    room = room.saturating_sub(envelope.len());
                    self.outputs
                        .push_back(Output::Transmit(Frame::Message(envelope)));
                }
                if joined.heartbeat.wants_ping(self.outbox.has_uncovered()) {
                    let payload = self.pings.next();
                    self.outbox.cover();
                    joined.heartbeat.hand_out(payload.clone(), self.now);
                    self.outputs
                        .push_back(Output::Transmit(Frame::Ping(payload)));
                }
            }
            State::Leaving(leaving) => {
                self.outputs.extend(
                    leaving
                        .farewell
                        .take()
                        .map(|close| Output::Transmit(Frame::Close(close))),
                );
            }
            State::Waiting { .. } | State::Dialing { .. } | State::Ended => {}
        }
    }
}
