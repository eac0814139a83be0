//! What is inside an encrypted message (protocol section 7): a sequence number, and text in one of
//! two forms.
//!
//! The forms are `text/plain`, which this agent writes, and `application/x-pinch+json`, which adds
//! who wrote the text and what it answers. Both are read here; any other form is an error that names
//! it.

use core::str::Utf8Error;

use prost::Message;
use serde::Deserialize;
use thiserror::Error;

/// The version of [`PlaintextPayload`] that is written and understood.
pub const VERSION: u32 = 1;

const TEXT: &str = "text/plain";
const JSON: &str = "application/x-pinch+json";

/// The message inside of the box.
#[derive(Clone, PartialEq, Message)]
pub struct PlaintextPayload {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Higher than that of every earlier message from the same sender.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// When it was written, in Unix milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
    /// What it says.
    #[prost(bytes = "vec", tag = "4")]
    pub content: Vec<u8>,
    /// The form of `content`.
    #[prost(string, tag = "5")]
    pub content_type: String,
}

impl PlaintextPayload {
    /// A payload of plain text.
    #[must_use]
    pub fn text(text: &str, sequence: u64, timestamp: i64) -> Self {
        Self {
            version: VERSION,
            sequence,
            timestamp,
            content: text.into(),
            content_type: TEXT.into(),
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// [`ContentError`] says why it cannot be read.
    pub fn content(&self) -> Result<Content, ContentError> {
        match self.content_type.as_str() {
            TEXT => Ok(Content {
                text: str::from_utf8(&self.content)?.into(),
                ..Content::default()
            }),
            JSON => Ok(serde_json::from_slice(&self.content)?),
            other => Err(ContentError::UnknownType(other.into())),
        }
    }
}

/// A message as its reader sees it. All of it was written by the sender: see
/// [`terminal`](crate::terminal) before printing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// The text itself.
    pub text: String,
    /// Who wrote it: `agent` or `human`.
    #[serde(default)]
    pub attribution: Option<String>,
    /// The conversation that it belongs to.
    #[serde(default)]
    pub thread_id: Option<String>,
    /// The message that it answers.
    #[serde(default)]
    pub reply_to: Option<String>,
}

/// Why the content of a message cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Its type is none of the two that are known.
    #[error("its content type is {0:?}, expected {TEXT} or {JSON}")]
    UnknownType(String),
    /// It is no UTF-8.
    #[error("its text is no UTF-8: {0}")]
    NotUtf8(#[from] Utf8Error),
    /// It is no JSON, or lacks the text.
    #[error("its JSON cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(content_type: &str, content: &str) -> PlaintextPayload {
        let content_type = content_type.into();
        PlaintextPayload {
            content_type,
            ..PlaintextPayload::text(content, 1, 2)
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let bytes = PlaintextPayload::text("Hi", 3, 4).encode_to_vec();
        assert_eq!(
            bytes,
            b"\x08\x01\x10\x03\x18\x04\x22\x02Hi\x2a\x0atext/plain"
        );
    }

    #[test]
    fn plain_text() {
        let content = payload(TEXT, "{\"text\":1}").content().unwrap();
        assert_eq!(
            content,
            Content {
                text: "{\"text\":1}".into(),
                ..Content::default()
            }
        );
    }

    #[test]
    fn text_with_attribution() {
        let json = r#"{"text":"Hi","attribution":"human","threadId":"t","replyTo":"r","later":[]}"#;
        let expected = Content {
            text: "Hi".into(),
            attribution: Some("human".into()),
            thread_id: Some("t".into()),
            reply_to: Some("r".into()),
        };
        assert_eq!(payload(JSON, json).content().unwrap(), expected);
        let bare = payload(JSON, r#"{"text":"Hi","threadId":null}"#)
            .content()
            .unwrap();
        assert_eq!(
            bare,
            Content {
                text: "Hi".into(),
                ..Content::default()
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let unknown = payload("image/png", "").content().unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "its content type is \"image/png\", expected text/plain or application/x-pinch+json"
        );
        assert!(matches!(
            payload(JSON, "{}").content(),
            Err(ContentError::Json(_))
        ));
        assert!(matches!(
            payload(JSON, "Hi").content(),
            Err(ContentError::Json(_))
        ));
        let binary = PlaintextPayload {
            content: vec![0xff],
            ..payload(TEXT, "")
        };
        assert!(matches!(binary.content(), Err(ContentError::NotUtf8(_))));
    }
}
