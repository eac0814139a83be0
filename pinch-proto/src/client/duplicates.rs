//! Which envelopes were handed to the user before.
//!
//! A relay delivers at least once: what it does not know to have arrived when a link ends, it
//! delivers again, byte for byte. So a duplicate is an envelope that repeats an earlier one as a
//! whole: sender, message id, and everything else. The pair alone would not do: nothing in the
//! protocol keeps a sender from using an id again, in a confirmation of the same message or after
//! a restart, and to drop what was never handed over would be a loss.
//!
//! Remembered are 128 bits of each, hashed under a key that no peer knows. Among 8192 of them an
//! envelope that is new is taken for an old one with a chance of 2¹³/2¹²⁸ = 2⁻¹¹⁵: at a million
//! envelopes a second, once in 10²¹ years. A sender cannot raise it, because without the key it
//! cannot tell which bytes collide; nor can it make the table slow. So an entry has the same size,
//! however long its address and id are.
//!
//! ```text
//!  first                    first + order.len()
//!    │ oldest          newest │
//!    ├────────── order ───────┤      fingerprints by serial number
//!  known: fingerprint ─► serial number
//! ```

use alloc::collections::VecDeque;
use core::hash::Hasher as _;

use hashbrown::HashTable;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::EnvelopeView;
use crate::wire::MessageType;

/// The envelopes that were handed over last.
#[derive(Debug)]
pub(super) struct Seen {
    /// SipHash-2-4, which its authors made for telling messages apart, and not only buckets.
    key: SipHasher24,
    bound: usize,
    /// The serial number of the oldest. Serial numbers wrap around; there are never so many
    /// entries that two of them have the same.
    first: u32,
    order: VecDeque<u128>,
    known: HashTable<u32>,
}

impl Seen {
    /// Remembers `bound` envelopes. Memory is taken as they come.
    pub(super) fn new(bound: u32, key: [u8; 16]) -> Self {
        Self {
            key: SipHasher24::new_with_key(&key),
            bound: usize::try_from(bound).unwrap_or(usize::MAX),
            first: 0,
            order: VecDeque::new(),
            known: HashTable::new(),
        }
    }

    /// Whether `message`, of which `view` is a view, was not handed over yet, as far as is
    /// remembered. From now on it was.
    pub(super) fn is_new(&mut self, view: &EnvelopeView<'_>, message: &[u8]) -> bool {
        if !can_be_duplicate(view) {
            return true;
        }
        let fingerprint = self.fingerprint(message);
        if self.contains(fingerprint) {
            return false;
        }
        if self.order.len() >= self.bound {
            self.forget_oldest();
        }
        self.insert(fingerprint);
        true
    }

    fn fingerprint(&self, message: &[u8]) -> u128 {
        let mut hasher = self.key;
        hasher.write(message);
        hasher.finish128().into()
    }

    fn contains(&self, fingerprint: u128) -> bool {
        let Self {
            first,
            order,
            known,
            ..
        } = self;
        known
            .find(bucket_of(fingerprint), |&serial| {
                at(order, *first, serial) == Some(fingerprint)
            })
            .is_some()
    }

    fn insert(&mut self, fingerprint: u128) {
        let Self {
            first,
            order,
            known,
            ..
        } = self;
        // Fewer than the bound, which has 32 bits.
        let len = u32::try_from(order.len()).unwrap_or(u32::MAX);
        let serial = first.wrapping_add(len);
        order.push_back(fingerprint);
        known.insert_unique(bucket_of(fingerprint), serial, |&serial| {
            at(order, *first, serial).map_or(0, bucket_of)
        });
    }

    fn forget_oldest(&mut self) {
        let Some(&oldest) = self.order.front() else {
            return;
        };
        let is_oldest = |&serial: &u32| serial == self.first;
        if let Ok(entry) = self.known.find_entry(bucket_of(oldest), is_oldest) {
            entry.remove();
        }
        self.order.pop_front();
        self.first = self.first.wrapping_add(1);
    }
}

/// Whether an envelope can be told from another that says the same: it has a sender, who gave it an
/// id. What the relay says itself has neither, or repeats the id of the envelope that it is about;
/// it may well say the same twice, and mean it.
fn can_be_duplicate(view: &EnvelopeView<'_>) -> bool {
    let is_from_relay = view.from_address().is_empty()
        || view.message_type().is_some_and(MessageType::is_relay_only);
    !is_from_relay && !view.message_id().is_empty()
}

/// The fingerprint with this serial number.
fn at(order: &VecDeque<u128>, first: u32, serial: u32) -> Option<u128> {
    let index = usize::try_from(serial.wrapping_sub(first)).ok()?;
    order.get(index).copied()
}

/// A fingerprint is a good hash of itself, and half of it is enough for that.
#[allow(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn bucket_of(fingerprint: u128) -> u64 {
    fingerprint as u64
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::*;
    use crate::wire::Envelope;

    const KEY: [u8; 16] = [7; 16];

    fn envelope(id: u32) -> Envelope {
        Envelope {
            from_address: "pinch:bob@relay".into(),
            to_address: "pinch:alice@relay".into(),
            r#type: MessageType::Message.into(),
            message_id: Bytes::copy_from_slice(&id.to_be_bytes()),
            ..Envelope::default()
        }
    }

    fn is_new(seen: &mut Seen, envelope: &Envelope) -> bool {
        let message = envelope.to_bytes();
        seen.is_new(&EnvelopeView::parse(&message).unwrap(), &message)
    }

    fn is_new_id(seen: &mut Seen, id: u32) -> bool {
        is_new(seen, &envelope(id))
    }

    fn bytes(seen: &Seen) -> usize {
        seen.order.capacity() * size_of::<u128>() + seen.known.allocation_size()
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_a_duplicate_does_not_make_it_younger() {
        let mut seen = Seen::new(3, KEY);
        for id in [1, 2, 3] {
            assert!(is_new_id(&mut seen, id));
        }
        for id in [3, 1, 2, 1] {
            assert!(!is_new_id(&mut seen, id));
        }
        assert!(is_new_id(&mut seen, 4));
        assert!(!is_new_id(&mut seen, 2));
        assert!(!is_new_id(&mut seen, 3));
        assert!(is_new_id(&mut seen, 1), "4 took its place");
        assert!(is_new_id(&mut seen, 2), "1 took its place");
        assert!(!is_new_id(&mut seen, 4));
    }

    #[test]
    fn one_is_enough_to_remember_the_last() {
        let mut seen = Seen::new(1, KEY);
        let ids = [1, 1, 2, 2, 1, 1];
        let new = ids.map(|id| is_new_id(&mut seen, id));
        assert_eq!(new, [true, false, true, false, true, false]);
    }

    #[test]
    fn whatever_differs_is_no_duplicate() {
        let original = envelope(1);
        let others = [
            envelope(2),
            Envelope {
                from_address: "pinch:carol@relay".into(),
                ..original.clone()
            },
            Envelope {
                r#type: MessageType::DeliveryConfirm.into(),
                ..original.clone()
            },
            Envelope {
                timestamp: 1,
                ..original.clone()
            },
            // The same bytes, split between address and id elsewhere.
            Envelope {
                from_address: "pinch:bob@relayx".into(),
                message_id: original.message_id.slice(1..),
                ..original.clone()
            },
        ];
        let mut seen = Seen::new(10, KEY);
        assert!(is_new(&mut seen, &original));
        for other in &others {
            assert!(is_new(&mut seen, other), "{other:?}");
        }
        for known in others.iter().chain([&original]) {
            assert!(!is_new(&mut seen, known), "{known:?}");
        }
    }

    #[test]
    fn what_has_no_sender_no_id_or_a_type_of_the_relay_is_never_a_duplicate() {
        let from_relay = [
            MessageType::AuthChallenge,
            MessageType::AuthResponse,
            MessageType::AuthResult,
            MessageType::QueueStatus,
            MessageType::QueueFull,
            MessageType::RateLimited,
        ];
        let mut repeatable: Vec<Envelope> = from_relay
            .iter()
            .map(|&it| Envelope {
                r#type: it.into(),
                ..envelope(1)
            })
            .collect();
        repeatable.push(Envelope {
            from_address: "".into(),
            ..envelope(1)
        });
        repeatable.push(Envelope {
            message_id: Bytes::new(),
            ..envelope(1)
        });
        let mut seen = Seen::new(10, KEY);
        for envelope in &repeatable {
            for _ in 0..2 {
                assert!(is_new(&mut seen, envelope), "{envelope:?}");
            }
        }
        assert_eq!(bytes(&seen), 0, "nor do they take a place");
        let unknown = Envelope {
            r#type: 99,
            ..envelope(1)
        };
        assert!(is_new(&mut seen, &unknown));
        assert!(!is_new(&mut seen, &unknown));
    }

    #[test]
    fn serial_numbers_wrap_around() {
        let mut seen = Seen::new(4, KEY);
        seen.first = u32::MAX - 5;
        for id in 0..20 {
            assert!(is_new_id(&mut seen, id));
            for recent in id.saturating_sub(3)..=id {
                assert!(!is_new_id(&mut seen, recent), "{recent} at {id}");
            }
        }
        assert!(seen.first < 20, "{}", seen.first);
        assert_eq!((seen.order.len(), seen.known.len()), (4, 4));
    }

    #[test]
    fn memory_is_bounded_and_taken_as_it_is_needed() {
        for (bound, limit) in [(8192, 300 << 10), (7169, 300 << 10), (100, 100 * 42)] {
            let mut seen = Seen::new(bound, KEY);
            assert_eq!(bytes(&seen), 0);
            for id in 0..bound * 20 {
                assert!(is_new_id(&mut seen, id));
                assert!(bytes(&seen) <= limit, "{} after {id}", bytes(&seen));
            }
            assert_eq!(seen.order.len(), seen.known.len());
            assert!((bound * 19..bound * 20).all(|id| !is_new_id(&mut seen, id)));
            assert!(is_new_id(&mut seen, bound * 19 - 1));
        }
    }

    #[test]
    fn fingerprints_depend_on_the_key() {
        let seen = |key| Seen::new(1, [key; 16]);
        assert_eq!(seen(1).fingerprint(b"a"), seen(1).fingerprint(b"a"));
        assert_ne!(seen(1).fingerprint(b"a"), seen(2).fingerprint(b"a"));
    }

    /// The first two of the published vectors of SipHash-2-4 with 128 bits.
    #[test]
    fn fingerprints_are_siphash() {
        let key = core::array::from_fn(|at| u8::try_from(at).unwrap());
        let seen = Seen::new(1, key);
        let published = [
            0x9302_55c7_1472_f66d_e6a8_25ba_047f_81a3,
            0x45fc_229b_1159_7634_44af_996b_d8c1_87da,
        ];
        assert_eq!([&[][..], &[0]].map(|it| seen.fingerprint(it)), published);
    }
}
