//! RFC 6455, read a second time and slowly: what a client's bytes say to a server that takes no
//! extensions and no text.
//!
//! It is given everything at once, so that in which pieces it came cannot matter.

use bytes::Bytes;

/// Something that a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A binary message, whole.
    Message(Bytes),
    Ping(Bytes),
    Pong,
    /// A close frame that is one; nothing after it counts.
    Close(Option<u16>),
    /// A breach of the protocol; nothing after it counts.
    Breach(Breach),
}

/// What a server does about a breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    /// The close codes that fit.
    pub(super) codes: Vec<u16>,
    /// A server that reads frame by frame has seen it; one that looks closer may see it earlier.
    pub(super) is_plain: bool,
}

const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const NO_TEXT: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// A client's bytes, from the first frame on.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The fragments of a message that has begun, and whether it is text.
    message: Option<(bool, Vec<u8>)>,
    is_over: bool,
}

struct Header {
    is_final: bool,
    reserved: u8,
    opcode: u8,
    is_masked: bool,
    length: u64,
    /// Of the header, without the mask.
    size: usize,
}

impl Header {
    /// Where it ends, with the mask.
    const fn end(&self) -> usize {
        self.size + if self.is_masked { 4 } else { 0 }
    }

    const fn is_control(&self) -> bool {
        self.opcode >= 8
    }

    const fn is_known(&self) -> bool {
        matches!(self.opcode, 0..=2 | 8..=10)
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            message: None,
            is_over: false,
        }
    }

    /// What is said next, where messages may have `limit` bytes; `None` if it is not complete.
    pub(super) fn next(&mut self, limit: usize) -> Option<Said> {
        while !self.is_over {
            let header = header(self.rest)?;
            let frame = self.payload(&header);
            let codes = self.faults(&header, limit);
            if !codes.is_empty() {
                let is_enough = codes.contains(&TOO_BIG) || !header.is_known();
                let has_header = self.rest.len() >= header.end();
                let is_plain = frame.is_some() || (is_enough && has_header);
                return Some(self.breach(&codes, is_plain));
            }
            let (payload, end) = frame?;
            self.rest = self.rest.get(end..).unwrap_or_default();
            match header.opcode {
                8 => return Some(self.close(&payload)),
                9 => return Some(Said::Ping(payload.into())),
                10 => return Some(Said::Pong),
                _ => {}
            }
            let is_text = header.opcode == 1;
            let (is_text, message) = self.message.get_or_insert((is_text, Vec::new()));
            message.extend(payload);
            if message.len() > limit {
                return Some(self.breach(&[TOO_BIG], true));
            }
            if *is_text {
                let is_broken = match core::str::from_utf8(message) {
                    Ok(_) => false,
                    Err(error) => header.is_final || error.error_len().is_some(),
                };
                if is_broken {
                    return Some(self.breach(&[NO_TEXT], true));
                }
            }
            if header.is_final
                && let Some((is_text, message)) = self.message.take()
            {
                return Some(if is_text {
                    self.breach(&[UNSUPPORTED], true)
                } else {
                    Said::Message(message.into())
                });
            }
        }
        None
    }

    /// The payload of the frame that is next, without its mask, and where it ends.
    fn payload(&self, header: &Header) -> Option<(Vec<u8>, usize)> {
        let start = header.end();
        let end = start.checked_add(usize::try_from(header.length).ok()?)?;
        let mask = self.rest.get(header.size..start)?;
        let masked = self.rest.get(start..end)?;
        let payload = match mask {
            [] => masked.to_vec(),
            mask => masked
                .iter()
                .zip(mask.iter().cycle())
                .map(|(a, b)| a ^ b)
                .collect(),
        };
        Some((payload, end))
    }

    /// The codes of everything that is wrong with a frame.
    fn faults(&self, header: &Header, limit: usize) -> Vec<u16> {
        let is_control = header.is_control();
        let is_wrong = header.reserved != 0
            || !header.is_known()
            || !header.is_masked
            || (is_control && (!header.is_final || header.length > 125))
            || (header.opcode == 0 && self.message.is_none())
            || (matches!(header.opcode, 1 | 2) && self.message.is_some());
        let mut codes = vec![];
        if is_wrong {
            codes.push(PROTOCOL_ERROR);
        }
        if header.length > limit as u64 {
            codes.push(TOO_BIG);
        }
        codes
    }

    fn close(&mut self, payload: &[u8]) -> Said {
        match payload {
            [] => {
                self.is_over = true;
                Said::Close(None)
            }
            [_] => self.breach(&[PROTOCOL_ERROR], true),
            [high, low, reason @ ..] => {
                if core::str::from_utf8(reason).is_err() {
                    return self.breach(&[NO_TEXT, PROTOCOL_ERROR], true);
                }
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return self.breach(&[PROTOCOL_ERROR], true);
                }
                self.is_over = true;
                Said::Close(Some(code))
            }
        }
    }

    fn breach(&mut self, codes: &[u16], is_plain: bool) -> Said {
        self.is_over = true;
        Said::Breach(Breach {
            codes: codes.to_vec(),
            is_plain,
        })
    }
}

/// The header that `bytes` begin with.
fn header(bytes: &[u8]) -> Option<Header> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, more) = match second & 0x7f {
        126 => (u16::from_be_bytes(*rest.first_chunk()?).into(), 2),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
        length => (length.into(), 0),
    };
    Some(Header {
        is_final: first & 0x80 != 0,
        reserved: first & 0x70,
        opcode: first & 0x0f,
        is_masked: second & 0x80 != 0,
        length,
        size: 2 + more,
    })
}
