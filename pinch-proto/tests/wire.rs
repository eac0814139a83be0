//! The numbers of the wire, byte by byte and written by hand from protocol section 2: what existing
//! clients read and write. A number that moves in the code breaks them, and a test here.

use bytes::Bytes;
use pinch_proto::wire::{
    AuthChallenge, AuthResponse, AuthResult, BlockNotification, ConnectionRequest,
    ConnectionResponse, ConnectionRevoke, DeliveryConfirm, EncryptedPayload, Envelope, Handshake,
    Heartbeat, MessageType, Payload, QueueFull, QueueStatus, RateLimited, UnblockNotification,
    VERSION,
};
use pinch_proto::{EnvelopeView, UnixMillis};
use prost::Message;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("two hex digits"))
        .collect()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A payload with a value in every field, the number of its type, its field's key in an envelope,
/// and its own bytes.
fn payloads() -> Vec<(Payload, i32, &'static str, &'static str)> {
    vec![
        (
            Payload::Encrypted(EncryptedPayload {
                nonce: bytes("n"),
                ciphertext: bytes("c"),
                sender_public_key: bytes("k"),
            }),
            4,
            "52",
            "0a016e 120163 1a016b",
        ),
        (
            Payload::Handshake(Handshake {
                version: 1,
                signing_key: bytes("s"),
                encryption_key: bytes("e"),
            }),
            1,
            "5a",
            "0801 120173 1a0165",
        ),
        (
            Payload::Heartbeat(Heartbeat { timestamp: 300 }),
            8,
            "62",
            "08ac02",
        ),
        (
            Payload::AuthChallenge(AuthChallenge {
                version: 1,
                nonce: bytes("n"),
                issued_at_ms: 2,
                expires_at_ms: 3,
                relay_host: "h".into(),
            }),
            2,
            "6a",
            "0801 12016e 1802 2003 2a0168",
        ),
        (
            Payload::AuthResponse(AuthResponse {
                version: 1,
                public_key: bytes("k"),
                signature: bytes("s"),
                nonce: bytes("n"),
            }),
            3,
            "72",
            "0801 12016b 1a0173 22016e",
        ),
        (
            Payload::AuthResult(AuthResult {
                success: true,
                error_message: "e".into(),
                assigned_address: "a".into(),
            }),
            9,
            "7a",
            "0801 120165 1a0161",
        ),
        (
            Payload::ConnectionRequest(ConnectionRequest {
                from_address: "f".into(),
                to_address: "t".into(),
                message: "m".into(),
                sender_public_key: bytes("k"),
                expires_at: 5,
            }),
            6,
            "8201",
            "0a0166 120174 1a016d 22016b 2805",
        ),
        (
            Payload::ConnectionResponse(ConnectionResponse {
                from_address: "f".into(),
                to_address: "t".into(),
                accepted: true,
                responder_public_key: bytes("k"),
            }),
            7,
            "8a01",
            "0a0166 120174 1801 22016b",
        ),
        (
            Payload::ConnectionRevoke(ConnectionRevoke {
                from_address: "f".into(),
                to_address: "t".into(),
            }),
            10,
            "9201",
            "0a0166 120174",
        ),
        (
            Payload::BlockNotification(BlockNotification {
                blocker_address: "b".into(),
                blocked_address: "d".into(),
            }),
            11,
            "9a01",
            "0a0162 120164",
        ),
        (
            Payload::UnblockNotification(UnblockNotification {
                unblocker_address: "u".into(),
                unblocked_address: "d".into(),
            }),
            12,
            "a201",
            "0a0175 120164",
        ),
        (
            Payload::DeliveryConfirm(DeliveryConfirm {
                message_id: bytes("i"),
                signature: bytes("s"),
                timestamp: 3,
                state: "t".into(),
                was_stored: true,
            }),
            5,
            "aa01",
            "0a0169 120173 1803 220174 2801",
        ),
        (
            Payload::QueueStatus(QueueStatus { pending_count: 3 }),
            13,
            "b201",
            "0803",
        ),
        (
            Payload::QueueFull(QueueFull {
                recipient_address: "r".into(),
                reason: "w".into(),
            }),
            14,
            "ba01",
            "0a0172 120177",
        ),
        (
            Payload::RateLimited(RateLimited {
                retry_after_ms: 1000,
                reason: "w".into(),
            }),
            15,
            "c201",
            "08e807 120177",
        ),
    ]
}

#[test]
fn message_types() {
    let table = [
        (MessageType::Unspecified, 0),
        (MessageType::Handshake, 1),
        (MessageType::AuthChallenge, 2),
        (MessageType::AuthResponse, 3),
        (MessageType::Message, 4),
        (MessageType::DeliveryConfirm, 5),
        (MessageType::ConnectionRequest, 6),
        (MessageType::ConnectionResponse, 7),
        (MessageType::Heartbeat, 8),
        (MessageType::AuthResult, 9),
        (MessageType::ConnectionRevoke, 10),
        (MessageType::BlockNotification, 11),
        (MessageType::UnblockNotification, 12),
        (MessageType::QueueStatus, 13),
        (MessageType::QueueFull, 14),
        (MessageType::RateLimited, 15),
    ];
    for (kind, number) in table {
        assert_eq!(i32::from(kind), number);
        assert_eq!(MessageType::try_from(number), Ok(kind));
        let bytes = [0x20, u8::try_from(number).unwrap()];
        assert_eq!(
            EnvelopeView::parse(&bytes).unwrap().message_type(),
            Some(kind)
        );
        assert_eq!(Envelope::decode(&bytes[..]).unwrap().r#type(), kind);
    }
    for unknown in [-1, 16, i32::MIN, i32::MAX] {
        assert!(MessageType::try_from(unknown).is_err());
    }
}

#[test]
fn an_envelope_of_the_relay() {
    assert_eq!(VERSION, 1);
    for (payload, number, key, body) in payloads() {
        let body = hex(body);
        let length = [u8::try_from(body.len()).unwrap()];
        let expected = [
            &hex("0801 20")[..],
            &[u8::try_from(number).unwrap()],
            &hex("3007 "),
            &hex(key),
            &length,
            &body,
        ]
        .concat();

        assert_eq!(i32::from(payload.message_type()), number);
        let envelope = Envelope::from_relay(payload, UnixMillis(7));
        assert_eq!(envelope.to_bytes(), expected, "{envelope:?}");
        assert_eq!(Envelope::decode(&expected[..]), Ok(envelope));

        let view = EnvelopeView::parse(&expected).unwrap();
        assert_eq!(view.type_number(), number);
        assert_eq!(
            (view.from_address(), view.to_address(), view.message_id()),
            ("", "", &[][..])
        );
    }
}

#[test]
fn an_envelope_of_an_agent() {
    for (payload, number, key, body) in payloads() {
        let body = hex(body);
        let length = [u8::try_from(body.len()).unwrap()];
        let head = hex("0801 120166 1a0174 20");
        let expected = [
            &head[..],
            &[u8::try_from(number).unwrap()],
            &hex("2a0169 308094ebdc03"),
            &hex(key),
            &length,
            &body,
        ]
        .concat();

        let envelope = Envelope {
            version: 1,
            from_address: "f".into(),
            to_address: "t".into(),
            r#type: number,
            message_id: bytes("i"),
            timestamp: 1_000_000_000,
            payload: Some(payload),
        };
        assert_eq!(envelope.to_bytes(), expected, "{envelope:?}");
        assert_eq!(Envelope::decode(&expected[..]), Ok(envelope));

        let view = EnvelopeView::parse(&expected).unwrap();
        assert_eq!((view.from_address(), view.to_address()), ("f", "t"));
        assert_eq!((view.type_number(), view.message_id()), (number, &b"i"[..]));
    }
}

#[test]
fn every_payload_is_in_the_table() {
    let mut numbers: Vec<i32> = payloads()
        .into_iter()
        .map(|(_, number, _, _)| number)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(1..=15));
}

#[test]
fn an_unknown_type_is_kept() {
    // 99, and -1 as the ten bytes that protobuf makes of it.
    for (bytes, number) in [(hex("2063"), 99), (hex("20ffffffffffffffffff01"), -1)] {
        let envelope = Envelope::decode(&bytes[..]).unwrap();
        assert_eq!(envelope.r#type, number);
        assert_eq!(envelope.to_bytes(), bytes);
        let view = EnvelopeView::parse(&bytes).unwrap();
        assert_eq!((view.type_number(), view.message_type()), (number, None));
    }
}
