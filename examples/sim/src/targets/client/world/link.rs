//! The link, and the relay at its other end.

use core::time::Duration;

use bytes::Bytes;
use pinch_proto::client::{Disconnect, Input, UpgradeRejection};
use pinch_proto::{Close, CloseCode, Frame};

use super::{Outcome, ToClient, World};
use crate::targets::client::model::{Model, Why};
use crate::targets::client::relay::{self, Letter, letter};
use crate::targets::client::script::{ChallengeKind, Says, StrayPong, WelcomeKind};

impl World {
    pub(super) fn forget_link(&mut self) {
        self.to_relay.clear();
        self.to_client.clear();
    }

    pub(super) fn connect(&mut self) -> Outcome {
        self.next_arrival = self.model.confirmed;
        self.input(Input::Connected, Model::connected)
    }

    pub(in crate::targets::client) fn cut(&mut self) -> Outcome {
        self.forget_link();
        let why = Disconnect::Link("cut".into());
        self.input(Input::Disconnected { why: "cut".into() }, |model| {
            model.disconnected(Why::Exactly(why))
        })
    }

    pub(super) fn reject(&mut self, status: u16, retry_after: Option<u64>) -> Outcome {
        let rejection = UpgradeRejection {
            status,
            reason: "rejected".into(),
        };
        let retry_after = retry_after.map(Duration::from_secs);
        let input = Input::UpgradeRejected {
            rejection: rejection.clone(),
            retry_after,
        };
        self.input(input, |model| model.rejected(rejection, retry_after))
    }

    pub(in crate::targets::client) fn write(&mut self, bytes: usize) -> Outcome {
        self.input(Input::Writable { bytes }, |model| model.writable(bytes))
    }

    /// A frame gets to the relay, which answers a ping and a close frame.
    pub(in crate::targets::client) fn reach_relay(&mut self) -> Outcome {
        match self.to_relay.pop_front() {
            Some(Frame::Ping(payload)) => self.to_client.push_back(ToClient::Pong(payload)),
            Some(Frame::Pong(_)) => unreachable!("a client machine sends no pong"),
            Some(Frame::Close(close)) => self.to_client.push_back(ToClient::Close(close)),
            Some(Frame::Message(message)) => {
                if self.model.accepted.get(self.next_arrival) == Some(&message) {
                    self.next_arrival += 1;
                    self.arrived = self.arrived.max(self.next_arrival);
                } else if !relay::is_answer(&message) {
                    return Err(format!("out of order: {message:02x?}"));
                }
            }
            None => {}
        }
        Ok(())
    }

    pub(super) fn reach_client(&mut self) -> Outcome {
        match self.to_client.pop_front() {
            Some(ToClient::Pong(payload)) => self.pong(&payload),
            Some(ToClient::Letter(letter)) => self.receive(&letter),
            Some(ToClient::Close(close)) => {
                let input = Input::PeerClosed(close.clone());
                self.input(input, |model| model.closed_by_peer(close))
            }
            None => Ok(()),
        }
    }

    fn pong(&mut self, payload: &Bytes) -> Outcome {
        let input = Input::Pong {
            payload: payload.clone(),
        };
        self.input(input, |model| model.ponged(payload))
    }

    fn receive(&mut self, letter: &Letter) -> Outcome {
        let input = Input::Received(letter.message.clone());
        self.input(input, |model| {
            model.received(&letter.message, letter.meaning, letter.assigned.as_ref())
        })
    }

    pub(super) fn say(&mut self, says: &Says) {
        let said = if let Says::Close { code, reason } = says {
            ToClient::Close(Close::new(CloseCode(*code), *reason))
        } else {
            ToClient::Letter(letter(says))
        };
        self.to_client.push_back(said);
    }

    pub(super) fn stray_pong(&mut self, pong: StrayPong) -> Outcome {
        let payload = match pong {
            StrayPong::Empty => Bytes::new(),
            StrayPong::Other(byte) => vec![byte; 8].into(),
            StrayPong::Old(back) => {
                let pings = &self.model.pings;
                let old = pings.len().checked_sub(back).and_then(|at| pings.get(at));
                old.cloned().unwrap_or_default()
            }
        };
        // A relay may say much, but not that it has what has not arrived.
        if self.model.ping_on_its_way() == Some(&payload) {
            return Ok(());
        }
        self.pong(&payload)
    }

    pub(super) fn stray(&mut self, number: u8) -> Outcome {
        let close = Close::new(CloseCode::REPLACED, "");
        let envelope = letter(&Says::Envelope {
            from: "pinch:bob@r",
            id: 1,
            time: 1,
            is_refusal: false,
        });
        match number {
            0 if !self.is_dialing() => self.input(Input::Connected, Model::connected),
            1 if !self.is_dialing() && !self.has_link() => self.cut(),
            1 if !self.is_dialing() => self.reject(404, None),
            2 if !self.has_link() => self.receive(&envelope),
            3 if !self.has_link() => self.write(1000),
            4 if !self.has_link() => self.pong(&Bytes::from_static(&[0; 8])),
            5 if !self.has_link() => self.input(Input::PeerClosed(close.clone()), |model| {
                model.closed_by_peer(close)
            }),
            _ => Ok(()),
        }
    }

    /// Joins an honest relay, as far as the dial and what is under way let it.
    pub(in crate::targets::client) fn join(&mut self) -> Outcome {
        self.connect()?;
        if self.settings.has_key {
            self.say(&Says::Challenge(ChallengeKind::Good));
            self.reach_client()?;
            self.write(1000)?;
            self.reach_relay()?;
            self.say(&Says::Welcome(WelcomeKind::Good));
            self.reach_client()?;
        }
        Ok(())
    }

    pub(in crate::targets::client) fn exchange(&mut self) -> Outcome {
        for _ in 0..200 {
            if self.has_link() && !self.model.is_asleep() {
                self.write(1000)?;
            }
            let is_quiet = self.to_relay.is_empty() && self.to_client.is_empty();
            if is_quiet && (self.model.is_asleep() || !self.has_link()) {
                return Ok(());
            }
            while !self.to_relay.is_empty() {
                self.reach_relay()?;
            }
            while !self.to_client.is_empty() {
                self.reach_client()?;
            }
        }
        Err("an exchange does not end".into())
    }
}
