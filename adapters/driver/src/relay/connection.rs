//! The life of a registered connection: bytes from the socket to the hub, frames from the hub to
//! the socket.
//!
//! One task reads and writes. Each round reads what the socket has, takes the hub's lock once to
//! hand all of it in and to take what there is to write, and writes it with one call. Buffers
//! belong to the thread, not to the connection: while it is idle, it owns none.

use core::cell::Cell;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use pinch_proto::Frame;
use pinch_proto::hub::{ConnId, Input};
use pinch_proto::peers::Place;

use super::accept::Joined;
use super::outgoing::Outgoing;
use super::switchboard::{Shared, Wakes};
use super::unsent::Unsent;
use crate::codec::{Decoder, Incoming};
use crate::{Runtime, Stream};

/// Maximum number of bytes that one round takes from the hub.
const BATCH: usize = 256 << 10;

/// Maximum number of bytes that one round reads, unless a frame that has begun lacks more. Of the
/// smallest frames, of 6 bytes, these are 5,461.
const READ: usize = 32 << 10;

/// Maximum number of rounds in one poll, before other tasks get their turn.
const ROUNDS: usize = 16;

/// Maximum duration of the rounds of one poll: when it is over, the last of them ends.
const TURN: Duration = Duration::from_micros(200);

/// How many messages, or frames, a thread keeps room for between two polls: a batch of small ones.
const MAX_KEPT: usize = 1024;

/// What a round needs, lent by the thread.
#[derive(Default)]
struct Buffers {
    read: Vec<u8>,
    write: Outgoing,
    /// What the hub has handed out.
    frames: Vec<Frame>,
    /// What came, as the hub is told of it.
    incoming: Vec<Input>,
    wakes: Wakes,
}

impl Buffers {
    /// A round that ends the connection may leave something behind: it is nobody else's. And what has
    /// become very large, a peer has made so.
    fn clear(&mut self) {
        self.write.clear();
        self.frames.clear();
        self.frames.shrink_to(MAX_KEPT);
        self.incoming.clear();
        self.incoming.shrink_to(MAX_KEPT);
    }
}

thread_local! {
    static BUFFERS: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

/// Where the conversation with the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Messages come.
    Open,
    /// The peer broke the protocol: bytes are read and thrown away.
    Discarding,
    /// The peer has sent a close frame: nothing follows but its end of stream.
    Closed,
    /// The peer closed first, and has been answered: its end of stream completes the close handshake.
    Ending,
}

impl Reading {
    const fn after(last: &Incoming) -> Self {
        match last {
            Incoming::Close(_) => Self::Closed,
            Incoming::Fault(_) => Self::Discarding,
            Incoming::Message(_) | Incoming::Text(_) | Incoming::Ping(_) | Incoming::Pong(_) => {
                Self::Open
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Open,
    /// The close frame is written, or waits to be.
    Closed,
    /// So is the end of the stream.
    Ended,
}

/// The task of a registered connection.
pub(super) struct Connection<R: Runtime, S: Stream> {
    shared: Arc<Shared<R>>,
    stream: S,
    conn: ConnId,
    /// Its place among the connections of its address.
    place: Option<Place>,
    decoder: Decoder,
    /// What the socket did not take.
    unsent: Unsent,
    /// Frames of the hub are in it.
    handed_out: bool,
    reading: Reading,
    writing: Writing,
    /// The hub has paused it: nothing is read.
    paused: bool,
    /// The peer ended its stream right after its close frame, before there was an answer to it.
    ended_early: bool,
    /// The peer was the first to send a close frame, as far as the relay's socket knows.
    answers: bool,
    /// The peer ended its stream after both close frames, in order.
    clean: bool,
    /// The first round is to come. The decoder was preloaded, so that there may be messages without a byte
    /// from the socket.
    fresh: bool,
    /// The hub knows of a message that has begun.
    begun: bool,
    /// In this poll, the hub was told everything and had nothing to say: it will wake the task.
    settled: bool,
}

/// How a round ended.
enum Round {
    /// There may be more to do.
    Again,
    /// Nothing can be done until the socket or the hub moves.
    Wait,
    /// The connection has ended.
    Done,
}

impl<R: Runtime, S: Stream> Connection<R, S> {
    pub(super) fn new(shared: Arc<Shared<R>>, stream: S, joined: Joined) -> Self {
        let Joined {
            conn,
            decoder,
            unsent,
            place,
        } = joined;
        Self {
            shared,
            stream,
            conn,
            place,
            decoder,
            unsent: Unsent::new(unsent),
            handed_out: false,
            reading: Reading::Open,
            writing: Writing::Open,
            paused: false,
            ended_early: false,
            answers: false,
            clean: false,
            fresh: true,
            begun: false,
            settled: false,
        }
    }

    /// Lives until the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Taken out, not borrowed: a stream of the user's may poll another connection inside ours.
        let mut buffers = BUFFERS.take().unwrap_or_default();
        let mut round = Round::Again;
        self.settled = false;
        let began = self.shared.clock.now();
        for _ in 0..ROUNDS {
            round = self.round(&mut buffers, cx);
            if !matches!(round, Round::Again) || self.shared.clock.now().since(began) >= TURN {
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
            Round::Done => Poll::Ready(()),
        }
    }

    fn round(&mut self, buffers: &mut Buffers, cx: &mut Context<'_>) -> Round {
        let Ok(progressed) = self.write_unsent(cx) else {
            return Round::Done;
        };
        let Ok(has_read) = self.read(buffers, cx) else {
            return Round::Done;
        };
        if self.settled && !has_read {
            return Round::Wait;
        }
        let was_paused = self.paused;
        if !self.exchange(progressed, buffers, cx) {
            return Round::Done;
        }
        // What came meanwhile is still to be read.
        let resumes = was_paused && !self.paused;
        let has_written = !buffers.write.is_empty();
        if self.write(&mut buffers.write, cx).is_err() {
            return Round::Done;
        }
        let blocked = self.unsent.is_blocked();
        // Both close frames were exchanged.
        if self.reading == Reading::Closed && self.writing != Writing::Open && !blocked {
            if !self.answers || self.ended_early {
                return Round::Done;
            }
            // The peer was the first: how it ends its stream tells whether it has everything.
            self.reading = Reading::Ending;
            return Round::Again;
        }
        if self.end_stream(cx).is_err() {
            return Round::Done;
        }
        self.settled = !has_written && !blocked && self.reading == Reading::Open;
        if has_read || resumes || (has_written && !blocked) {
            Round::Again
        } else {
            Round::Wait
        }
    }

    /// Writes what the socket did not take before; true if it took some of it, but not all.
    fn write_unsent(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.fresh {
            // It waits for what the hub says to a newcomer, and is written with it.
            return Ok(false);
        }
        let progressed = self.unsent.write(&mut self.stream, cx)?;
        self.handed_out &= self.unsent.is_blocked();
        Ok(progressed)
    }

    /// Reads once and decodes; true if there may be more to read.
    fn read(&mut self, buffers: &mut Buffers, cx: &mut Context<'_>) -> io::Result<bool> {
        let Buffers {
            read: buffer,
            incoming,
            ..
        } = buffers;
        if self.reading == Reading::Closed || self.paused {
            return Ok(false);
        }
        let mut length = 0;
        if !core::mem::take(&mut self.fresh) {
            if buffer.is_empty() {
                // Of memory that the system has zeroed, only what is read into becomes real.
                *buffer = vec![0; BATCH];
            }
            let length_read = self.decoder.lacking().clamp(READ, BATCH);
            let buffer = buffer.get_mut(..length_read).unwrap_or_default();
            match Pin::new(&mut self.stream).poll_read(cx, buffer) {
                Poll::Ready(Ok(0)) => {
                    self.clean = self.reading == Reading::Ending;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(read)) => length = read,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(false),
            }
        }
        if matches!(self.reading, Reading::Discarding | Reading::Ending) {
            return Ok(true);
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        let (conn, reading) = (self.conn, &mut self.reading);
        self.decoder.decode(bytes, |message| {
            *reading = Reading::after(&message);
            incoming.push(message.into_input(conn));
        });
        let (bytes, short_fragments) = self.decoder.take_begun();
        let begun = core::mem::replace(&mut self.begun, bytes > 0);
        if self.reading == Reading::Open && (begun || self.begun || short_fragments > 0) {
            incoming.push(Input::Partial {
                conn,
                bytes,
                short_fragments,
            });
        }
        if self.reading == Reading::Closed {
            self.answers = self.writing == Writing::Open;
            // What a peer does that waits for no answer says nothing about what it has got.
            let next = Pin::new(&mut self.stream).poll_read(cx, buffer);
            self.ended_early = matches!(next, Poll::Ready(Ok(0) | Err(_)));
        }
        Ok(true)
    }

    /// Takes the hub's lock once: hands in what came, takes what there is to write. False if the
    /// connection has ended.
    fn exchange(&mut self, progressed: bool, buffers: &mut Buffers, cx: &Context<'_>) -> bool {
        let Buffers {
            write,
            frames,
            incoming,
            wakes,
            ..
        } = buffers;
        let conn = self.conn;
        let alive = {
            let mut switchboard = self.shared.lock();
            let now = self.shared.clock.now();
            for input in incoming.drain(..) {
                switchboard.hand_in(input, now, wakes);
            }
            if self.handed_out {
                switchboard.handle(Input::Blocked { conn, progressed }, now, wakes, |_| ());
            } else {
                switchboard.poll_transmit(conn, BATCH, now, wakes, |frame| frames.push(frame));
            }
            self.paused = switchboard.is_paused(conn);
            if self.begun && !switchboard.is_open(conn) {
                // Nobody counts any longer what it takes, and nobody wants it.
                self.begun = false;
                self.decoder.discard();
                self.reading = Reading::Discarding;
            }
            // Looked at under the lock: whoever cuts takes it afterwards, and finds this waker.
            switchboard.sleep(conn, cx.waker()) && !self.shared.is_cut()
        };
        self.shared.after_lock(wakes);
        self.handed_out |= !frames.is_empty();
        for frame in frames.drain(..) {
            if let Frame::Close(_) = frame {
                self.writing = Writing::Closed;
            }
            write.push(frame);
        }
        alive
    }

    /// Writes what is outgoing, and keeps what the socket does not take.
    fn write(&mut self, outgoing: &mut Outgoing, cx: &mut Context<'_>) -> io::Result<()> {
        self.unsent.write_all(outgoing, &mut self.stream, cx)?;
        self.handed_out &= self.unsent.is_blocked();
        Ok(())
    }

    /// Ends the relay's half of the stream after its close frame, where no close frame of the peer is
    /// waited for: it came before, or can't be understood.
    fn end_stream(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let waits_for_end = matches!(self.reading, Reading::Discarding | Reading::Ending);
        let over = self.writing == Writing::Closed && waits_for_end;
        if over
            && !self.unsent.is_blocked()
            && Pin::new(&mut self.stream).poll_close(cx)?.is_ready()
        {
            self.writing = Writing::Ended;
        }
        Ok(())
    }
}

impl<R: Runtime, S: Stream> Drop for Connection<R, S> {
    /// However the task ended, the hub hears of it.
    fn drop(&mut self) {
        let (conn, clean) = (self.conn, self.clean);
        self.shared.tell(Input::Closed { conn, clean }, |_| ());
        if let Some(place) = self.place.take() {
            self.shared.leave(place);
        }
    }
}
