//! Reading of an envelope what the hub has to know.

use core::hint::black_box;

use bytes::Bytes;
use pinch_proto::EnvelopeView;
use pinch_proto::wire::{EncryptedPayload, MessageType, Payload};

use super::{Addresses, Operation};

/// An envelope with a ciphertext of some size is read without being decoded.
#[derive(Debug)]
pub(crate) struct ParseEnvelope(Bytes);

impl ParseEnvelope {
    pub(crate) fn new(ciphertext_bytes: usize) -> Self {
        let payload = Payload::Encrypted(EncryptedPayload {
            ciphertext: vec![7; ciphertext_bytes].into(),
            ..EncryptedPayload::default()
        });
        Self(Addresses::new(2).envelope(0, 1, MessageType::Message, payload))
    }
}

impl Operation for ParseEnvelope {
    type Given = ();

    fn prepare(&mut self) {}

    fn run(&mut self, (): ()) {
        black_box(EnvelopeView::parse(black_box(&self.0)).expect("an envelope"));
    }
}
