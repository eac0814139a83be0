//! What the relay says when it closes a connection: the codes and reasons of the protocol.

use std::borrow::Cow;

use pinch_proto::hub::{CloseCause, Fault, Violation};
use pinch_proto::wire::MessageType;
use pinch_proto::{Close, CloseCode};

/// The close frame for `cause`; none if the peer has closed, or cannot hear it.
pub(super) fn close_frame(cause: &CloseCause) -> Option<Close> {
    let (code, reason): (_, Cow<'static, str>) = match cause {
        CloseCause::HeartbeatTimeout => (1008, "heartbeat timeout".into()),
        CloseCause::TooSlow => (1008, "too slow".into()),
        CloseCause::ControlFlood => (1008, "too many control frames".into()),
        CloseCause::MessageTimeout => (1008, "message took too long".into()),
        CloseCause::MessageEvicted => (1013, "too many messages have begun; send it again".into()),
        CloseCause::Replaced => (4001, "replaced by a new connection".into()),
        CloseCause::GoingAway => (1001, "going away".into()),
        CloseCause::Violation(violation) => of_violation(violation),
        CloseCause::Peer | CloseCause::Lost | _ => return None,
    };
    let code = CloseCode(code);
    Some(Close { code, reason })
}

fn of_violation(violation: &Violation) -> (u16, Cow<'static, str>) {
    match violation {
        Violation::Text => (1003, "text message, expected a binary one".into()),
        Violation::InvalidUtf8 => (1007, "text that is not UTF-8".into()),
        Violation::TooBig { limit } => (1009, format!("message over {limit} bytes").into()),
        Violation::Malformed(error) => (1007, format!("no envelope: {error}").into()),
        Violation::MalformedPayload(kind) => (1007, format!("the payload is no {kind:?}").into()),
        Violation::NotYourAddress => (1008, "from_address is not yours".into()),
        Violation::RelayOnlyType(kind) => {
            (1008, format!("only the relay may send {kind:?}").into())
        }
        Violation::Protocol | _ => (1002, "WebSocket protocol error".into()),
    }
}

/// What the fault of a peer is called when its connection ends for it.
pub(super) const fn violation_of(fault: Fault, limit: usize) -> Violation {
    match fault {
        Fault::Text => Violation::Text,
        Fault::InvalidUtf8 => Violation::InvalidUtf8,
        Fault::TooBig => Violation::TooBig { limit },
        Fault::Protocol => Violation::Protocol,
    }
}

/// Whether no agent may say this once it has joined.
pub(super) fn is_for_the_relay_only(kind: MessageType) -> bool {
    [2, 3, 9, 13, 14, 15].contains(&i32::from(kind))
}
