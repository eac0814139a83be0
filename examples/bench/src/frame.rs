//! WebSocket frames (RFC 6455), as far as a client and a relay need them that have no time to lose.
//!
//! Nothing is allocated and nothing is copied here: a header is read from the bytes that hold it, or
//! appended to a buffer. What a frame means is decided by those who read it.

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a message.
    Continuation,
    /// Begins a message of text.
    Text,
    /// Begins a message of bytes.
    Binary,
    /// Ends the connection.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
    /// Has no meaning.
    Reserved,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => Self::Reserved,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
            Self::Reserved => 0xf,
        }
    }
}

/// The key that a client's payload is masked with.
pub type MaskKey = [u8; 4];

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub fin: bool,
    /// What the frame is for.
    pub opcode: Opcode,
    /// The key, if the payload is masked.
    pub mask: Option<MaskKey>,
    /// How many bytes the header itself has.
    pub len: usize,
    /// How many bytes the payload has.
    pub payload: usize,
}

impl Header {
    /// Reads the header that `bytes` begin with; `None` if it is not all there.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second] = *bytes.first_chunk()?;
        let (mut len, payload) = match second & !MASKED {
            126 => {
                let [_, _, long @ ..] = *bytes.first_chunk::<4>()?;
                (4, u16::from_be_bytes(long).into())
            }
            127 => {
                let [_, _, long @ ..] = *bytes.first_chunk::<10>()?;
                let payload = u64::from_be_bytes(long);
                (10, usize::try_from(payload).unwrap_or(usize::MAX))
            }
            short => (2, short.into()),
        };
        let mut mask = None;
        if second & MASKED != 0 {
            mask = Some(*bytes.get(len..)?.first_chunk()?);
            len += size_of::<MaskKey>();
        }
        Some(Self {
            fin: first & FIN != 0,
            opcode: Opcode::from_bits(first & 0x0f),
            mask,
            len,
            payload,
        })
    }

    /// Where the frame ends, counted from where its header begins.
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.len.saturating_add(self.payload)
    }
}

/// The longest header without a mask.
const MAX_UNMASKED: usize = 10;

/// The header of an unmasked frame that is a whole message, and how many of the bytes it has.
#[must_use]
pub fn unmasked_header(opcode: Opcode, payload: usize) -> ([u8; MAX_UNMASKED], usize) {
    let mut header = [0; MAX_UNMASKED];
    header[0] = FIN | opcode.bits();
    let len = if let Ok(short @ 0..126) = u8::try_from(payload) {
        header[1] = short;
        2
    } else if let Ok(medium) = u16::try_from(payload) {
        header[1] = 126;
        header[2..4].copy_from_slice(&medium.to_be_bytes());
        4
    } else {
        header[1] = 127;
        let long = u64::try_from(payload).unwrap_or(u64::MAX);
        header[2..].copy_from_slice(&long.to_be_bytes());
        10
    };
    (header, len)
}

/// Appends a frame as relays write it.
pub fn put_unmasked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, len) = unmasked_header(opcode, payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// Appends a frame as clients write it.
pub fn put_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: MaskKey) {
    let (mut header, len) = unmasked_header(opcode, payload.len());
    header[1] |= MASKED;
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(&key);
    let begin = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[begin..], key);
}

/// Masks what is not masked, and the other way round.
pub fn apply_mask(bytes: &mut [u8], key: MaskKey) {
    let [a, b, c, d] = key;
    let wide = [a, b, c, d, a, b, c, d];
    let mut words = bytes.chunks_exact_mut(wide.len());
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(wide) {
        *byte ^= key;
    }
}

/// The code and the reason of a close frame with this payload.
#[must_use]
pub fn close_reason(payload: &[u8]) -> (Option<u16>, String) {
    match payload {
        [high, low, reason @ ..] => (
            Some(u16::from_be_bytes([*high, *low])),
            String::from_utf8_lossy(reason).into_owned(),
        ),
        _ => (None, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: MaskKey = [0xde, 0xad, 0xbe, 0xef];

    #[test]
    fn frames_are_read_as_they_were_written() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; len];
            for masked in [false, true] {
                let mut frame = Vec::new();
                if masked {
                    put_masked(&mut frame, Opcode::Binary, &payload, KEY);
                } else {
                    put_unmasked(&mut frame, Opcode::Binary, &payload);
                }
                let header = Header::parse(&frame).unwrap();
                assert!(header.fin);
                assert_eq!(header.opcode, Opcode::Binary);
                assert_eq!(header.mask, masked.then_some(KEY));
                assert_eq!(header.payload, len);
                assert_eq!(header.frame_len(), frame.len());
                let body = &mut frame[header.len..];
                if masked {
                    apply_mask(body, KEY);
                }
                assert_eq!(body, payload);
                for cut in 0..header.len {
                    assert_eq!(Header::parse(&frame[..cut]), None);
                }
            }
        }
    }

    #[test]
    fn every_byte_is_masked_with_its_part_of_the_key() {
        for len in 0..40 {
            let plain: Vec<u8> = (0..len).collect();
            let mut masked = plain.clone();
            apply_mask(&mut masked, KEY);
            for (at, byte) in masked.iter().enumerate() {
                assert_eq!(*byte, plain[at] ^ KEY[at % 4]);
            }
        }
    }

    #[test]
    fn the_frames_of_the_standard_are_read() {
        // RFC 6455 section 5.7: "Hello" masked, and a ping with the same text unmasked.
        let mut hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let header = Header::parse(&hello).unwrap();
        assert_eq!(header.opcode, Opcode::Text);
        apply_mask(&mut hello[header.len..], header.mask.unwrap());
        assert_eq!(&hello[header.len..], b"Hello");

        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(Header::parse(&ping).unwrap().opcode, Opcode::Ping);
        let mut written = Vec::new();
        put_unmasked(&mut written, Opcode::Ping, b"Hello");
        assert_eq!(written, ping);
    }

    #[test]
    fn a_close_frame_says_why() {
        assert_eq!(close_reason(b"\x03\xf0why"), (Some(1008), "why".into()));
        assert_eq!(close_reason(b"\x03"), (None, String::new()));
    }
}
