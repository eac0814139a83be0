//! An envelope that is framed and masked once, and sent many times under other message ids.

use bytes::Bytes;
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload, VERSION};

use super::identity::Identity;
use super::unix_now;
use crate::frame::{self, MaskKey, Opcode};

const ID_LEN: usize = 16;
const NONCE_LEN: usize = 24;

/// What a message id says: which envelope of its flow this is, and when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds on the clock of the load.
    pub(crate) sent_at: u64,
    pub(crate) number: u64,
}

impl Stamp {
    fn to_id(self) -> [u8; ID_LEN] {
        (u128::from(self.sent_at) << 64 | u128::from(self.number)).to_be_bytes()
    }

    fn from_id(id: [u8; ID_LEN]) -> Self {
        let [sent_at, number] = [id.first_chunk(), id.last_chunk()]
            .map(|half| half.map_or(0, |half| u64::from_be_bytes(*half)));
        Self { sent_at, number }
    }
}

/// All envelopes from one agent to another.
#[derive(Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    /// Where in the frame the message id is.
    frame_id: usize,
    /// The part of the mask that falls on the message id.
    id_mask: u128,
    envelope: Bytes,
    /// Where in the envelope the message id is.
    id: usize,
}

impl Template {
    /// Envelopes with `size` bytes of ciphertext, masked with `key`.
    pub(crate) fn new(
        from: &Identity,
        to: &Identity,
        size: usize,
        key: MaskKey,
    ) -> Result<Self, getrandom::Error> {
        let mut random = vec![0; NONCE_LEN + size];
        getrandom::fill(&mut random)?;
        let mut random = Bytes::from(random);
        // An id that occurs nowhere else in the envelope, so that it shows where ids are.
        let mut marker = [0; ID_LEN];
        getrandom::fill(&mut marker)?;
        let payload = EncryptedPayload {
            nonce: random.split_to(NONCE_LEN),
            ciphertext: random,
            sender_public_key: Bytes::copy_from_slice(from.secret.public_key().as_bytes()),
        };
        let envelope = Envelope {
            version: VERSION,
            from_address: from.address.to_string(),
            to_address: to.address.to_string(),
            r#type: MessageType::Message.into(),
            message_id: Bytes::copy_from_slice(&marker),
            timestamp: unix_now().0,
            payload: Some(Payload::Encrypted(payload)),
        }
        .to_bytes();
        let mut found = envelope.windows(ID_LEN).position(|bytes| bytes == marker);
        let id = found.take().expect("it was just put there");
        let mut frame = Vec::new();
        frame::put_masked(&mut frame, Opcode::Binary, &envelope, key);
        let frame_id = frame.len() - envelope.len() + id;
        let masked: [u8; ID_LEN] = frame[frame_id..][..ID_LEN]
            .try_into()
            .expect("that many bytes");
        let id_mask = u128::from_ne_bytes(masked) ^ u128::from_ne_bytes(marker);
        Ok(Self {
            frame,
            frame_id,
            id_mask,
            envelope,
            id,
        })
    }

    /// How many bytes an envelope has.
    pub(crate) fn envelope_len(&self) -> usize {
        self.envelope.len()
    }

    /// How many bytes a frame has.
    pub(crate) const fn frame_len(&self) -> usize {
        self.frame.len()
    }

    /// Appends the frame with this stamp.
    pub(crate) fn put(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let id = out.len() + self.frame_id;
        out.extend_from_slice(&self.frame);
        let masked = u128::from_ne_bytes(stamp.to_id()) ^ self.id_mask;
        out[id..][..ID_LEN].copy_from_slice(&masked.to_ne_bytes());
    }

    /// The stamp of `received`, if it is one of these envelopes, byte for byte.
    pub(crate) fn stamp_of(&self, received: &[u8]) -> Option<Stamp> {
        let (head, rest) = received.split_at_checked(self.id)?;
        let (id, tail) = rest.split_first_chunk()?;
        let same = head == &self.envelope[..self.id] && tail == &self.envelope[self.id + ID_LEN..];
        same.then(|| Stamp::from_id(*id))
    }
}

#[cfg(test)]
mod tests {
    use pinch_proto::{EnvelopeView, Host};

    use super::super::identity::identities;
    use super::*;
    use crate::frame::Header;

    const STAMP: Stamp = Stamp {
        sent_at: 0x0102_0304_0506_0708,
        number: u64::MAX - 1,
    };

    fn template(size: usize) -> (Template, Vec<Identity>) {
        let agents = identities(2, &Host::parse("localhost").unwrap()).unwrap();
        let template = Template::new(&agents[0], &agents[1], size, [1, 2, 3, 4]).unwrap();
        (template, agents)
    }

    /// The envelope in a frame.
    fn unframed(mut frame: Vec<u8>) -> Vec<u8> {
        let header = Header::parse(&frame).unwrap();
        assert_eq!(header.frame_len(), frame.len());
        let mut envelope = frame.split_off(header.len);
        frame::apply_mask(&mut envelope, header.mask.unwrap());
        envelope
    }

    #[test]
    fn every_frame_holds_a_whole_envelope_and_its_own_stamp() {
        for size in [0, 1, 256, 16_384, 65_000] {
            let (template, agents) = template(size);
            let mut frames = b"before".to_vec();
            template.put(&mut frames, STAMP);
            let envelope = unframed(frames.split_off(6));
            assert_eq!(frames, b"before");
            assert_eq!(envelope.len(), template.envelope_len());
            assert_eq!(template.stamp_of(&envelope), Some(STAMP));

            let view = EnvelopeView::parse(&envelope).unwrap();
            assert_eq!(view.from_address(), agents[0].address.as_str());
            assert_eq!(view.to_address(), agents[1].address.as_str());
            assert_eq!(view.message_type(), Some(MessageType::Message));
            assert_eq!(view.message_id(), STAMP.to_id());
        }
    }

    #[test]
    fn an_envelope_that_was_altered_is_not_taken() {
        let (template, _) = template(64);
        let mut frame = Vec::new();
        template.put(&mut frame, STAMP);
        let envelope = unframed(frame);
        for at in 0..envelope.len() {
            let mut altered = envelope.clone();
            altered[at] ^= 1;
            let within_id = (template.id..template.id + ID_LEN).contains(&at);
            assert_eq!(
                template.stamp_of(&altered).is_some(),
                within_id,
                "byte {at}"
            );
            assert_eq!(template.stamp_of(&envelope[..at]), None);
        }
        let longer = [&*envelope, b"x"].concat();
        assert_eq!(template.stamp_of(&longer), None);
    }
}
