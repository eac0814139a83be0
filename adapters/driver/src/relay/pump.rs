//! The task of one connection: it moves the bytes of a [`Session`], and decides nothing.
//!
//! Each round reads what the stream has, visits the hub once to hand all of it in and to take what
//! there is to write, and writes that with one call. Buffers belong to the thread, not to the
//! connection: while it is idle, it owns none, and once it has joined, nothing of the handshake.

use core::cell::Cell;
use core::future::Future;
use core::net::IpAddr;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use pinch_proto::hub::{ConnId, Input, ShardId};
use pinch_proto::peers::Place;
use pinch_proto::{Frame, Time};

use super::counts::TaskCount;
use super::hubs::Left;
use super::pending::Pending;
use super::reports::Report;
use super::shared::Shared;
use crate::clock::unix_now;
use crate::session::{Entry, Event, MAX_READ, Session, WriteBatch};
use crate::{Runtime, Stream};

/// Maximum number of bytes that one round takes from the hub.
const BATCH: usize = 256 << 10;

/// Maximum number of rounds in one poll, before other tasks get their turn.
const ROUNDS: usize = 16;

/// Maximum duration of the rounds of one poll: when it is over, the last of them ends.
const TURN: Duration = Duration::from_micros(200);

/// Number of messages, or frames, that a thread keeps room for between two polls: a batch of small
/// ones.
const MAX_KEPT: usize = 1024;

/// What a round needs, lent by the thread.
#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    write: WriteBatch,
    /// What the hub has transmitted.
    frames: Vec<Frame>,
    /// What came, for the hub.
    inputs: Vec<Input>,
    left: Left,
}

impl Buffers {
    /// A round that ends the connection may leave something behind: it belongs to no other. And what
    /// has become very large, a peer has made so.
    fn clear(&mut self) {
        if !self.write.is_empty() {
            self.write.clear();
        }
        if self.frames.capacity() > MAX_KEPT || !self.frames.is_empty() {
            self.frames = Vec::new();
        }
        if self.inputs.capacity() > MAX_KEPT || !self.inputs.is_empty() {
            self.inputs = Vec::new();
        }
    }
}

thread_local! {
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// Serves `stream`, which comes from `peer`, in a task of its own.
pub(super) fn spawn<R: Runtime>(
    shared: &Arc<Shared<R>>,
    stream: impl Stream,
    peer: Option<IpAddr>,
    entry: Entry,
) {
    let config = Arc::clone(&shared.session);
    let pump = Pump {
        session: Session::new(config, entry, peer, shared.clock.now()),
        stage: Stage::Joining(Box::new(Handshake {
            pending: shared.admit(peer),
            sleep: None,
        })),
        stream,
        shard: ShardId::default(),
        unsent: None,
        count: shared.count_task(),
    };
    shared.runtime.spawn(pump);
}

struct Pump<R: Runtime, S: Stream> {
    stream: S,
    session: Session,
    stage: Stage<R>,
    /// Where its address lives, once it has joined.
    shard: ShardId,
    /// What the stream has not taken. If it is empty, the stream has taken it and not passed it on:
    /// one that encrypts has a buffer of its own.
    unsent: Option<Box<WriteBatch>>,
    /// The last to be dropped.
    count: TaskCount<R>,
}

enum Stage<R: Runtime> {
    Joining(Box<Handshake<R>>),
    /// Its place among the connections of its address.
    Joined(Option<Place>),
}

/// What a connection needs until it has joined.
struct Handshake<R: Runtime> {
    pending: Pending<R>,
    /// Until the session's next deadline.
    sleep: Option<(Time, Pin<Box<R::Sleep>>)>,
}

/// The rounds of one poll.
#[derive(Default)]
struct Turn {
    /// The first visit of the hub, and the last.
    visits: Option<(Time, Time)>,
    /// The hub knows everything, and has no more to transmit: it wakes the task when it has.
    is_told: bool,
}

impl Turn {
    fn visited(&mut self, now: Time) {
        let (first, _) = self.visits.unwrap_or((now, now));
        self.visits = Some((first, now));
    }

    /// The duration, as far as the clock was read.
    fn lasted(&self) -> Duration {
        self.visits
            .map_or(Duration::ZERO, |(first, last)| last.since(first))
    }
}

/// How a round ended.
enum Round {
    /// There may be more to do.
    Again,
    /// Nothing can be done until the stream, the hub or the clock moves.
    Wait,
    /// The connection has ended.
    Over,
}

impl<R: Runtime, S: Stream> Future for Pump<R, S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Taken out, not borrowed: a stream of the user's may poll another connection inside ours.
        let mut buffers = BUFFERS.take().unwrap_or_default();
        let mut round = Round::Again;
        let mut turn = Turn::default();
        for _ in 0..ROUNDS {
            // An error of the stream is the end of the connection.
            round = this
                .round(&mut buffers, &mut turn, cx)
                .unwrap_or(Round::Over);
            if !matches!(round, Round::Again) || turn.lasted() >= TURN {
                break;
            }
        }
        buffers.clear();
        BUFFERS.set(Some(buffers));
        match round {
            Round::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Round::Wait => Poll::Pending,
            Round::Over => Poll::Ready(()),
        }
    }
}

impl<R: Runtime, S: Stream> Pump<R, S> {
    fn round(
        &mut self,
        buffers: &mut Buffers,
        turn: &mut Turn,
        cx: &mut Context<'_>,
    ) -> io::Result<Round> {
        let was_blocked = self.unsent.is_some();
        let has_progressed = self.write_unsent(cx)?;
        turn.is_told &= !has_progressed && was_blocked == self.unsent.is_some();
        let wanted = self.session.wants_read(self.unsent.is_some());
        let has_read = self.read(wanted, buffers, cx)?;
        if turn.is_told && !has_read {
            return Ok(Round::Wait);
        }
        let transmitted = match self.session.conn() {
            Some(conn) => self.exchange(conn, has_progressed, buffers, turn, cx),
            None => self.join(buffers, turn, cx),
        };
        let is_alive = transmitted.is_some();
        self.write(&mut buffers.write, cx)?;
        if self.unsent.is_none() {
            self.session.flushed();
            if self.session.wants_end() && Pin::new(&mut self.stream).poll_close(cx)?.is_ready() {
                self.session.ended();
            }
        }
        if !is_alive || self.session.is_over() {
            return Ok(Round::Over);
        }
        // Of less than a batch, the hub has no more, and wakes this task when it has. But it has to know
        // if the stream did not take all of it.
        turn.is_told = transmitted.is_some_and(|transmitted| {
            transmitted == 0 || (transmitted < BATCH && self.unsent.is_none())
        });
        // What came while nothing was read is still to be read.
        let resumes = wanted == 0 && self.session.wants_read(self.unsent.is_some()) > 0;
        if has_read || resumes || !turn.is_told {
            Ok(Round::Again)
        } else {
            Ok(Round::Wait)
        }
    }

    /// Writes what the stream did not take before; true if it took some of it, but not all.
    fn write_unsent(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Some(mut unsent) = self.unsent.take() else {
            return Ok(false);
        };
        let before = unsent.len();
        let is_written = write_to(&mut self.stream, &mut unsent, cx)?;
        let has_progressed = unsent.len() < before;
        if is_written {
            return Ok(false);
        }
        self.unsent = Some(unsent);
        Ok(has_progressed)
    }

    /// Reads `wanted` bytes at most, and hands them to the session; true if there may be more.
    fn read(
        &mut self,
        wanted: usize,
        buffers: &mut Buffers,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let Buffers {
            read: buffer,
            inputs,
            ..
        } = buffers;
        let mut wanted = wanted;
        let mut has_read = false;
        while wanted > 0 {
            if buffer.is_empty() {
                // Of memory that the system has zeroed, only what is read into becomes real.
                *buffer = vec![0; MAX_READ];
            }
            let buffer = buffer.get_mut(..wanted).unwrap_or_default();
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) else {
                break;
            };
            let read = match read {
                Ok(read) => read,
                // What was read before counts all the same.
                Err(_) if has_read => 0,
                Err(error) => return Err(error),
            };
            let read = buffer.get(..read).unwrap_or_default();
            if read.is_empty() {
                self.session.receive_end();
            } else {
                self.session.receive(read, |input| inputs.push(input));
            }
            // A peer that has ended its stream right behind its close frame waits for no answer.
            wanted = match self.session.expects_end() {
                true if !has_read => self.session.wants_read(false),
                true | false => 0,
            };
            has_read = true;
        }
        Ok(has_read)
    }

    /// Writes `batch` behind what is unsent, and keeps what the stream does not take.
    fn write(&mut self, batch: &mut WriteBatch, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unsent.is_none() && !batch.is_empty() && !write_to(&mut self.stream, batch, cx)? {
            self.unsent = Some(Box::new(batch.take_rest()));
        }
        Ok(())
    }

    /// Visits the hub: hands in what came, and takes what there is to write. Returns the number of
    /// bytes, or `None` if the connection has ended.
    fn exchange(
        &mut self,
        conn: ConnId,
        progressed: bool,
        buffers: &mut Buffers,
        turn: &mut Turn,
        cx: &Context<'_>,
    ) -> Option<usize> {
        let Buffers {
            write,
            frames,
            inputs,
            left,
            ..
        } = buffers;
        let shared = &self.count;
        let is_alive = shared.visit(self.shard, left, |state, now| {
            turn.visited(now);
            for input in inputs.drain(..) {
                state.hand_in(input, now);
            }
            if self.unsent.is_some() {
                state.handle(Input::Blocked { conn, progressed }, now);
            } else {
                state.poll_transmit(conn, BATCH, now, |frame| frames.push(frame));
            }
            let is_held = self.session.follow(state.hub());
            // Of one that has ended, the place may be another's already.
            if is_held {
                state.sleep(conn, cx.waker());
            }
            // Looked at under the lock: a cut takes it afterwards, and finds this waker.
            is_held && !shared.is_cut()
        });
        let mut transmitted = 0;
        for frame in frames.drain(..) {
            transmitted += frame.len().max(1);
            self.session.transmit(frame, write);
        }
        is_alive.then_some(transmitted)
    }

    /// Does what a connection that has not joined asks for. Returns as [`exchange`](Self::exchange).
    fn join(
        &mut self,
        buffers: &mut Buffers,
        turn: &mut Turn,
        cx: &mut Context<'_>,
    ) -> Option<usize> {
        let (shared, session) = (&self.count, &mut self.session);
        let Stage::Joining(handshake) = &mut self.stage else {
            return None;
        };
        // What the session writes goes behind what is unsent.
        let write = match &mut self.unsent {
            Some(unsent) => &mut **unsent,
            None => &mut buffers.write,
        };
        let Handshake { pending, sleep } = &mut **handshake;
        if !pending.is_wanted(cx) {
            session.evict(write);
        }
        // Looked at after the waker was set, and in this order: a cut is no shutdown.
        let is_closing = shared.is_closing();
        if shared.is_cut() {
            return None;
        }
        loop {
            let now = shared.clock.now();
            turn.visited(now);
            if is_closing {
                session.shut_down(now, write);
            }
            session.handle_timeout(now, write);
            while let Some(event) = session.poll_event(now, write) {
                match event {
                    Event::Identified(ip) => pending.identify(ip),
                    Event::Upgrade(upgrade) => upgrade.answer(pending.upgrade(), now, write),
                    Event::Health(health) => health.answer(&shared.health(), now, write),
                    Event::Nonce(ask) => {
                        let mut nonce = [0; 32];
                        match getrandom::fill(&mut nonce) {
                            Ok(()) => ask.answer(nonce, now, unix_now(), write),
                            Err(error) => {
                                shared.report(Report::NoRandomness(error));
                                ask.give_up();
                            }
                        }
                    }
                    Event::Register(register) => {
                        let (input, source) = (register.input(), pending.source());
                        let shard = shared.shards.of(register.address().as_str());
                        let others = shared.other_connections(shard);
                        let registered = shared.visit(shard, &mut buffers.left, |state, now| {
                            state.register(input, source, others, now)
                        });
                        self.shard = shard;
                        match registered {
                            Ok(conn) => register.registered(conn, write),
                            Err(refusal) => register.refused(refusal, now, write),
                        }
                    }
                    Event::Left(outcome) => pending.set_outcome(outcome),
                }
            }
            let Some(at) = session.next_timeout() else {
                break;
            };
            if sleep.as_ref().is_none_or(|(until, _)| *until != at) {
                let timer = shared.runtime.sleep_until(shared.clock.instant(at));
                *sleep = Some((at, Box::pin(timer)));
            }
            let timer = sleep.as_mut().map(|(_, timer)| timer.as_mut().poll(cx));
            if timer.is_none_or(|timer| timer.is_pending()) {
                break;
            }
        }
        if let Some(conn) = session.conn() {
            self.stage = Stage::Joined(pending.join());
            // Something may have come behind the handshake.
            session.receive(&[], |input| buffers.inputs.push(input));
            // What the hub has for a newcomer is written with what it was told before.
            return self.exchange(conn, false, buffers, turn, cx);
        }
        Some(0)
    }
}

impl<R: Runtime, S: Stream> Drop for Pump<R, S> {
    /// However the task ended, the hub hears of it.
    fn drop(&mut self) {
        if let Some(closed) = self.session.closed() {
            self.count.tell(self.shard, closed);
        }
        if let Stage::Joined(place) = &mut self.stage
            && let Some(place) = place.take()
        {
            self.count.leave(place);
        }
    }
}

/// Writes `batch` until `stream` takes no more; true if it has taken everything, and passed it on.
fn write_to(
    stream: &mut impl Stream,
    batch: &mut WriteBatch,
    cx: &mut Context<'_>,
) -> io::Result<bool> {
    batch.write_with(|slices| {
        let written = match slices {
            [one] => Pin::new(&mut *stream).poll_write(cx, one),
            slices => Pin::new(&mut *stream).poll_write_vectored(cx, slices),
        };
        match written {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    })?;
    Ok(batch.is_empty() && Pin::new(stream).poll_flush(cx)?.is_ready())
}
