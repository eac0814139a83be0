//! An agent of which there is nothing but bytes: what it writes to the relay, and what it makes of
//! what the relay writes.

use core::ops::AddAssign;

use pinch_proto::{Address, SecretKey};

use crate::frame::{self, Header, MaskKey, Opcode};
use crate::load::LoadError;
use crate::load::identity::Identity;
use crate::load::template::{Stamp, Template};

/// Number of agents that each agent writes to.
const RECIPIENTS: usize = 16;

const MASK: MaskKey = [0x5a, 0xc3, 0x96, 0x3c];

/// An agent. For each envelope that it receives it sends one, to a random recipient.
#[derive(Debug)]
pub(super) struct Agent {
    address: Address,
    /// A frame for each of its recipients, masked once.
    frames: Vec<Vec<u8>>,
    random: fastrand::Rng,
    /// Number of envelopes that it may send now.
    pub(super) credit: usize,
    /// The frame that is being read by the relay, and how much of it was.
    current: (usize, usize),
    /// What is to be read before the next envelope: the request to join, pongs.
    reply: Vec<u8>,
    /// The beginning of something whose end has not come.
    partial: Vec<u8>,
    /// Bytes of an envelope that have not come.
    rest: usize,
    joined: bool,
    closed: bool,
    pub(super) counts: Counts,
}

/// What an agent has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Pings, each of which it has answered.
    pub(super) pings: u64,
    /// Frames that are neither control frames nor envelopes of an agent.
    pub(super) unexpected: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.pings += other.pings;
        self.unexpected += other.unexpected;
    }
}

/// Makes `count` agents, who send `size` bytes of ciphertext. All envelopes have the same length.
pub(super) fn agents(count: usize, size: usize) -> Result<Vec<Agent>, LoadError> {
    let identity = |number| Identity {
        secret: SecretKey::from_seed([1; SecretKey::SEED_LEN]),
        address: Address::parse(&format!("pinch:{number:0>50}@localhost")).expect("an address"),
    };
    let identities: Vec<_> = (0..count).map(identity).collect();
    let mut random = fastrand::Rng::with_seed(1);
    let agent = |identity| Agent::new(identity, &identities, size, random.fork());
    identities.iter().map(agent).collect()
}

impl Agent {
    fn new(
        identity: &Identity,
        all: &[Identity],
        size: usize,
        mut random: fastrand::Rng,
    ) -> Result<Self, LoadError> {
        let stamp = Stamp {
            sent_at: 0,
            number: 0,
        };
        let mut frames = Vec::new();
        for _ in 0..RECIPIENTS.min(all.len()) {
            let to = &all[random.usize(..all.len())];
            let mut frame = Vec::new();
            Template::new(identity, to, size, MASK)?.put(&mut frame, stamp);
            frames.push(frame);
        }
        let address = identity.address.as_str();
        let request = format!(
            "GET /ws?address={} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            address.replace('@', "%40")
        );
        Ok(Self {
            address: identity.address.clone(),
            frames,
            random,
            credit: 0,
            current: (0, 0),
            reply: request.into(),
            partial: Vec::new(),
            rest: 0,
            joined: false,
            closed: false,
            counts: Counts::default(),
        })
    }

    pub(super) fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Whether the relay has upgraded its connection.
    pub(super) const fn has_joined(&self) -> bool {
        self.joined
    }

    /// Whether both close frames were exchanged.
    pub(super) const fn has_ended(&self) -> bool {
        self.closed && self.reply.is_empty()
    }

    /// Fills `buffer` with what the agent writes; returns how much that is.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() {
            let into = &mut buffer[filled..];
            let (frame, at) = self.current;
            if at > 0 {
                let rest = &self.frames[frame][at..];
                let some = copy(rest, into);
                let whole = some == rest.len();
                self.current.1 = if whole { 0 } else { at + some };
                filled += some;
            } else if !self.reply.is_empty() {
                let some = copy(&self.reply, into);
                self.reply.drain(..some);
                filled += some;
            } else if self.credit > 0 && !self.closed {
                self.credit -= 1;
                self.counts.sent += 1;
                let frame = self.random.usize(..self.frames.len());
                let some = copy(&self.frames[frame], into);
                let whole = some == self.frames[frame].len();
                self.current = (frame, if whole { 0 } else { some });
                filled += some;
            } else {
                break;
            }
        }
        filled
    }

    /// Takes what the relay has written.
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            if self.partial.is_empty() {
                match self.begin(bytes) {
                    Some(taken) => bytes = &bytes[taken..],
                    None => return self.partial.extend_from_slice(bytes),
                }
            } else {
                // Rare: one byte more may be enough.
                let mut partial = core::mem::take(&mut self.partial);
                partial.push(bytes[0]);
                bytes = &bytes[1..];
                if self.begin(&partial).is_none() {
                    self.partial = partial;
                }
            }
        }
    }

    /// Takes the response to its request, a control frame, or the header of an envelope, if all of
    /// it is there; returns its length.
    fn begin(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.joined {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            let upgraded = bytes.starts_with(b"HTTP/1.1 101");
            self.counts.unexpected += u64::from(!upgraded);
            self.joined = true;
            return Some(end);
        }
        let header = Header::parse(bytes)?;
        // A relay has a shorter header than a client, of 4 bytes less.
        let is_envelope = header.opcode == Opcode::Binary
            && header.frame_len() + MASK.len() == self.frames[0].len();
        if is_envelope {
            self.rest = header.payload;
            self.counts.received += 1;
            self.credit += 1;
            return Some(header.len);
        }
        let payload = bytes.get(header.len..header.frame_len())?;
        let answer = match header.opcode {
            Opcode::Ping => {
                self.counts.pings += 1;
                Opcode::Pong
            }
            Opcode::Close => {
                self.closed = true;
                Opcode::Close
            }
            Opcode::Continuation
            | Opcode::Text
            | Opcode::Binary
            | Opcode::Pong
            | Opcode::Reserved => {
                self.counts.unexpected += 1;
                return Some(header.frame_len());
            }
        };
        frame::put_masked(&mut self.reply, answer, payload, MASK);
        Some(header.frame_len())
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let some = from.len().min(into.len());
    into[..some].copy_from_slice(&from[..some]);
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined() -> Agent {
        let mut agent = agents(2, 256).unwrap().pop().unwrap();
        let mut request = [0; 1024];
        let length = agent.read(&mut request);
        assert!(request[..length].ends_with(b"\r\n\r\n"));
        agent.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        assert!(agent.has_joined());
        agent
    }

    #[test]
    fn envelopes_are_written_as_far_as_credit_goes_in_whatever_pieces_they_are_read() {
        let mut whole = joined();
        let mut pieces = joined();
        for agent in [&mut whole, &mut pieces] {
            agent.random = fastrand::Rng::with_seed(7);
            agent.frames = vec![b"one".to_vec(), b"other".to_vec()];
            agent.credit = 5;
        }
        let mut all = [0; 64];
        let length = whole.read(&mut all);
        let mut joint = Vec::new();
        let mut piece = [0; 2];
        loop {
            match pieces.read(&mut piece) {
                0 => break,
                some => joint.extend_from_slice(&piece[..some]),
            }
        }
        assert_eq!(joint, &all[..length]);
        assert_eq!((whole.counts.sent, pieces.counts.sent), (5, 5));
    }

    #[test]
    fn what_the_relay_writes_is_understood_in_whatever_pieces_it_comes() {
        let envelope = vec![0; joined().frames[0].len() - 8];
        let mut bytes = Vec::new();
        frame::put_unmasked(&mut bytes, Opcode::Binary, &envelope);
        frame::put_unmasked(&mut bytes, Opcode::Ping, b"payload");
        frame::put_unmasked(&mut bytes, Opcode::Binary, b"a rejection");
        frame::put_unmasked(&mut bytes, Opcode::Binary, &envelope);
        for size in [1, 2, 7, bytes.len()] {
            let mut agent = joined();
            bytes.chunks(size).for_each(|piece| agent.write(piece));
            let counts = agent.counts;
            assert_eq!(
                (counts.received, counts.pings, counts.unexpected),
                (2, 1, 1)
            );
            assert_eq!(agent.credit, 2);
            let pong = Header::parse(&agent.reply).unwrap();
            assert_eq!((pong.opcode, pong.payload), (Opcode::Pong, 7));
        }
    }
}
