//! What a user does with a client.

use bytes::Bytes;
use pinch_proto::client::Input;
use pinch_proto::wire::{Envelope, MessageType};

use super::{Act, NO_ENVELOPE, Outcome, World, drain};
use crate::targets::client::model::Model;
use crate::targets::client::script::Draft;

impl World {
    pub(super) fn submit(&mut self, draft: Draft) -> Outcome {
        let own = self.model.address.to_string();
        let from = if matches!(draft, Draft::Stranger) {
            "pinch:mallory@r".into()
        } else {
            own
        };
        let id = match draft {
            Draft::Good(len) => usize::from(len),
            Draft::TooLarge => self.settings.envelope_bytes,
            Draft::Stranger | Draft::NoEnvelope | Draft::RelayOnly => 8,
        };
        let is_relay_only = matches!(draft, Draft::RelayOnly);
        let r#type = if is_relay_only {
            MessageType::QueueFull
        } else {
            MessageType::Message
        };
        self.ids += 1;
        let envelope = Envelope {
            from_address: from,
            r#type: r#type.into(),
            message_id: vec![7; id].into(),
            timestamp: i64::try_from(self.ids).unwrap_or(i64::MAX),
            ..Envelope::default()
        };
        let envelope = if matches!(draft, Draft::NoEnvelope) {
            Bytes::from_static(NO_ENVELOPE)
        } else {
            envelope.to_bytes()
        };
        let is_mine = !matches!(draft, Draft::Stranger);

        self.model.look(self.now);
        let act = Act::Submit(envelope.clone());
        match self.client.submit(envelope.clone(), self.now) {
            Ok(turn) => {
                let (outputs, wakeup) = drain(turn);
                let has_room = self.model.has_room_for(envelope.len());
                let is_open = self.model.flush_until.is_none() && !self.model.is_ended();
                let is_good = matches!(draft, Draft::Good(_))
                    && envelope.len() <= self.settings.envelope_bytes;
                if !(has_room && is_open && is_good) {
                    return Err(format!("taken: {envelope:02x?}"));
                }
                let wants = self.model.submitted(envelope);
                self.end_turn(act, outputs, wakeup, &wants)
            }
            Err(error) => {
                let reason = &error.reason;
                let may_refuse = self
                    .model
                    .may_refuse(reason, &envelope, is_mine, is_relay_only);
                self.log.push((self.now, act));
                (error.envelope == envelope && may_refuse)
                    .then_some(())
                    .ok_or_else(|| format!("{error:?}, but that is not so"))?;
                self.look()
            }
        }
    }

    pub(in crate::targets::client) fn close(&mut self) -> Outcome {
        self.input(Input::Close, Model::close)
    }
}
