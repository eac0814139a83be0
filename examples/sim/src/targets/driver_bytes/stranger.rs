//! A stranger: a peer that may do whatever it wants to, and what the relay says to it.

use bytes::Bytes;
use pinch_proto::wire::{AuthChallenge, Envelope, MessageType, Payload};
use pinch_proto::{Address, SecretKey};
use prost::Message as _;

use super::ear::{Ear, Heard};
use super::pieces::{self, Pen, Piece, Request};
use super::script::{Entry, Settings};
use super::socket::Wire;
use super::verdict::{self, End, Standing, Verdict};
use crate::targets::damage::Damage;

/// What is known of the request with which a stranger came.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// It has written nothing.
    Missing,
    /// There is none, or it is whole: so many bytes.
    Good {
        request: Option<Request>,
        length: usize,
    },
    /// It is anything.
    Any,
}

#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) address: Address,
    key: SecretKey,
    pub(super) wire: Wire,
    ear: Ear,
    entry: Entry,
    head: Head,
    written: Vec<u8>,
    challenge: Option<AuthChallenge>,
    /// What proves its key, once it was asked.
    answer: Option<Bytes>,
    last_ping: Bytes,
    statuses: Vec<u16>,
    welcomes: usize,
    messages: Vec<Bytes>,
    pongs: Vec<Bytes>,
    close: Option<Option<u16>>,
    /// What Carol sends to it, in order.
    pub(super) flood: Vec<Bytes>,
    has_ended: bool,
    is_broken: bool,
    /// Time has passed since it came: it may be given up.
    pub(super) is_late: bool,
}

/// What else a verdict depends on.
#[derive(Debug)]
pub(super) struct Court {
    pub(super) settings: Settings,
    pub(super) alice: Address,
    pub(super) bob: Address,
}

impl Stranger {
    pub(super) fn new(key: SecretKey, address: Address, wire: Wire, entry: Entry) -> Self {
        let is_upgraded = entry != Entry::Fresh;
        let none = Head::Good {
            request: None,
            length: 0,
        };
        Self {
            address,
            key,
            wire,
            ear: Ear::new(is_upgraded),
            entry,
            head: if is_upgraded { none } else { Head::Missing },
            written: vec![],
            challenge: None,
            answer: None,
            last_ping: Bytes::new(),
            statuses: vec![],
            welcomes: 0,
            messages: vec![],
            pongs: vec![],
            close: None,
            flood: vec![],
            has_ended: false,
            is_broken: false,
            is_late: false,
        }
    }

    fn pen<'a>(&'a self, court: &'a Court) -> Pen<'a> {
        Pen {
            own: &self.address,
            key: &self.key,
            alice: &court.alice,
            bob: &court.bob,
            envelope_bytes: court.settings.envelope_bytes,
            challenge: self.challenge.as_ref(),
            ping: &self.last_ping,
        }
    }

    /// Writes `piece`, damaged.
    pub(super) fn write(&mut self, piece: &Piece, damage: &[Damage], court: &Court) {
        if self.has_ended || self.is_broken {
            return;
        }
        let whole = piece.bytes(&self.pen(court));
        let damaged = damage.iter().fold(whole.clone(), |it, by| by.applied(it));
        // What was repeated again and again is no story any more.
        let bytes = damaged.get(..2 * whole.len().max(20)).unwrap_or(&damaged);
        if let Head::Missing = self.head {
            self.head = match piece {
                Piece::Request(request) if bytes == whole => Head::Good {
                    request: Some(*request),
                    length: bytes.len(),
                },
                Piece::Request(_)
                | Piece::Answer
                | Piece::Envelope { .. }
                | Piece::Frame { .. }
                | Piece::Raw(_) => Head::Any,
            };
        }
        self.written.extend(bytes);
        self.wire.write(bytes);
    }

    /// Writes no more.
    pub(super) fn end(&mut self) {
        self.wire.end();
        self.has_ended = true;
    }

    /// Is gone.
    pub(super) fn reset(&mut self) {
        self.wire.reset();
        self.is_broken = true;
    }

    /// Hears what the relay has written; true if it was something.
    pub(super) fn hear(&mut self, court: &Court) -> Result<bool, String> {
        let bytes = self.wire.take();
        for heard in self.ear.hear(&bytes)? {
            match heard {
                Heard::Status(status) => self.statuses.push(status),
                Heard::Message(message) => self.message(message, court)?,
                Heard::Ping(payload) => self.last_ping = payload,
                Heard::Pong(payload) => self.pongs.push(payload),
                Heard::Close(code) => self.close = Some(code),
            }
        }
        Ok(!bytes.is_empty())
    }

    fn message(&mut self, message: Bytes, court: &Court) -> Result<(), String> {
        let envelope = Envelope::decode(message.clone());
        let by_relay = envelope.ok().filter(|envelope| {
            MessageType::try_from(envelope.r#type).is_ok_and(MessageType::is_relay_only)
        });
        match by_relay.map(|envelope| envelope.payload) {
            Some(Some(Payload::AuthChallenge(challenge))) => {
                self.challenge = Some(challenge);
                self.answer = Some(pieces::answer(&self.pen(court)));
            }
            Some(Some(Payload::AuthResult(result))) if result.success => {
                self.welcomes += 1;
                if result.assigned_address != self.address.as_str() {
                    return Err(format!("it is taken for {}", result.assigned_address));
                }
            }
            Some(Some(_)) => {}
            Some(None) => return Err(format!("the relay says nothing: {message:x?}")),
            None => self.messages.push(message),
        }
        Ok(())
    }

    /// What has to come of what it has written, as far as that can be told.
    fn verdict(&self, court: &Court) -> Option<Verdict> {
        let is_open = court.settings.is_open;
        let (request, length) = match self.head {
            Head::Good { request, length } => (request, length),
            Head::Missing | Head::Any => return None,
        };
        let is_named = match (self.entry, request) {
            (Entry::Vouched, _) => true,
            (Entry::ToProve, _) => false,
            (Entry::Fresh, Some(Request::Join)) => is_open,
            (Entry::Fresh, Some(request)) if !is_open && request.status(false) == 101 => false,
            (Entry::Fresh, _) => return None,
        };
        let standing = Standing {
            own: &self.address,
            bob: &court.bob,
            answer: self.answer.as_ref(),
            is_named,
            envelope_bytes: court.settings.envelope_bytes,
            message_bytes: court.settings.message_bytes,
        };
        Some(verdict::of(self.written.get(length..)?, standing))
    }

    /// Checks what the relay has said, when it has nothing more to say; `to_bob` is what Bob has got
    /// from this stranger.
    pub(super) fn check(&self, to_bob: &[Bytes], court: &Court) -> Result<(), String> {
        if self.wire.wrote_after_close() {
            return Err("the relay writes on after it has closed the stream".into());
        }
        if court.settings.max_pending == 1 && self.is_evicted() {
            return Ok(());
        }
        self.check_status(court)?;
        let Some(verdict) = self.verdict(court) else {
            return Ok(());
        };
        self.check_messages(&verdict)?;
        let is_explained = self.check_end(&verdict)?;
        if self.welcomes > usize::from(verdict.has_joined) {
            return Err("it is welcomed without having joined".into());
        }
        if !is_subsequence(&self.pongs, &verdict.pings) {
            return Err(format!(
                "pongs {:x?} to pings {:x?}",
                self.pongs, verdict.pings
            ));
        }
        if !verdict.delivered.starts_with(to_bob) {
            return Err(format!("Bob got {to_bob:x?}, not {:x?}", verdict.delivered));
        }
        let is_undisturbed = is_explained && !self.is_broken && !self.is_late;
        if !is_undisturbed {
            return Ok(());
        }
        if verdict.delivered.len() != to_bob.len() {
            return Err(format!("Bob got {to_bob:x?}, not {:x?}", verdict.delivered));
        }
        let is_living = verdict.end == End::Open && !self.has_ended;
        if is_living && self.pongs != verdict.pings {
            return Err(format!(
                "pongs {:x?} to pings {:x?}",
                self.pongs, verdict.pings
            ));
        }
        if is_living && !self.wire.is_read() {
            return Err("the relay reads no more".into());
        }
        Ok(())
    }

    /// Whether its handshake was evicted by a newcomer. It hears of that what its socket takes at
    /// once, and nothing in the middle of a frame.
    fn is_evicted(&self) -> bool {
        let has_not_joined = self.welcomes == 0 && self.close.is_none();
        self.statuses == [503]
            || self.close == Some(Some(1013))
            || (has_not_joined && self.wire.is_dropped())
    }

    /// The status of the response is the one that the request asks for.
    fn check_status(&self, court: &Court) -> Result<(), String> {
        let Head::Good {
            request: Some(request),
            ..
        } = self.head
        else {
            return Ok(());
        };
        let expected = request.status(court.settings.is_open);
        match self.statuses[..] {
            [status] if status == expected => Ok(()),
            [408] | [] if self.is_late => Ok(()),
            [] if self.is_broken || self.has_ended => Ok(()),
            _ => Err(format!(
                "{:?} to {request:?}, not {expected}",
                self.statuses
            )),
        }
    }

    /// Nothing is made up, nothing comes twice, nothing overtakes.
    fn check_messages(&self, verdict: &Verdict) -> Result<(), String> {
        let (of_carol, others): (Vec<_>, Vec<_>) = self
            .messages
            .iter()
            .cloned()
            .partition(|message| self.flood.contains(message));
        if !is_subsequence(&of_carol, &self.flood) {
            return Err(format!("it got {of_carol:x?} of {:x?}", self.flood));
        }
        if !is_subsequence(&others, &verdict.said) {
            return Err(format!("it got {others:x?} of its own {:x?}", verdict.said));
        }
        Ok(())
    }

    /// The conversation ends as it has to. True if nothing else has ended it before.
    fn check_end(&self, verdict: &Verdict) -> Result<bool, String> {
        let may_be_given_up = self.is_late || self.is_broken || self.has_ended;
        let is_policy = self.close == Some(Some(1008));
        let is_policed = is_policy && (verdict.is_refused || self.is_late);
        let is_gone = self.close.is_some() || self.wire.is_dropped();
        match (&verdict.end, self.close) {
            (End::Breach(breach), Some(Some(code))) if breach.codes.contains(&code) => Ok(true),
            (End::Goodbye(said), Some(code)) if code == *said || code == Some(1002) => Ok(true),
            // Who leaves in the middle of the handshake need not be told anything.
            (End::Goodbye(_), None) if self.wire.is_dropped() && !verdict.has_joined => Ok(true),
            (End::Breach(breach), None) if !breach.is_plain && !self.wire.is_dropped() => Ok(true),
            (End::Open, None) if !self.wire.is_dropped() => Ok(true),
            _ if is_policed || (may_be_given_up && self.close.is_none()) => Ok(false),
            (end, close) => Err(format!(
                "{end:?}, but it heard {close:?}, and gone is {is_gone}"
            )),
        }
    }
}

/// Whether `some` is `all`, but for what is left out of it.
fn is_subsequence(some: &[Bytes], all: &[Bytes]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}
