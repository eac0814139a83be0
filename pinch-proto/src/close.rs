//! Why a connection ends: the code and the reason of a WebSocket close frame.

use alloc::borrow::Cow;
use core::fmt;
use core::time::Duration;

/// A close code (RFC 6455 section 7.4), named for those that the protocol uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The conversation is over.
    pub const NORMAL: Self = Self(1000);
    /// The relay shuts down.
    pub const GOING_AWAY: Self = Self(1001);
    /// Stands for a close frame without a code; not on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The peer sent a kind of message that is not spoken here: text.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The peer sent a binary message that is no envelope.
    pub const INVALID_DATA: Self = Self(1007);
    /// The peer broke a rule of the relay; the reason says which.
    pub const POLICY: Self = Self(1008);
    /// The relay cannot take the connection now.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// The peer sent a message that is too long.
    pub const TOO_BIG: Self = Self(1009);
    /// Another connection took the address over (protocol section 3).
    pub const REPLACED: Self = Self(4001);

    /// Whether a close frame may carry this code (RFC 6455 section 7.4 and the registry that it
    /// founded): 1000 to 1003, 1007 to 1014, and 3000 to 4999. The others are reserved, or stand for
    /// an end without a code.
    #[must_use]
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Text in front of the milliseconds after which a join that was refused may be tried again, in the
/// reason of a close frame and of AUTH_RESULT.
pub(crate) const RETRY_IN: &str = "try again in ";

/// The time that `reason` says to wait before joining again, if it does.
pub(crate) fn retry_after(reason: &str) -> Option<Duration> {
    let (_, wait) = reason.rsplit_once(RETRY_IN)?;
    let millis = wait.strip_suffix(" ms")?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// A close frame: sent to a peer, or received from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Close {
    /// The code.
    pub code: CloseCode,
    /// For people and logs; at most [`Close::MAX_REASON`] bytes reach the wire.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// The longest reason that fits a close frame, in bytes (RFC 6455 section 5.5).
    pub const MAX_REASON: usize = 123;

    /// A close frame with an empty payload.
    pub const NO_STATUS: Self = Self {
        code: CloseCode::NO_STATUS,
        reason: Cow::Borrowed(""),
    };

    /// A close frame with `code`, and `reason` cut to [`Close::MAX_REASON`] bytes if it is longer.
    ///
    /// ```
    /// use pinch_proto::{Close, CloseCode};
    ///
    /// let close = Close::new(CloseCode::GOING_AWAY, "going away");
    /// assert_eq!(close.to_string(), "1001 going away");
    /// ```
    #[must_use]
    pub fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > Self::MAX_REASON {
            let end = (0..=Self::MAX_REASON)
                .rev()
                .find(|&at| reason.is_char_boundary(at))
                .unwrap_or(0);
            reason.to_mut().truncate(end);
        }
        Self { code, reason }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.0)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        Ok(())
    }
}
