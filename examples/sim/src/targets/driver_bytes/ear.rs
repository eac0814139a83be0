//! What a peer hears: the bytes of a relay, read strictly.
//!
//! It is a second reading of what a server may write: one HTTP response, and nothing after it unless
//! it is a 101; then whole, unmasked frames of RFC 6455 with lengths as short as can be; and nothing
//! after a close frame.

use std::collections::VecDeque;

use bytes::Bytes;

/// Something that a relay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The status of an HTTP response.
    Status(u16),
    Message(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// A close frame, perhaps without a code.
    Close(Option<u16>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    /// So much of the body is missing.
    Body(usize),
    Frames,
    /// Nothing may follow.
    Over,
}

#[derive(Debug)]
pub(super) struct Ear {
    bytes: VecDeque<u8>,
    stage: Stage,
}

impl Ear {
    /// For a stream that begins with HTTP, or is upgraded already.
    pub(super) fn new(is_upgraded: bool) -> Self {
        Self {
            bytes: VecDeque::new(),
            stage: if is_upgraded {
                Stage::Frames
            } else {
                Stage::Head
            },
        }
    }

    /// Hears `bytes`. `Err` says what a relay must not say.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, String> {
        self.bytes.extend(bytes);
        let mut heard = vec![];
        loop {
            match self.stage {
                Stage::Head => match self.head()? {
                    Some(status) => heard.push(Heard::Status(status)),
                    None => return Ok(heard),
                },
                Stage::Body(missing) => {
                    let came = missing.min(self.bytes.len());
                    self.bytes.drain(..came);
                    self.stage = match missing - came {
                        0 => Stage::Over,
                        rest => Stage::Body(rest),
                    };
                    if came < missing {
                        return Ok(heard);
                    }
                }
                Stage::Frames => match self.frame()? {
                    Some(said) => heard.push(said),
                    None => return Ok(heard),
                },
                Stage::Over if self.bytes.is_empty() => return Ok(heard),
                Stage::Over => return Err(format!("{:x?} after the end", self.bytes)),
            }
        }
    }

    fn head(&mut self) -> Result<Option<u16>, String> {
        let bytes = self.bytes.make_contiguous();
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
        let head = String::from_utf8(head).map_err(|error| error.to_string())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|line| line.get(..3)?.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no status line: {head:?}"))?;
        let fields = lines.filter_map(|line| line.split_once(": "));
        let value = |name: &str| {
            let mut fields = fields.clone();
            let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        if status == 101 {
            let accepts = value("sec-websocket-accept").is_some_and(|accept| accept.len() == 28);
            let upgrades = value("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
            if !accepts || !upgrades {
                return Err(format!("no upgrade: {head:?}"));
            }
            self.stage = Stage::Frames;
        } else {
            let length = value("content-length").and_then(|length| length.parse().ok());
            let length = length.ok_or_else(|| format!("no length: {head:?}"))?;
            let connection = value("connection").unwrap_or_default();
            if !connection.split(',').any(|option| option.trim() == "close") {
                return Err(format!("it does not say that it closes: {head:?}"));
            }
            self.stage = Stage::Body(length);
        }
        Ok(Some(status))
    }

    fn frame(&mut self) -> Result<Option<Heard>, String> {
        let bytes = self.bytes.make_contiguous();
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let (length, shortest, header) = match second {
            128.. => return Err("a masked frame".into()),
            127 => (
                rest.first_chunk().map(|it| u64::from_be_bytes(*it)),
                1 << 16,
                10,
            ),
            126 => {
                let length = rest.first_chunk().map(|it| u16::from_be_bytes(*it));
                (length.map(u64::from), 126, 4)
            }
            length => (Some(length.into()), 0, 2),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length < shortest {
            return Err(format!(
                "a length of {length} that is not as short as can be"
            ));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let end = length.saturating_add(header);
        if bytes.len() < end {
            return Ok(None);
        }
        let payload: Bytes = self.bytes.drain(..end).skip(header).collect();
        if first != 0x82 && length > 125 {
            return Err(format!("a control frame of {length} bytes"));
        }
        match first {
            0x82 => Ok(Some(Heard::Message(payload))),
            0x89 => Ok(Some(Heard::Ping(payload))),
            0x8a => Ok(Some(Heard::Pong(payload))),
            0x88 => {
                self.stage = Stage::Over;
                close_code(&payload).map(|code| Some(Heard::Close(code)))
            }
            _ => Err(format!("a frame that begins with {first:#04x}")),
        }
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, String> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err("half a close code".into()),
    };
    // RFC 6455 section 7.4: these never stand in a frame.
    if !(1000..5000).contains(&code) || matches!(code, 1004..=1006 | 1015..=2999) {
        return Err(format!("close code {code}"));
    }
    core::str::from_utf8(reason).map_err(|_| format!("a reason that is no text: {reason:x?}"))?;
    Ok(Some(code))
}
