//! The session of a registered connection: frames in, frames out, and the close handshake.

use pinch_proto::Frame;
use pinch_proto::hub::{ConnId, Hub, Input};

use crate::codec::{Decoder, Incoming};

/// Minimum number of bytes that one read asks for. Of the smallest frames, of 6 bytes, these are
/// 5,461.
const READ: usize = 32 << 10;

/// Maximum number of bytes that one read asks for, for a frame that has begun and lacks as many.
pub(super) const MAX_READ: usize = 256 << 10;

/// The same while large messages come: a read costs more than their bytes do. More would not stay in
/// the cache.
const READ_LARGE: usize = 160 << 10;

/// Minimum average length of large messages, in bytes.
const LARGE: usize = 4 << 10;

/// How far the close handshake of a registered connection is (RFC 6455, section 7).
///
/// ```text
///        relay's close frame             peer's close frame         written
///  Open ─────────────────────► Closing ─────────────────────► Closed ───────► Over
///   │ │                                                         ▲
///   │ │                          its end, or our answer behind it
///   │ │ peer's close frame               our answer     │   written           end
///   │ └────────────────────► PeerClosed ───────────► Answered ───────► Lingering ──► Over (clean)
///   │
///   │ a breach            relay's close frame    written              end
///   └────────► Discarding ───────────────► Discarded ──► Lingering ─────────────► Over
/// ```
/// The end of the stream leads from `Open`, `Closing`, `Discarding` and `Discarded` straight to
/// `Over`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The relay has closed first: the peer's messages count until its close frame comes.
    Closing,
    /// The peer has closed first, and is not answered yet. Whether it has ended its stream, too:
    /// then it does not wait for the answer.
    PeerClosed {
        has_ended: bool,
    },
    /// The peer has closed first; the answer is not written yet.
    Answered,
    /// Nothing is expected of the peer any more: it is over when everything is written.
    Closed,
    /// Nothing that comes can be understood, or is wanted.
    Discarding,
    /// The same, and the relay's close frame is not written yet.
    Discarded,
    /// Everything is written. What comes is thrown away until the peer ends its stream: so that the
    /// relay does not take back what the peer has not read (RFC 9112, section 9.6).
    Lingering {
        is_clean: bool,
        has_ended: bool,
    },
    Over {
        is_clean: bool,
    },
}

/// A connection that the hub knows.
#[derive(Debug)]
pub(super) struct Joined {
    conn: ConnId,
    decoder: Decoder,
    stage: Stage,
    /// The hub has paused it: nothing is read.
    is_paused: bool,
    /// The last read took all that it asked for, and large messages came.
    is_bulky: bool,
    /// The hub knows of a message that has begun.
    has_begun: bool,
}

impl Joined {
    /// `rest` came behind the handshake.
    pub(super) fn new(conn: ConnId, message_bytes: usize, rest: Vec<u8>) -> Self {
        let mut decoder = Decoder::new(message_bytes);
        decoder.preload(rest);
        Self {
            conn,
            decoder,
            stage: Stage::Open,
            is_paused: false,
            is_bulky: false,
            has_begun: false,
        }
    }

    pub(super) const fn conn(&self) -> ConnId {
        self.conn
    }

    pub(super) fn receive(&mut self, bytes: &[u8], mut on_input: impl FnMut(Input)) {
        let closed_first = match self.stage {
            Stage::Open => false,
            Stage::Closing => true,
            Stage::PeerClosed { .. }
            | Stage::Answered
            | Stage::Closed
            | Stage::Discarding
            | Stage::Discarded
            | Stage::Lingering { .. }
            | Stage::Over { .. } => return,
        };
        let Self {
            conn,
            decoder,
            stage,
            ..
        } = self;
        let mut count = 0;
        decoder.decode(bytes, |incoming| {
            count += 1;
            match (&incoming, closed_first) {
                (Incoming::Close(_), false) => *stage = Stage::PeerClosed { has_ended: false },
                (Incoming::Close(_), true) => *stage = Stage::Closed,
                (Incoming::Fault(_), false) => *stage = Stage::Discarding,
                (Incoming::Fault(_), true) => *stage = Stage::Discarded,
                (
                    Incoming::Message(_)
                    | Incoming::Text(_)
                    | Incoming::Ping(_)
                    | Incoming::Pong(_),
                    _,
                ) => {}
            }
            on_input(incoming.into_input(*conn));
        });
        self.is_bulky = bytes.len() >= READ.max(count * LARGE);
        let (bytes, short_fragments) = self.decoder.take_begun();
        let had_begun = core::mem::replace(&mut self.has_begun, bytes > 0);
        if matches!(self.stage, Stage::Open | Stage::Closing)
            && (had_begun || self.has_begun || short_fragments > 0)
        {
            on_input(Input::Partial {
                conn: self.conn,
                bytes,
                short_fragments,
            });
        }
    }

    pub(super) fn receive_end(&mut self) {
        self.stage = match self.stage {
            Stage::PeerClosed { .. } => Stage::PeerClosed { has_ended: true },
            Stage::Answered | Stage::Closed => Stage::Closed,
            Stage::Lingering { is_clean, .. } | Stage::Over { is_clean } => {
                Stage::Over { is_clean }
            }
            Stage::Open | Stage::Closing | Stage::Discarding | Stage::Discarded => {
                Stage::Over { is_clean: false }
            }
        };
    }

    /// Notes that `frame` of the hub is to be written.
    pub(super) fn transmit(&mut self, frame: &Frame) {
        if !matches!(frame, Frame::Close(_)) {
            return;
        }
        self.stage = match self.stage {
            Stage::Open => Stage::Closing,
            Stage::PeerClosed { has_ended: false } => Stage::Answered,
            Stage::PeerClosed { has_ended: true } => Stage::Closed,
            Stage::Discarding => Stage::Discarded,
            stage @ (Stage::Closing
            | Stage::Answered
            | Stage::Closed
            | Stage::Discarded
            | Stage::Lingering { .. }
            | Stage::Over { .. }) => stage,
        };
    }

    /// Everything was written.
    pub(super) fn flushed(&mut self) {
        self.stage = match self.stage {
            Stage::Closed => Stage::Over { is_clean: false },
            Stage::Answered => Stage::Lingering {
                is_clean: true,
                has_ended: false,
            },
            Stage::Discarded => Stage::Lingering {
                is_clean: false,
                has_ended: false,
            },
            stage @ (Stage::Open
            | Stage::Closing
            | Stage::PeerClosed { .. }
            | Stage::Discarding
            | Stage::Lingering { .. }
            | Stage::Over { .. }) => stage,
        };
    }

    /// Learns from the hub what has become of the connection; false if it has ended.
    pub(super) fn follow(&mut self, hub: &Hub) -> bool {
        self.is_paused = hub.is_paused(self.conn);
        if self.has_begun && !hub.is_open(self.conn) {
            // Nothing counts any longer what it takes, and nothing wants it.
            self.has_begun = false;
            self.decoder.discard();
            self.stage = if self.stage == Stage::Closing {
                Stage::Discarded
            } else {
                Stage::Discarding
            };
        }
        hub.holds(self.conn)
    }

    /// Maximum number of bytes of the next read; 0 if nothing is to be read.
    pub(super) fn wants_read(&self) -> usize {
        match self.stage {
            Stage::Open | Stage::Closing if !self.is_paused => {
                let least = if self.is_bulky { READ_LARGE } else { READ };
                self.decoder.lacking().clamp(least, MAX_READ)
            }
            Stage::PeerClosed { has_ended: false }
            | Stage::Answered
            | Stage::Discarding
            | Stage::Discarded
            | Stage::Lingering { .. } => READ,
            Stage::Open
            | Stage::Closing
            | Stage::PeerClosed { has_ended: true }
            | Stage::Closed
            | Stage::Over { .. } => 0,
        }
    }

    pub(super) const fn expects_end(&self) -> bool {
        matches!(self.stage, Stage::PeerClosed { has_ended: false })
    }

    pub(super) const fn wants_end(&self) -> bool {
        matches!(
            self.stage,
            Stage::Lingering {
                has_ended: false,
                ..
            }
        )
    }

    /// The relay's half of the stream has ended.
    pub(super) const fn ended(&mut self) {
        if let Stage::Lingering { has_ended, .. } = &mut self.stage {
            *has_ended = true;
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over { .. })
    }

    /// The end of the connection, for the hub.
    pub(super) const fn closed(&self) -> Input {
        Input::Closed {
            conn: self.conn,
            clean: matches!(self.stage, Stage::Over { is_clean: true }),
        }
    }
}
