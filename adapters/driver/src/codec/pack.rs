//! Memory for messages: what was masked in a buffer that is needed again is copied out of it, bare.
//!
//! An allocation for each message would cost more than the copy. So messages that a thread reads one
//! after another share one, a pack, whoever sent them, but none of them keeps much more memory alive
//! than it is long itself: a pack has at most [`PIN_FACTOR`] times the bytes of each message in it.

use core::cell::Cell;

use bytes::{Bytes, BytesMut};

/// How much memory a message may keep alive, in multiples of its length.
pub(super) const PIN_FACTOR: usize = 8;

/// Packs for messages that come one by one have no more bytes than this.
const LONE: usize = 4 << 10;

thread_local! {
    static PACK: Cell<Option<Pack>> = const { Cell::new(None) };
}

/// Lends `use_pack` the pack that this thread is filling.
pub(super) fn with_pack<T>(use_pack: impl FnOnce(&mut Pack) -> T) -> T {
    let mut pack = PACK.take().unwrap_or_default();
    let used = use_pack(&mut pack);
    PACK.set(Some(pack));
    used
}

/// The pack that is being filled.
#[derive(Default)]
pub(super) struct Pack {
    /// What is left of it.
    room: BytesMut,
    size: usize,
}

impl Pack {
    /// The message behind `masked`; `left` bytes, it among them, are there to be read.
    pub(super) fn unmask(&mut self, masked: &[u8], mask: [u8; 4], left: usize) -> Bytes {
        let longest = masked.len().saturating_mul(PIN_FACTOR);
        if masked.len() > self.room.capacity() || longest < self.size {
            self.size = rounded(longest).min(left.max(LONE));
            self.room = BytesMut::with_capacity(self.size);
        }
        self.room.extend_from_slice(masked);
        unmask(&mut self.room, mask);
        self.room.split().freeze()
    }
}

/// At most `size`, and the same for sizes that differ by little: messages of about one length share a
/// pack, whichever came first.
fn rounded(size: usize) -> usize {
    let step = size.checked_ilog2().map_or(1, |bits| (1 << bits) / 4);
    size - size % step.max(1)
}

/// Takes the mask off `bytes`, or puts it on (RFC 6455, section 5.3).
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    // As many bytes as the compiler finds a register for.
    let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    let (chunks, rest) = bytes.as_chunks_mut::<16>();
    for chunk in chunks {
        for (byte, mask) in chunk.iter_mut().zip(&wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(&wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn masked(payload: &[u8]) -> Vec<u8> {
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect()
    }

    #[test]
    fn a_mask_is_taken_off_whatever_the_length() {
        for length in 0..=200 {
            let payload: Vec<u8> = (0..length).collect();
            let mut bytes = masked(&payload);
            unmask(&mut bytes, MASK);
            assert_eq!(bytes, payload);
        }
    }

    #[test]
    fn messages_share_memory_of_which_none_keeps_much_more_than_itself() {
        let payloads =
            [100usize, 100, 100, 100, 100, 30, 30, 700, 0, 100, 5000].map(|length| vec![7; length]);
        let mut left = payloads.iter().map(Vec::len).sum();
        let mut pack = Pack::default();
        let mut sizes = Vec::new();
        for payload in &payloads {
            let message = pack.unmask(&masked(payload), MASK, left);
            assert_eq!(message, payload);
            assert!(pack.size <= payload.len() * PIN_FACTOR);
            left -= payload.len();
            sizes.push(pack.size);
        }
        assert_eq!(
            sizes,
            [768, 768, 768, 768, 768, 224, 224, 5120, 0, 768, 5000]
        );
    }

    #[test]
    fn messages_of_about_one_length_that_come_one_by_one_share_memory() {
        let mut pack = Pack::default();
        let messages = [340_u16, 339, 341, 340, 345, 338, 340].map(|length| {
            let payload = masked(&vec![7; length.into()]);
            pack.unmask(&payload, MASK, payload.len())
        });
        for (message, next) in messages.iter().zip(&messages[1..]) {
            assert_eq!(message.as_ptr_range().end, next.as_ptr());
        }
        // It would keep more than it may of what was meant for them.
        let small = pack.unmask(&masked(&[7; 20]), MASK, 20);
        assert_eq!((small.len(), pack.size), (20, 160));
    }
}
