//! What waits to be sent to one connection: control before data, both within limits.
//!
//! Control is what the relay itself says (refusals); data are envelopes of other agents, kept
//! verbatim. An outbox decides whether something fits; what happens when it does not is the hub's
//! decision. An empty outbox owns no memory.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::spares::Spares;
use crate::queue::Seq;

/// An envelope on its way to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) seq: Seq,
    /// It was read from the store, and stays there until it is confirmed.
    pub(super) stored: bool,
    pub(super) message: Bytes,
}

/// How much may wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    pub(super) data_bytes: usize,
    pub(super) data_count: usize,
    pub(super) control_bytes: usize,
}

/// The messages that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: VecDeque<Bytes>,
    data: VecDeque<Queued>,
    control_bytes: usize,
    data_bytes: usize,
}

impl Outbox {
    /// Whether an envelope of `bytes` fits, where `held` more wait behind the outbox.
    pub(super) fn has_room(
        &self,
        bytes: usize,
        held: (usize, usize),
        limits: &OutboxLimits,
    ) -> bool {
        let (held_count, held_bytes) = held;
        self.can_hold((held_count + 1, held_bytes + bytes), limits)
    }

    /// Whether so many envelopes more fit, with so many bytes in all.
    pub(super) fn can_hold(&self, more: (usize, usize), limits: &OutboxLimits) -> bool {
        let (count, bytes) = more;
        self.data_bytes + bytes <= limits.data_bytes && self.data.len() + count <= limits.data_count
    }

    /// Queues an envelope, whether there is room or not.
    pub(super) fn push_data(&mut self, queued: Queued, spares: &mut Spares) {
        self.data_bytes += queued.message.len();
        if self.data.capacity() == 0 {
            self.data = spares.take_list();
        }
        self.data.push_back(queued);
    }

    /// Queues a message of the relay itself, or gives it back if too much of it is unread.
    pub(super) fn push_control(
        &mut self,
        message: Bytes,
        limits: &OutboxLimits,
    ) -> Result<(), Bytes> {
        let bytes = self.control_bytes.saturating_add(message.len());
        if bytes > limits.control_bytes {
            return Err(message);
        }
        self.control_bytes = bytes;
        self.control.push_back(message);
        Ok(())
    }

    /// Puts a message of the relay before all others, beyond any limit.
    pub(super) fn push_control_first(&mut self, message: Bytes) {
        self.control_bytes += message.len();
        self.control.push_front(message);
    }

    /// The next message of the relay. It goes before data.
    pub(super) fn pop_control(&mut self) -> Option<Bytes> {
        let message = self.control.pop_front()?;
        self.control_bytes -= message.len();
        if self.control.is_empty() {
            self.control = VecDeque::new();
        }
        Some(message)
    }

    /// The next envelope.
    pub(super) fn pop_data(&mut self, spares: &mut Spares) -> Option<Queued> {
        let queued = self.data.pop_front()?;
        self.data_bytes -= queued.message.len();
        if self.data.is_empty() {
            spares.keep_list(core::mem::take(&mut self.data));
        }
        Some(queued)
    }

    /// Takes all envelopes, in order, and leaves control where it is.
    pub(super) fn take_data(&mut self) -> VecDeque<Queued> {
        self.data_bytes = 0;
        core::mem::take(&mut self.data)
    }

    /// Puts envelopes that were accepted before ahead of all others.
    pub(super) fn restore_data(&mut self, mut data: VecDeque<Queued>) {
        self.data_bytes += data
            .iter()
            .map(|queued| queued.message.len())
            .sum::<usize>();
        data.append(&mut self.data);
        self.data = data;
    }

    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    pub(super) fn data_len(&self) -> usize {
        self.data.len()
    }

    pub(super) const fn data_bytes(&self) -> usize {
        self.data_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits {
        data_bytes: 10,
        data_count: 3,
        control_bytes: 4,
    };

    fn queued(text: &'static str) -> Queued {
        Queued {
            seq: Seq(0),
            stored: false,
            message: text.into(),
        }
    }

    #[test]
    fn control_and_data_keep_their_order() {
        let mut outbox = Outbox::default();
        outbox.push_data(queued("d1"), &mut Spares::default());
        outbox.push_control("c1".into(), &LIMITS).unwrap();
        outbox.push_data(queued("d2"), &mut Spares::default());
        outbox.push_control("c2".into(), &LIMITS).unwrap();
        outbox.push_control_first("c0".into());
        for text in ["c0", "c1", "c2"] {
            assert!(outbox.has_control());
            assert_eq!(outbox.pop_control(), Some(text.into()));
        }
        assert!(!outbox.has_control());
        for text in ["d1", "d2"] {
            assert_eq!(outbox.pop_data(&mut Spares::default()), Some(queued(text)));
        }
        assert_eq!(
            (
                outbox.pop_control(),
                outbox.pop_data(&mut Spares::default())
            ),
            (None, None)
        );
    }

    #[test]
    fn bytes_and_count_are_both_limits_and_come_free_again() {
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(10, (0, 0), &LIMITS));
        assert!(!outbox.has_room(11, (0, 0), &LIMITS));
        outbox.push_data(queued("123456"), &mut Spares::default());
        assert!(outbox.has_room(4, (0, 0), &LIMITS));
        assert!(!outbox.has_room(5, (0, 0), &LIMITS));
        assert!(!outbox.has_room(4, (1, 1), &LIMITS));
        outbox.push_data(queued("1"), &mut Spares::default());
        assert!(!outbox.has_room(0, (1, 0), &LIMITS));
        outbox.push_data(queued("1"), &mut Spares::default());
        assert!(!outbox.has_room(0, (0, 0), &LIMITS));
        assert_eq!((outbox.data_len(), outbox.data_bytes()), (3, 8));
        outbox.pop_data(&mut Spares::default());
        assert_eq!((outbox.data_len(), outbox.data_bytes()), (2, 2));
        assert!(outbox.has_room(8, (0, 0), &LIMITS));
        assert_eq!(
            outbox.push_control("12345".into(), &LIMITS),
            Err("12345".into())
        );
        outbox.push_control("1234".into(), &LIMITS).unwrap();
        assert_eq!(outbox.push_control("1".into(), &LIMITS), Err("1".into()));
        outbox.pop_control();
        outbox.push_control("1234".into(), &LIMITS).unwrap();
    }

    #[test]
    fn an_empty_outbox_owns_no_memory() {
        let mut outbox = Outbox::default();
        outbox.push_data(queued("1"), &mut Spares::default());
        outbox.push_control("1".into(), &LIMITS).unwrap();
        outbox.pop_data(&mut Spares::default());
        outbox.pop_control();
        assert_eq!((outbox.data.capacity(), outbox.control.capacity()), (0, 0));
    }

    #[test]
    fn restored_data_goes_first_and_counts() {
        let mut outbox = Outbox::default();
        outbox.push_data(queued("new"), &mut Spares::default());
        outbox.restore_data(["a", "b"].map(queued).into());
        assert_eq!((outbox.data_len(), outbox.data_bytes()), (3, 5));
        assert_eq!(outbox.take_data(), ["a", "b", "new"].map(queued));
        assert_eq!((outbox.data_len(), outbox.data_bytes()), (0, 0));
    }
}
