//! What waits to be sent to one connection: control before data, both within limits.
//!
//! Control is what the relay itself says: rejections, pongs, the answer to a close frame. Data are
//! envelopes of other agents, kept verbatim. An outbox decides whether something fits; what happens when it does not is the hub's
//! decision. An empty outbox owns no memory.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::Bytes;

use super::spares::Spares;
use crate::Frame;
use crate::queue::Seq;

/// Maximum number of pongs that wait for one connection.
pub(super) const MAX_PONGS: usize = 128;

/// Bytes that an envelope counts besides its own: for its place in lists, which may be three quarters
/// empty, and for what an allocator adds.
pub const ENVELOPE_OVERHEAD: usize = 256;

/// Maximum number of entries that a list has room for whatever is in it.
const MIN_ROOM: usize = 64;

/// Gives memory of a list back of which three quarters are unused.
pub(super) fn shrink<T>(list: &mut VecDeque<T>) {
    let (room, length) = (list.capacity(), list.len());
    if room > MIN_ROOM && length <= room / 4 {
        list.shrink_to(MIN_ROOM.max(2 * length));
    }
}

/// An envelope on its way to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) seq: Seq,
    /// Its place in the queue is reserved.
    pub(super) reserved: bool,
    /// It was read from the store, and stays there until it is confirmed.
    pub(super) stored: bool,
    /// The place of its sender among the [`Shares`](super::shares::Shares), if it is reserved there.
    pub(super) sender: u32,
    /// Its recipient may answer it with a DELIVERY_CONFIRM that costs no token.
    pub(super) confirmable: bool,
    pub(super) message: Bytes,
}

/// How much may wait for one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    pub(super) data_bytes: usize,
    pub(super) data_count: usize,
    pub(super) control_bytes: usize,
}

/// The messages that wait for one connection, while there are some.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    control: VecDeque<Frame>,
    data: VecDeque<Queued>,
    control_bytes: usize,
    pongs: usize,
    data_bytes: usize,
}

impl Waiting {
    /// How many messages it has memory for, of either kind.
    pub(super) fn room(&self) -> usize {
        self.control.capacity().max(self.data.capacity())
    }

    fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }
}

/// The messages that wait for one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox(Option<Box<Waiting>>);

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
        self.data_bytes() + bytes <= limits.data_bytes
            && self.data_len() + count <= limits.data_count
    }

    /// Queues an envelope, whether there is room or not.
    pub(super) fn push_data(&mut self, queued: Queued, spares: &mut Spares) {
        let waiting = self.0.get_or_insert_with(|| spares.take_waiting());
        waiting.data_bytes += queued.message.len();
        waiting.data.push_back(queued);
    }

    /// Queues a frame of the relay itself. Beyond [`MAX_PONGS`], a pong takes the place of the last
    /// one before it.
    pub(super) fn push_control(&mut self, frame: Frame, spares: &mut Spares) {
        let waiting = self.0.get_or_insert_with(|| spares.take_waiting());
        let is_pong = |frame: &Frame| matches!(frame, Frame::Pong(_));
        if is_pong(&frame) {
            if waiting.pongs >= MAX_PONGS
                && let Some(last) = waiting.control.iter().rposition(is_pong)
                && let Some(dropped) = waiting.control.remove(last)
            {
                waiting.control_bytes -= dropped.len();
                waiting.pongs -= 1;
            }
            waiting.pongs += 1;
        }
        waiting.control_bytes += frame.len();
        waiting.control.push_back(frame);
    }

    /// Puts a message of the relay before all others.
    pub(super) fn push_control_first(&mut self, message: Bytes, spares: &mut Spares) {
        let waiting = self.0.get_or_insert_with(|| spares.take_waiting());
        waiting.control_bytes += message.len();
        waiting.control.push_front(Frame::Message(message));
    }

    /// The next frame of the relay. It goes before data.
    pub(super) fn pop_control(&mut self, spares: &mut Spares) -> Option<Frame> {
        let waiting = self.0.as_mut()?;
        let frame = waiting.control.pop_front()?;
        waiting.control_bytes -= frame.len();
        waiting.pongs -= usize::from(matches!(frame, Frame::Pong(_)));
        self.give_back(spares);
        Some(frame)
    }

    /// Whether the next frame of the relay is a pong.
    pub(super) fn is_pong_next(&self) -> bool {
        let waiting = self.0.as_ref();
        let next = waiting.and_then(|waiting| waiting.control.front());
        matches!(next, Some(Frame::Pong(_)))
    }

    /// The next envelope.
    pub(super) fn pop_data(&mut self, spares: &mut Spares) -> Option<Queued> {
        let waiting = self.0.as_mut()?;
        let queued = waiting.data.pop_front()?;
        shrink(&mut waiting.data);
        waiting.data_bytes -= queued.message.len();
        self.give_back(spares);
        Some(queued)
    }

    /// Parts with the memory if nothing waits in it.
    fn give_back(&mut self, spares: &mut Spares) {
        if let Some(waiting) = self.0.take_if(|waiting| waiting.is_empty()) {
            spares.keep_waiting(waiting);
        }
    }

    /// Takes all envelopes, in order, and leaves control where it is.
    pub(super) fn take_data(&mut self) -> VecDeque<Queued> {
        let Some(waiting) = &mut self.0 else {
            return VecDeque::new();
        };
        waiting.data_bytes = 0;
        let data = core::mem::take(&mut waiting.data);
        self.0.take_if(|waiting| waiting.is_empty());
        data
    }

    /// Puts envelopes that were accepted before ahead of all others.
    pub(super) fn restore_data(&mut self, mut data: VecDeque<Queued>) {
        if data.is_empty() {
            return;
        }
        let waiting = self.0.get_or_insert_default();
        waiting.data_bytes += data
            .iter()
            .map(|queued| queued.message.len())
            .sum::<usize>();
        data.append(&mut waiting.data);
        waiting.data = data;
    }

    pub(super) fn has_control(&self) -> bool {
        let waiting = self.0.as_ref();
        waiting.is_some_and(|waiting| !waiting.control.is_empty())
    }

    /// The payload bytes of the frames of the relay that wait.
    pub(super) fn control_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.control_bytes)
    }

    pub(super) fn data_len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.data.len())
    }

    pub(super) fn data_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.data_bytes)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::hub::shares::NO_PLACE;

    const LIMITS: OutboxLimits = OutboxLimits {
        data_bytes: 10,
        data_count: 3,
        control_bytes: 4,
    };

    fn queued(text: &'static str) -> Queued {
        Queued {
            seq: Seq(0),
            stored: false,
            reserved: false,
            sender: NO_PLACE,
            confirmable: true,
            message: text.into(),
        }
    }

    fn message(text: &'static str) -> Frame {
        Frame::Message(text.into())
    }

    #[test]
    fn of_more_pongs_than_may_wait_the_newest_are_kept_behind_what_came_before() {
        let mut outbox = Outbox::default();
        let mut push = |frame| outbox.push_control(frame, &mut Spares::default());
        for number in 0..200_u8 {
            push(Frame::Pong(vec![number].into()));
        }
        push(message("c"));
        push(Frame::Pong("last".into()));
        let frames: Vec<_> =
            core::iter::from_fn(|| outbox.pop_control(&mut Spares::default())).collect();
        assert_eq!(frames.len(), MAX_PONGS + 1);
        assert_eq!(frames[126], Frame::Pong(vec![126].into()));
        assert_eq!(frames[127..], [message("c"), Frame::Pong("last".into())]);
        assert_eq!(outbox.control_bytes(), 0);
    }

    #[test]
    fn control_and_data_keep_their_order() {
        let mut outbox = Outbox::default();
        outbox.push_data(queued("d1"), &mut Spares::default());
        outbox.push_control(message("c1"), &mut Spares::default());
        outbox.push_data(queued("d2"), &mut Spares::default());
        outbox.push_control(message("c2"), &mut Spares::default());
        outbox.push_control_first("c0".into(), &mut Spares::default());
        for text in ["c0", "c1", "c2"] {
            assert!(outbox.has_control());
            assert_eq!(
                outbox.pop_control(&mut Spares::default()),
                Some(message(text))
            );
        }
        assert!(!outbox.has_control());
        for text in ["d1", "d2"] {
            assert_eq!(outbox.pop_data(&mut Spares::default()), Some(queued(text)));
        }
        assert_eq!(
            (
                outbox.pop_control(&mut Spares::default()),
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
        outbox.push_control(message("12345"), &mut Spares::default());
        assert_eq!(outbox.control_bytes(), 5);
        outbox.pop_control(&mut Spares::default());
        assert_eq!(outbox.control_bytes(), 0);
    }

    #[test]
    fn an_empty_outbox_owns_no_memory() {
        let mut outbox = Outbox::default();
        outbox.push_data(queued("1"), &mut Spares::default());
        outbox.push_control(message("1"), &mut Spares::default());
        outbox.pop_data(&mut Spares::default());
        outbox.pop_control(&mut Spares::default());
        assert!(outbox.0.is_none());
        outbox.push_data(queued("1"), &mut Spares::default());
        outbox.take_data();
        outbox.restore_data(VecDeque::new());
        assert!(outbox.0.is_none());
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
