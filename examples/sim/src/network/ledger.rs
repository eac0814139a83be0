//! What became of every envelope, and whether that is what was promised.

use std::collections::HashMap;

use bytes::Bytes;
use pinch_proto::wire::{EncryptedPayload, Envelope, MessageType, Payload, VERSION};
use pinch_proto::{Address, EnvelopeView};
use prost::Message as _;

/// What has become of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is underway.
    Underway,
    /// Its recipient has it.
    Delivered,
    /// Its relay has told its sender that it will not arrive, over a connection that may have broken
    /// meanwhile.
    Told,
    /// Its sender knows that it will not arrive.
    Refused,
    /// Its sender has it still, or has crashed before the relay had it for certain.
    Unsent,
    /// Something happened of which nobody promises to survive it: a relay that was killed.
    Excused,
}

/// Names an envelope: who sent it, and how many that one had sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EnvelopeId {
    pub(super) sender: u32,
    pub(super) number: u32,
}

impl EnvelopeId {
    fn to_bytes(self) -> Bytes {
        let id = u64::from(self.sender) << 32 | u64::from(self.number);
        Bytes::copy_from_slice(&id.to_be_bytes())
    }

    fn from_bytes(id: &[u8]) -> Option<Self> {
        let id = u64::from_be_bytes(id.try_into().ok()?);
        let half = |id: u64| u32::try_from(id & u64::from(u32::MAX)).expect("32 bits");
        Some(Self {
            sender: half(id >> 32),
            number: half(id),
        })
    }
}

/// What is known of an envelope.
#[derive(Clone, Copy, Debug)]
struct Entry {
    recipient: u32,
    fate: Fate,
    /// How many times it has reached a relay: again after a link has ended before its sender knew.
    tries: u8,
}

/// Every envelope of a world. It fails at once ([panics](Ledger#panics)) if one arrives that nobody
/// sent, at somebody for whom it is not, twice, or before one that was sent to the same recipient
/// earlier.
///
/// # Panics
/// That is how it tells: the world is at fault, or the machines are.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By sender, and by number.
    envelopes: Vec<Vec<Entry>>,
    /// By recipient: the number of the last one that has arrived, by sender.
    last: Vec<HashMap<u32, u32>>,
    /// By agent: whether it has forgotten what it had got, as it started anew.
    has_forgotten: Vec<bool>,
    /// How many came again to an agent that had started anew.
    repeated: u64,
}

impl Ledger {
    pub(super) fn add_agents(&mut self, count: u32) {
        let agents = self.envelopes.len() + count as usize;
        self.envelopes.resize_with(agents, Vec::new);
        self.last.resize_with(agents, HashMap::new);
        self.has_forgotten.resize(agents, false);
    }

    /// A new envelope.
    pub(super) fn write(&mut self, sender: u32, recipient: u32) -> EnvelopeId {
        let sent = &mut self.envelopes[sender as usize];
        sent.push(Entry {
            recipient,
            fate: Fate::Underway,
            tries: 0,
        });
        let number = u32::try_from(sent.len() - 1).expect("fewer envelopes than that");
        EnvelopeId { sender, number }
    }

    /// `agent` does not know any more what it has got.
    pub(super) fn forget(&mut self, agent: u32) {
        self.has_forgotten[agent as usize] = true;
    }

    fn entry(&mut self, id: EnvelopeId) -> &mut Entry {
        let sent = self.envelopes.get_mut(id.sender as usize);
        let entry = sent.and_then(|sent| sent.get_mut(id.number as usize));
        entry.unwrap_or_else(|| panic!("nobody sent {id:?}"))
    }

    /// A relay has got an envelope.
    pub(super) fn arrive_at_relay(&mut self, envelope: &[u8]) {
        if let Some((id, _)) = glance(envelope) {
            let entry = self.entry(id);
            entry.tries = entry.tries.saturating_add(1);
        }
    }

    /// A relay says something.
    pub(super) fn leave_relay(&mut self, envelope: &[u8]) {
        if let Some((EnvelopeId { sender, number }, MessageType::QueueFull)) = glance(envelope) {
            self.settle(sender, [number], Fate::Told);
        }
    }

    /// `recipient` has got an envelope.
    pub(super) fn deliver(&mut self, id: EnvelopeId, recipient: u32) {
        let entry = self.entry(id);
        let Entry { fate, tries, .. } = *entry;
        entry.fate = Fate::Delivered;
        assert_eq!(entry.recipient, recipient, "{id:?} is for another agent");
        if fate == Fate::Delivered {
            let has_forgotten = self.has_forgotten[recipient as usize];
            assert!(has_forgotten, "{id:?} came twice to {recipient}");
            self.repeated += 1;
            return;
        }
        let EnvelopeId { sender, number } = id;
        let last = self.last[recipient as usize].entry(sender);
        let last = last.or_insert(number);
        // One that was refused when it came first, and accepted when it was sent again, has lost
        // its place.
        assert!(
            *last <= number || tries > 1,
            "{id:?} came after {last} to {recipient}"
        );
        *last = number.max(*last);
    }

    /// What `number`s of `sender` are underway becomes `fate`.
    pub(super) fn settle(
        &mut self,
        sender: u32,
        numbers: impl IntoIterator<Item = u32>,
        fate: Fate,
    ) {
        let sent = &mut self.envelopes[sender as usize];
        for number in numbers {
            if let Some(entry) = sent.get_mut(number as usize)
                && matches!(entry.fate, Fate::Underway | Fate::Told | Fate::Excused)
            {
                entry.fate = fate;
            }
        }
    }

    /// Nobody promises anything any more about what is underway.
    pub(super) fn excuse_all(&mut self) {
        for sender in 0..self.envelopes.len() {
            let count = u32::try_from(self.envelopes[sender].len()).expect("fewer than that");
            let sender = u32::try_from(sender).expect("fewer agents than that");
            self.settle(sender, 0..count, Fate::Excused);
        }
    }

    /// How many envelopes have come to `fate`.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        let all = self.envelopes.iter().flatten();
        all.filter(|entry| entry.fate == fate).count() as u64
    }

    /// How many are underway. Once everybody is back and nothing moves any more, these are lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.count(Fate::Underway)
    }

    /// How many came again to agents that had started anew, and so could not know.
    #[must_use]
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Envelopes that are underway, by sender, number and recipient.
    pub fn underway(&self) -> impl Iterator<Item = (usize, usize, u32)> {
        self.envelopes
            .iter()
            .enumerate()
            .flat_map(|(sender, sent)| {
                let sent = sent.iter().enumerate();
                sent.filter(|(_, entry)| entry.fate == Fate::Underway)
                    .map(move |(number, entry)| (sender, number, entry.recipient))
            })
    }
}

/// What an envelope is about, and its type.
fn glance(envelope: &[u8]) -> Option<(EnvelopeId, MessageType)> {
    let view = EnvelopeView::parse(envelope).ok()?;
    let id = EnvelopeId::from_bytes(view.message_id())?;
    Some((id, view.message_type()?))
}

/// The bytes of an envelope, with `len` bytes of text.
pub(super) fn encode(id: EnvelopeId, from: &Address, to: &Address, len: usize) -> Bytes {
    let payload = EncryptedPayload {
        ciphertext: vec![0x5a; len].into(),
        ..EncryptedPayload::default()
    };
    Envelope {
        version: VERSION,
        from_address: from.as_str().into(),
        to_address: to.as_str().into(),
        r#type: MessageType::Message.into(),
        message_id: id.to_bytes(),
        payload: Some(Payload::Encrypted(payload)),
        ..Envelope::default()
    }
    .to_bytes()
}

/// What an envelope says to an agent of this world.
pub(super) enum Said {
    Message(EnvelopeId),
    Refusal(EnvelopeId),
    Status,
}

pub(super) fn understand(envelope: &[u8]) -> Said {
    let envelope = Envelope::decode(envelope).expect("relays write envelopes");
    let id = EnvelopeId::from_bytes(&envelope.message_id);
    let id = || id.expect("every message of this world has a number");
    let kind = envelope.r#type();
    if kind == MessageType::Message {
        Said::Message(id())
    } else if matches!(kind, MessageType::QueueFull | MessageType::RateLimited) {
        Said::Refusal(id())
    } else {
        assert_eq!(
            kind,
            MessageType::QueueStatus,
            "nobody here says anything else"
        );
        Said::Status
    }
}
