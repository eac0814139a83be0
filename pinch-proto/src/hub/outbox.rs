//! The send buffer of one connection: control frames, and envelopes from when they are accepted until
//! they are acknowledged.
//!
//! Control is what the relay itself says: rejections, pongs, the answer to a close frame. Envelopes of
//! other agents are kept verbatim, as TCP keeps its bytes (RFC 9293, section 3.4): those in flight
//! first, then those that wait.
//!
//! ```text
//!          in flight                  waiting
//!   ├────────────────────────┬─────────────────────────┤
//!   una        probed       nxt                       end
//! ```
//! Transmitting moves `nxt`, an ack moves `una`. The protocol has no acknowledgement, but every peer
//! answers pings, and TCP keeps order: so a ping is an ack probe, and its pong acknowledges everything
//! before it. When to probe is decided by the connection, and what happens when something does not fit
//! by the hub. An empty outbox owns no memory.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::Frame;
use crate::queue::Seq;

/// Maximum number of pongs that wait for one connection.
pub(super) const MAX_PONGS: usize = 128;

/// Bytes that an envelope counts besides its own: for its place in lists, which may be three quarters
/// empty, and for what an allocator adds.
pub const ENVELOPE_OVERHEAD: usize = 256;

/// Maximum number of entries that a list has room for whatever is in it.
const MIN_ROOM: usize = 64;

/// Maximum number of buffers that a pool keeps.
const MAX_POOLED: usize = 64;

/// Maximum number of entries that the lists of a pooled buffer have room for.
const MAX_POOLED_ROOM: usize = 256;

/// Gives memory of a list back of which three quarters are unused.
fn shrink<T>(list: &mut VecDeque<T>) {
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
    /// It was read from the store, and stays there until it is acknowledged.
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

/// What an ack covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) count: u64,
    pub(super) bytes: usize,
    /// The last of them that the store can forget, and with it all before.
    pub(super) stored: Option<Seq>,
}

/// A ping, and how many envelopes were transmitted before it since the buffer was taken.
#[derive(Clone, Copy, Debug)]
struct AckProbe {
    number: u64,
    before: u64,
}

#[derive(Debug, Default)]
struct Buffer {
    control: VecDeque<Frame>,
    control_bytes: usize,
    pongs: usize,
    /// From una to end.
    envelopes: VecDeque<Queued>,
    /// How many of them are in flight.
    in_flight: usize,
    in_flight_bytes: usize,
    waiting_bytes: usize,
    /// The ack probes that have something in flight before them and are unanswered.
    probes: VecDeque<AckProbe>,
    /// The number of envelopes that were acknowledged, and of those that lay before a probe.
    acked: u64,
    probed: u64,
    /// Bytes in flight behind the last probe.
    unprobed_bytes: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.envelopes.is_empty() && self.control.is_empty()
    }

    /// The most entries that one of its lists has memory for.
    fn room(&self) -> usize {
        let lists = self.control.capacity().max(self.envelopes.capacity());
        lists.max(self.probes.capacity())
    }

    fn unprobed_count(&self) -> u64 {
        self.acked + self.in_flight as u64 - self.probed.max(self.acked)
    }

    /// Removes the first `count` in flight, which are acknowledged.
    fn remove_acked(&mut self, count: usize, mut release: impl FnMut(&Queued)) -> Acked {
        let mut acked = Acked::default();
        for queued in self.envelopes.drain(..count) {
            acked.bytes += queued.message.len();
            if queued.stored {
                acked.stored = Some(queued.seq);
            }
            release(&queued);
        }
        acked.count = count as u64;
        self.in_flight -= count;
        self.in_flight_bytes -= acked.bytes;
        self.acked += acked.count;
        acked
    }
}

/// Buffers that have become empty, for connections that need one next: one to which envelopes come one
/// by one does not ask for memory and give it back with each of them.
#[allow(
    clippy::vec_box,
    reason = "boxed as connections have them, so that they change hands without being moved"
)]
#[derive(Debug, Default)]
pub(super) struct BufferPool(Vec<Box<Buffer>>);

impl BufferPool {
    fn take(&mut self) -> Box<Buffer> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps `buffer`, which is empty, or gives its memory back.
    fn put(&mut self, mut buffer: Box<Buffer>) {
        if self.0.len() < MAX_POOLED && buffer.room() <= MAX_POOLED_ROOM {
            buffer.probes.clear();
            buffer.unprobed_bytes = 0;
            self.0.push(buffer);
        }
    }
}

/// The send buffer of one connection.
#[derive(Debug, Default)]
pub(super) struct Outbox(Option<Box<Buffer>>);

impl Outbox {
    /// Whether so many envelopes more may wait, with so many bytes in all.
    pub(super) fn has_room(&self, (count, bytes): (usize, usize), limits: &OutboxLimits) -> bool {
        self.waiting_bytes() + bytes <= limits.data_bytes
            && self.waiting() + count <= limits.data_count
    }

    /// Adds an envelope, whether there is room or not.
    pub(super) fn push(&mut self, queued: Queued, pool: &mut BufferPool) {
        let buffer = self.0.get_or_insert_with(|| pool.take());
        buffer.waiting_bytes += queued.message.len();
        buffer.envelopes.push_back(queued);
    }

    /// Adds a frame of the relay itself. Beyond [`MAX_PONGS`], a pong takes the place of the last one
    /// before it.
    pub(super) fn push_control(&mut self, frame: Frame, pool: &mut BufferPool) {
        let buffer = self.0.get_or_insert_with(|| pool.take());
        let is_pong = |frame: &Frame| matches!(frame, Frame::Pong(_));
        if is_pong(&frame) {
            if buffer.pongs >= MAX_PONGS
                && let Some(last) = buffer.control.iter().rposition(is_pong)
                && let Some(dropped) = buffer.control.remove(last)
            {
                buffer.control_bytes -= dropped.len();
                buffer.pongs -= 1;
            }
            buffer.pongs += 1;
        }
        buffer.control_bytes += frame.len();
        buffer.control.push_back(frame);
    }

    /// Puts a message of the relay before all others.
    pub(super) fn push_control_first(&mut self, message: Bytes, pool: &mut BufferPool) {
        let buffer = self.0.get_or_insert_with(|| pool.take());
        buffer.control_bytes += message.len();
        buffer.control.push_front(Frame::Message(message));
    }

    /// Takes the next frame of the relay. It goes before envelopes.
    pub(super) fn pop_control(&mut self, pool: &mut BufferPool) -> Option<Frame> {
        let buffer = self.0.as_mut()?;
        let frame = buffer.control.pop_front()?;
        buffer.control_bytes -= frame.len();
        buffer.pongs -= usize::from(matches!(frame, Frame::Pong(_)));
        self.give_back(pool);
        Some(frame)
    }

    /// Whether the next frame of the relay is a pong.
    pub(super) fn is_pong_next(&self) -> bool {
        let buffer = self.0.as_ref();
        let next = buffer.and_then(|buffer| buffer.control.front());
        matches!(next, Some(Frame::Pong(_)))
    }

    /// The next envelope, which is in flight from here on.
    pub(super) fn transmit(&mut self) -> Option<&Queued> {
        let buffer = self.0.as_mut()?;
        let queued = buffer.envelopes.get(buffer.in_flight)?;
        let bytes = queued.message.len();
        buffer.in_flight += 1;
        buffer.in_flight_bytes += bytes;
        buffer.unprobed_bytes += bytes;
        buffer.waiting_bytes -= bytes;
        Some(queued)
    }

    /// Takes the next envelope, where none is kept until it is acknowledged.
    pub(super) fn pop(&mut self, pool: &mut BufferPool) -> Option<Queued> {
        let buffer = self.0.as_mut()?;
        let queued = buffer.envelopes.pop_front()?;
        buffer.waiting_bytes -= queued.message.len();
        shrink(&mut buffer.envelopes);
        self.give_back(pool);
        Some(queued)
    }

    /// The ping `number` is transmitted: its pong acknowledges everything in flight.
    pub(super) fn probe(&mut self, number: u64) {
        if let Some(buffer) = &mut self.0
            && buffer.unprobed_count() > 0
        {
            let before = buffer.acked + buffer.in_flight as u64;
            buffer.probes.push_back(AckProbe { number, before });
            buffer.probed = before;
            buffer.unprobed_bytes = 0;
        }
    }

    /// The pong of the ping `number` came, an ack probe or not. `release` gets each envelope that it
    /// acknowledges.
    pub(super) fn ack(
        &mut self,
        number: u64,
        pool: &mut BufferPool,
        release: impl FnMut(&Queued),
    ) -> Acked {
        let Some(buffer) = &mut self.0 else {
            return Acked::default();
        };
        // A peer may answer the last of several pings only (RFC 6455, section 5.5.3).
        let mut through = buffer.acked;
        while let Some(probe) = buffer.probes.front()
            && probe.number <= number
        {
            through = through.max(probe.before);
            buffer.probes.pop_front();
        }
        let count = usize::try_from(through - buffer.acked).unwrap_or(usize::MAX);
        let acked = buffer.remove_acked(count.min(buffer.in_flight), release);
        shrink(&mut buffer.envelopes);
        self.give_back(pool);
        acked
    }

    /// Everything in flight is acknowledged, probed or not. `release` gets each of it.
    pub(super) fn ack_all(&mut self, pool: &mut BufferPool, release: impl FnMut(&Queued)) -> Acked {
        let Some(buffer) = &mut self.0 else {
            return Acked::default();
        };
        buffer.probes.clear();
        buffer.unprobed_bytes = 0;
        let acked = buffer.remove_acked(buffer.in_flight, release);
        self.give_back(pool);
        acked
    }

    /// Parts with the memory if nothing is in it.
    fn give_back(&mut self, pool: &mut BufferPool) {
        if let Some(buffer) = self.0.take_if(|buffer| buffer.is_empty()) {
            pool.put(buffer);
        }
    }

    /// Takes all envelopes that wait, in order.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Queued> {
        let Some(buffer) = &mut self.0 else {
            return VecDeque::new();
        };
        buffer.waiting_bytes = 0;
        let waiting = buffer.envelopes.split_off(buffer.in_flight);
        self.0.take_if(|buffer| buffer.is_empty());
        waiting
    }

    /// Takes all envelopes in flight, in order.
    pub(super) fn take_in_flight(&mut self) -> VecDeque<Queued> {
        let Some(buffer) = &mut self.0 else {
            return VecDeque::new();
        };
        let waiting = buffer.envelopes.split_off(buffer.in_flight);
        let in_flight = core::mem::replace(&mut buffer.envelopes, waiting);
        (buffer.in_flight, buffer.in_flight_bytes) = (0, 0);
        buffer.acked += in_flight.len() as u64;
        buffer.probes.clear();
        buffer.unprobed_bytes = 0;
        self.0.take_if(|buffer| buffer.is_empty());
        in_flight
    }

    fn buffer<T: Default>(&self, of: impl FnOnce(&Buffer) -> T) -> T {
        self.0.as_deref().map(of).unwrap_or_default()
    }

    pub(super) fn has_control(&self) -> bool {
        self.buffer(|buffer| !buffer.control.is_empty())
    }

    /// The payload bytes of the frames of the relay that wait.
    pub(super) fn control_bytes(&self) -> usize {
        self.buffer(|buffer| buffer.control_bytes)
    }

    /// The number of envelopes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.buffer(|buffer| buffer.envelopes.len() - buffer.in_flight)
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.buffer(|buffer| buffer.waiting_bytes)
    }

    /// The number of envelopes in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.buffer(|buffer| buffer.in_flight)
    }

    pub(super) fn in_flight_bytes(&self) -> usize {
        self.buffer(|buffer| buffer.in_flight_bytes)
    }

    /// The number and the bytes of all.
    pub(super) fn held(&self) -> (usize, usize) {
        self.buffer(|buffer| {
            let bytes = buffer.in_flight_bytes + buffer.waiting_bytes;
            (buffer.envelopes.len(), bytes)
        })
    }

    /// The number of the last ping that is unanswered and has something in flight before it.
    pub(super) fn last_probe(&self) -> Option<u64> {
        self.buffer(|buffer| buffer.probes.back().map(|probe| probe.number))
    }

    /// How many envelopes are in flight behind the last ack probe.
    pub(super) fn unprobed_count(&self) -> u64 {
        self.buffer(Buffer::unprobed_count)
    }

    /// The bytes of those.
    pub(super) fn unprobed_bytes(&self) -> usize {
        self.buffer(|buffer| buffer.unprobed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::hub::shares::NO_PLACE;

    fn queued(text: &'static str) -> Queued {
        Queued {
            seq: Seq(text.len() as u64),
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

    /// An outbox in which these are in flight.
    fn in_flight(messages: impl IntoIterator<Item = Queued>) -> (Outbox, BufferPool) {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        for queued in messages {
            send(&mut outbox, &mut pool, &queued);
        }
        (outbox, pool)
    }

    fn send(outbox: &mut Outbox, pool: &mut BufferPool, queued: &Queued) {
        outbox.push(queued.clone(), pool);
        assert_eq!(outbox.transmit(), Some(queued));
    }

    fn ack(outbox: &mut Outbox, pool: &mut BufferPool, number: u64) -> Acked {
        outbox.ack(number, pool, |_| ())
    }

    #[test]
    fn of_more_pongs_than_may_wait_the_newest_are_kept_behind_what_came_before() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        for number in 0..200_u8 {
            outbox.push_control(Frame::Pong(vec![number].into()), &mut pool);
        }
        outbox.push_control(message("c"), &mut pool);
        outbox.push_control(Frame::Pong("last".into()), &mut pool);
        let frames: Vec<_> = core::iter::from_fn(|| outbox.pop_control(&mut pool)).collect();
        assert_eq!(frames.len(), MAX_PONGS + 1);
        assert_eq!(frames[126], Frame::Pong(vec![126].into()));
        assert_eq!(frames[127..], [message("c"), Frame::Pong("last".into())]);
        assert_eq!(outbox.control_bytes(), 0);
    }

    #[test]
    fn control_and_envelopes_keep_their_order_and_an_empty_outbox_owns_no_memory() {
        let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
        outbox.push(queued("d1"), &mut pool);
        outbox.push_control(message("c1"), &mut pool);
        outbox.push(queued("d22"), &mut pool);
        outbox.push_control(message("c2"), &mut pool);
        outbox.push_control_first("c0".into(), &mut pool);
        let frames: Vec<_> = core::iter::from_fn(|| outbox.pop_control(&mut pool)).collect();
        assert_eq!(frames, ["c0", "c1", "c2"].map(message));
        assert_eq!((outbox.waiting(), outbox.waiting_bytes()), (2, 5));
        assert_eq!(outbox.transmit(), Some(&queued("d1")));
        assert_eq!((outbox.waiting(), outbox.in_flight_bytes()), (1, 2));
        assert_eq!(outbox.take_waiting(), [queued("d22")]);
        assert_eq!(outbox.transmit(), None);
        assert_eq!(outbox.take_in_flight(), [queued("d1")]);
        assert!(outbox.0.is_none());
    }

    #[test]
    fn a_pong_acknowledges_what_went_before_its_ping_and_nothing_else() {
        let (mut outbox, mut pool) = in_flight(["1", "22"].map(queued));
        outbox.probe(7);
        outbox.probe(8);
        assert_eq!(outbox.last_probe(), Some(7), "nothing new went before 8");
        send(&mut outbox, &mut pool, &queued("333"));
        assert_eq!((outbox.held(), outbox.unprobed_bytes()), ((3, 6), 3));
        assert_eq!(ack(&mut outbox, &mut pool, 6).count, 0, "an earlier ping");
        let acked = Acked {
            count: 2,
            bytes: 3,
            stored: None,
        };
        assert_eq!(ack(&mut outbox, &mut pool, 7), acked);
        assert_eq!(ack(&mut outbox, &mut pool, 7).count, 0, "it was answered");
        assert_eq!(outbox.unprobed_count(), 1);
        outbox.probe(9);
        assert_eq!(ack(&mut outbox, &mut pool, 9).count, 1);
        assert!(outbox.0.is_none());
    }

    #[test]
    fn a_later_pong_speaks_for_the_earlier_ones() {
        let (mut outbox, mut pool) = in_flight([]);
        for (text, number) in [("1", 1), ("2", 2), ("3", 5)] {
            send(&mut outbox, &mut pool, &queued(text));
            outbox.probe(number);
        }
        let counts = [2, 1, 5].map(|number| ack(&mut outbox, &mut pool, number).count);
        assert_eq!(counts, [2, 0, 1]);
    }

    #[test]
    fn the_last_stored_one_among_the_acknowledged_is_named() {
        let stored = |text| Queued {
            stored: true,
            ..queued(text)
        };
        let (mut outbox, mut pool) = in_flight([stored("1"), stored("22"), queued("333")]);
        outbox.probe(1);
        send(&mut outbox, &mut pool, &stored("4444"));
        assert_eq!(ack(&mut outbox, &mut pool, 1).stored, Some(Seq(2)));
        assert_eq!(outbox.ack_all(&mut pool, |_| ()).stored, Some(Seq(4)));
        assert_eq!(ack(&mut outbox, &mut pool, 1), Acked::default());
    }

    #[test]
    fn few_buffers_are_pooled_and_none_that_is_large() {
        let mut pool = BufferPool::default();
        let mut outboxes = [(); MAX_POOLED + 1].map(|()| Outbox::default());
        for outbox in &mut outboxes {
            outbox.push(queued("1"), &mut pool);
            outbox.transmit();
        }
        for outbox in &mut outboxes {
            outbox.ack_all(&mut pool, |_| ());
        }
        assert_eq!(pool.0.len(), MAX_POOLED);
        for _ in 0..10 * MAX_POOLED_ROOM {
            send(&mut outboxes[0], &mut pool, &queued("1"));
        }
        outboxes[0].ack_all(&mut pool, |_| ());
        assert_eq!(pool.0.len(), MAX_POOLED - 1);
        assert!(pool.0.iter().all(|buffer| buffer.room() <= MAX_POOLED_ROOM));
    }
}
