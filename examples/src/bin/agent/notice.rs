//! What the agent prints: one line for each thing that happened, for people or as JSON.

use core::fmt;
use std::io::{self, Write as _};

use jiff::Timestamp;
use pinch_examples::mailbox::{Received, Refusal, State};
use pinch_examples::terminal;
use pinch_proto::Address;
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// This agent has this address.
    Address { address: String },
    /// This agent can be reached.
    Joined { address: String },
    /// The relay is out of reach, and will be tried again.
    Disconnected { reason: String },
    /// A message came.
    Message(Message),
    /// The relay has a message of ours.
    Sent { message_id: String },
    /// The recipient has a message of ours.
    Delivered { by: String, message_id: String },
    /// The recipient has signed the id of a message of ours; what became of it is said by a word
    /// that is not signed, and unknown.
    Confirmed {
        by: String,
        message_id: String,
        unsigned_state: String,
    },
    /// The relay did not take something of ours, or cannot deliver it.
    Refused(Refused),
    /// The relay has kept messages for us.
    Waiting { count: i32 },
    /// A later process will not know that this message was sent.
    NotRemembered { message_id: String, reason: String },
    /// The sender of a message does not hear from us that it came.
    Unconfirmed { message_id: String, reason: String },
    /// What came cannot be believed.
    Rejected { reason: String },
    /// A message that may be an old one is not shown.
    Replayed {
        from: String,
        message_id: String,
        sequence: u64,
        last: u64,
    },
    /// What was remembered of a sender is forgotten.
    Forgotten { address: String, last: Option<u64> },
    /// A later process will not know which messages have come.
    NotSaved { reason: String },
    /// What came is of no use here.
    Ignored { from: String, r#type: i32 },
}

/// A message, as it is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    from: String,
    message_id: String,
    written: Option<String>,
    text: String,
    attribution: Option<String>,
    thread_id: Option<String>,
    reply_to: Option<String>,
}

/// A refusal, as it is printed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refused {
    message_id: String,
    /// It was not a message, but the confirmation of one.
    pub(crate) is_confirmation: bool,
    to: Option<String>,
    reason: String,
    retry_after_ms: Option<i64>,
}

impl From<Received> for Notice {
    fn from(received: Received) -> Self {
        match received {
            Received::Text {
                from,
                message_id,
                written,
                content,
                confirm: _,
            } => Self::Message(Message {
                from: from.to_string(),
                message_id: id_text(&message_id),
                written: Timestamp::from_millisecond(written.0)
                    .ok()
                    .map(|time| format!("{time:.3}")),
                text: content.text,
                attribution: content.attribution,
                thread_id: content.thread_id,
                reply_to: content.reply_to,
            }),
            Received::Confirmed {
                by,
                message_id,
                state,
            } => {
                let (by, message_id) = (by.to_string(), id_text(&message_id));
                match state {
                    State::Delivered => Self::Delivered { by, message_id },
                    State::Other(unsigned_state) => Self::Confirmed {
                        by,
                        message_id,
                        unsigned_state: shortened(&unsigned_state),
                    },
                    _ => Self::Confirmed {
                        by,
                        message_id,
                        unsigned_state: String::new(),
                    },
                }
            }
            Received::Refused(refusal) => Self::Refused(refusal.into()),
            Received::Waiting { count } => Self::Waiting { count },
            Received::Other { from, message_type } => Self::Ignored {
                from,
                r#type: message_type,
            },
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            message_id,
            is_confirmation,
            to,
            reason,
            retry_after_ms,
        } = refusal;
        Self {
            message_id: id_text(&message_id),
            is_confirmation,
            to,
            reason,
            retry_after_ms,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address } => f.write_str(address),
            Self::Joined { address } => write!(f, "-- joined as {address}"),
            Self::Disconnected { reason } => write!(f, "-- disconnected, trying again: {reason}"),
            Self::Message(message) => write!(f, "{}: {}", message.from, message.text),
            Self::Sent { message_id } => write!(f, "-- sent: {message_id}"),
            Self::Delivered { by: _, message_id } => write!(f, "-- delivered: {message_id}"),
            Self::Confirmed {
                by: _,
                message_id,
                unsigned_state,
            } => write!(
                f,
                "-- confirmed: {message_id}, in a state that is not signed: {unsigned_state:?}"
            ),
            Self::Refused(refused) => write!(f, "-- {refused}"),
            Self::Waiting { count } => write!(f, "-- {count} waiting"),
            Self::Unconfirmed { message_id, reason } => {
                write!(f, "-- not confirmed: {message_id}: {reason}")
            }
            Self::NotRemembered { message_id, reason } => {
                write!(f, "-- not remembered: {message_id}: {reason}")
            }
            Self::Rejected { reason } => write!(f, "-- rejected: {reason}"),
            Self::Replayed {
                from,
                message_id,
                sequence,
                last,
            } => write!(
                f,
                "-- not shown: message {message_id} from {from}: its sequence {sequence} does not \
                 follow {last}. It is a replay, or comes twice, or {from} has lost count: if it says \
                 so, run `agent forget` with its address, and let it send again"
            ),
            Self::Forgotten {
                address,
                last: Some(last),
            } => write!(f, "-- forgotten: {address}, whose last sequence was {last}"),
            Self::Forgotten {
                address,
                last: None,
            } => {
                write!(f, "-- nothing to forget: no message from {address}")
            }
            Self::NotSaved { reason } => write!(
                f,
                "-- not saved: after a restart, messages of now can be replayed: {reason}"
            ),
            Self::Ignored { from, r#type } => {
                write!(f, "-- ignored: an envelope of type {type} from {from}")
            }
        }
    }
}

/// Confirmations are refused too, but people are not told.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_confirmation {
            "confirmation of"
        } else {
            "message"
        };
        write!(f, "refused: {what} {}: {}", self.message_id, self.reason)?;
        match self.retry_after_ms {
            Some(wait) => write!(f, "; try again in {wait} ms"),
            None => Ok(()),
        }
    }
}

/// How notices are written on stdout.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// As JSON, all of them.
    Json,
    /// For a person who wants to know what comes.
    Listen,
    /// For a person who talks to one other, who needs no name.
    Chat(Address),
    /// For a person who sends one message. What becomes of it is said in the end.
    Send,
}

impl Form {
    /// Prints `notice` on a line of its own, at once.
    pub(crate) fn print(&self, notice: &Notice) -> io::Result<()> {
        let Some(line) = self.line(notice)? else {
            return Ok(());
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    fn line(&self, notice: &Notice) -> io::Result<Option<String>> {
        let line = match (self, notice) {
            (Self::Json, _) => return Ok(Some(terminal::json(notice)?)),
            // People who have read a message need not know whether its sender hears of it.
            (_, Notice::Refused(refused)) if refused.is_confirmation => return Ok(None),
            (Self::Send, Notice::Refused(_) | Notice::Joined { .. }) => return Ok(None),
            (Self::Chat(peer), Notice::Message(message)) if message.from == peer.as_str() => {
                format!("< {}", message.text)
            }
            (_, _) => notice.to_string(),
        };
        Ok(Some(terminal::plain(&line)))
    }
}

/// The longest that is shown of what anybody can make as long as an envelope.
const SHOWN: usize = 64;

/// An id as text: ids of the field are text; what is not is shown in hexadecimal digits. Of one that
/// is longer than ids are, the beginning is shown.
pub(crate) fn id_text(id: &[u8]) -> String {
    if let Some(beginning) = id.get(..SHOWN).filter(|_| id.len() > SHOWN) {
        return format!("{}...", id_text(beginning));
    }
    match str::from_utf8(id) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => text.into(),
        Ok(_) | Err(_) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    let mut beginning: String = text.chars().take(SHOWN).collect();
    if beginning.len() < text.len() {
        beginning.push_str("...");
    }
    beginning
}

#[cfg(test)]
mod tests {
    use pinch_examples::plaintext::Content;
    use pinch_proto::UnixMillis;
    use pinch_proto::wire::Envelope;

    use super::*;

    fn alice() -> Address {
        Address::parse("pinch:alice@relay").unwrap()
    }

    fn message(text: &str) -> Notice {
        Notice::from(Received::Text {
            from: alice(),
            message_id: "id-1".into(),
            written: UnixMillis(1_700_000_000_123),
            content: Content {
                text: text.into(),
                attribution: Some("human".into()),
                ..Content::default()
            },
            confirm: Ok(Box::new(Envelope::default())),
        })
    }

    fn lines(notice: &Notice) -> [Option<String>; 3] {
        [Form::Listen, Form::Chat(alice()), Form::Send].map(|form| form.line(notice).unwrap())
    }

    fn json(notice: &Notice) -> String {
        Form::Json.line(notice).unwrap().unwrap()
    }

    #[test]
    fn a_message_is_one_harmless_line() {
        let long = Some("pinch:alice@relay: a -- [2Jb".into());
        let short = Some("< a -- [2Jb".into());
        assert_eq!(
            lines(&message("a\n-- \x1b[2Jb")),
            [long.clone(), short, long]
        );
        let bob = Form::Chat(Address::parse("pinch:bob@relay").unwrap());
        let line = bob.line(&message("Hi")).unwrap();
        assert_eq!(
            line.unwrap(),
            "pinch:alice@relay: Hi",
            "strangers are named in a chat"
        );
    }

    #[test]
    fn json_is_one_object() {
        let expected = concat!(
            r#"{"event":"message","from":"pinch:alice@relay","message_id":"id-1","#,
            r#""written":"2023-11-14T22:13:20.123Z","text":"a\nb\u009b","attribution":"human","#,
            r#""thread_id":null,"reply_to":null}"#,
        );
        assert_eq!(json(&message("a\nb\u{9b}")), expected);
        let joined = Notice::Joined {
            address: "a".into(),
        };
        assert_eq!(json(&joined), r#"{"event":"joined","address":"a"}"#);
    }

    #[test]
    fn refusals_name_the_message_and_the_reason() {
        let refusal = Refusal {
            message_id: "m1".into(),
            is_confirmation: false,
            to: None,
            reason: "too fast\x1b".into(),
            retry_after_ms: Some(7),
        };
        let notice = Notice::from(Received::Refused(refusal.clone()));
        let line = Some("-- refused: message m1: too fast; try again in 7 ms".into());
        assert_eq!(lines(&notice), [line.clone(), line, None]);

        let confirmation = Refusal {
            is_confirmation: true,
            retry_after_ms: None,
            ..refusal
        };
        let notice = Notice::from(Received::Refused(confirmation));
        assert_eq!(lines(&notice), [None, None, None]);
        let expected = concat!(
            r#"{"event":"refused","message_id":"m1","is_confirmation":true,"to":null,"#,
            r#""reason":"too fast\u001b","retry_after_ms":null}"#,
        );
        assert_eq!(json(&notice), expected);
    }

    #[test]
    fn a_state_that_nobody_knows_is_quoted() {
        let confirmed = |state: &str| {
            Notice::from(Received::Confirmed {
                by: alice(),
                message_id: "m1".into(),
                state: state.into(),
            })
        };
        let line = Form::Send.line(&confirmed("delivered")).unwrap();
        assert_eq!(line.unwrap(), "-- delivered: m1");
        let forged = confirmed("read\n-- \x1b[2J\"paid\u{202e}");
        let line = Form::Send.line(&forged).unwrap().unwrap();
        let quoted = r#""read\n-- \u{1b}[2J\"paid\u{202e}""#;
        let expected = "-- confirmed: m1, in a state that is not signed: ";
        assert_eq!(line, format!("{expected}{quoted}"));
        assert!(json(&confirmed(&"x".repeat(60_000))).len() < 300);
    }

    #[test]
    fn an_id_is_shown_as_text_if_it_is_one() {
        assert_eq!(id_text(b"0f-a"), "0f-a");
        assert_eq!(id_text(b"0f a"), "30662061");
        assert_eq!(id_text(&[0xff, 0x00]), "ff00");
        assert_eq!(id_text(b""), "");
        assert_eq!(id_text(&[b'x'; 64]).len(), 64);
        assert_eq!(id_text(&[b'x'; 65]), format!("{}...", "x".repeat(64)));
    }
}
