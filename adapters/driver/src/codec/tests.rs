//! Conversations in every cut, and what they come to.

use std::vec;

use allocation_counter::measure;
use pinch_proto::{Close, CloseCode};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 70_000;
const LAST: u8 = 0x80;
const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame as a client writes it, by the letter of RFC 6455 section 5.2.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let length = payload.len().to_be_bytes();
    let mut bytes = match payload.len() {
        0..126 => vec![first, 0x80 | length[7]],
        126..65_536 => [&[first, 0x80 | 126], &length[6..]].concat(),
        _ => [&[first, 0x80 | 127], &length[..]].concat(),
    };
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

fn ping(payload: &[u8]) -> Incoming {
    Incoming::Ping(Bytes::copy_from_slice(payload))
}

/// A close frame with the code 1000 and the reason `bye`.
fn bye() -> Incoming {
    Incoming::Close(Some(Close::new(CloseCode::NORMAL, "bye")))
}

fn message(payload: &[u8]) -> Incoming {
    Incoming::Message(Bytes::copy_from_slice(payload))
}

/// What a decoder says to `chunks`, and the decoder; it hears nothing after the end of the
/// conversation.
fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Incoming>, Decoder) {
    let mut decoder = Decoder::new(LIMIT);
    let mut heard = Vec::new();
    for chunk in chunks {
        if matches!(heard.last(), Some(Incoming::Close(_) | Incoming::Fault(_))) {
            break;
        }
        decoder.decode(chunk, |incoming| heard.push(incoming));
    }
    (heard, decoder)
}

#[track_caller]
fn owns_nothing(decoder: &Decoder) {
    assert_eq!(decoder.partial.capacity(), 0);
    assert!(decoder.fragments.is_none());
    assert_eq!(decoder.held_bytes(), 0);
}

/// Frames, and what they mean.
type Conversation = (Vec<Vec<u8>>, Vec<Incoming>);

fn conversations() -> Vec<Conversation> {
    let close = |payload: &[u8]| frame(LAST | CLOSE, payload);
    let fault = |fault| vec![Incoming::Fault(fault)];
    vec![
        (vec![], vec![]),
        (vec![frame(LAST | BINARY, b"")], vec![message(b"")]),
        (
            [125, 126, 200]
                .map(|len| frame(LAST | BINARY, &vec![7; len]))
                .to_vec(),
            [125, 126, 200].map(|len| message(&vec![7; len])).into(),
        ),
        (
            vec![
                frame(LAST | PING, b""),
                frame(LAST | PING, b"two"),
                frame(LAST | PONG, b"three"),
            ],
            vec![
                ping(b""),
                ping(b"two"),
                Incoming::Pong(Bytes::from_static(b"three")),
            ],
        ),
        // A message in fragments, with a ping in between, and another one behind it.
        (
            vec![
                frame(BINARY, b"he"),
                frame(LAST | PING, b"?"),
                frame(CONTINUE, b""),
                frame(CONTINUE, b"ll"),
                frame(LAST | CONTINUE, b"o"),
                frame(LAST | BINARY, b"you"),
            ],
            vec![ping(b"?"), message(b"hello"), message(b"you")],
        ),
        (vec![close(b"")], vec![Incoming::Close(None)]),
        (
            vec![
                frame(LAST | BINARY, b"last"),
                close(b"\x03\xe8bye"),
                frame(LAST | BINARY, b"late"),
            ],
            vec![message(b"last"), bye()],
        ),
        (vec![frame(LAST | TEXT, b"hello")], fault(Fault::Text)),
        (vec![frame(LAST | TEXT, b"\xff")], fault(Fault::InvalidUtf8)),
        (vec![close(b"\x03\xe8\xff")], fault(Fault::InvalidUtf8)),
        (
            vec![frame(TEXT, b"hel"), frame(LAST | CONTINUE, b"lo")],
            fault(Fault::Text),
        ),
        (
            vec![
                frame(LAST | BINARY, b"good"),
                frame(LAST | 3, b"bad"),
                frame(LAST | BINARY, b"late"),
            ],
            vec![message(b"good"), Incoming::Fault(Fault::Protocol)],
        ),
        (vec![frame(LAST | 11, b"")], fault(Fault::Protocol)),
        (
            vec![frame(LAST | 0x40 | BINARY, b"")],
            fault(Fault::Protocol),
        ),
        (vec![frame(PING, b"")], fault(Fault::Protocol)),
        (vec![frame(LAST | PING, &[0; 126])], fault(Fault::Protocol)),
        (vec![frame(LAST | CONTINUE, b"")], fault(Fault::Protocol)),
        (
            vec![frame(BINARY, b""), frame(LAST | BINARY, b"")],
            fault(Fault::Protocol),
        ),
        (vec![close(b"\x03")], fault(Fault::Protocol)),
        // Not masked.
        (vec![vec![LAST | BINARY, 1, b'x']], fault(Fault::Protocol)),
    ]
}

#[test]
fn wherever_a_conversation_is_cut_it_means_the_same() {
    for (frames, heard) in conversations() {
        let bytes = frames.concat();
        for cut in 0..=bytes.len() {
            let (start, end) = bytes.split_at(cut);
            let (found, decoder) = decode([start, end]);
            assert_eq!(found, heard, "{bytes:x?} cut at {cut}");
            owns_nothing(&decoder);
        }
        let (found, _) = decode(bytes.chunks(1));
        assert_eq!(found, heard, "{bytes:x?} byte by byte");
    }
}

#[test]
fn every_beginning_of_a_conversation_means_its_whole_frames() {
    let frames: Vec<Vec<u8>> = [0, 1, 125, 126, 300]
        .map(|len| frame(LAST | BINARY, &vec![9; len]))
        .into();
    let bytes = frames.concat();
    for end in 0..=bytes.len() {
        let (heard, decoder) = decode([&bytes[..end]]);
        let mut at = 0;
        let whole = frames.iter().take_while(|frame| {
            at += frame.len();
            at <= end
        });
        let whole = whole.count();
        assert_eq!(heard.len(), whole, "the first {end} bytes");
        let rest = end - frames[..whole].concat().len();
        assert_eq!(decoder.partial.len(), rest);
    }
}

#[test]
fn a_close_code_is_read_or_breaks_the_protocol() {
    let valid = [
        1000, 1001, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4001, 4999,
    ];
    let invalid = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];
    for fragment in [&b""[..], &frame(BINARY, b"begun")] {
        for code in valid {
            let payload = [&u16::to_be_bytes(code), &b"why"[..]].concat();
            let bytes = [fragment, &frame(LAST | CLOSE, &payload)].concat();
            let (heard, _) = decode([&bytes[..]]);
            let close = Close::new(CloseCode(code), "why");
            let mut echo = Vec::new();
            encode(&Frame::Close(close.clone()), &mut echo);
            assert_eq!(heard, [Incoming::Close(Some(close))]);
            assert_eq!(echo, [&[LAST | CLOSE, 5], &payload[..]].concat());
        }
        for code in invalid {
            let payload = u16::to_be_bytes(code);
            let bytes = [fragment, &frame(LAST | CLOSE, &payload)].concat();
            let (heard, _) = decode([&bytes[..]]);
            assert_eq!(heard, [Incoming::Fault(Fault::Protocol)], "{code}");
        }
    }
}

#[test]
fn a_client_reads_what_a_relay_sends_in_every_cut() {
    let frames = [
        &b"\x82\x05hello"[..],
        b"\x02\x02in\x89\x01?\x80\x03two\x8a\x01!",
        b"\x88\x05\x03\xf6bye",
    ];
    let bytes = frames.concat();
    let expected = [
        message(b"hello"),
        ping(b"?"),
        message(b"intwo"),
        Incoming::Pong(b"!".as_slice().into()),
        Incoming::Close(Some(Close::new(CloseCode(1014), "bye"))),
    ];
    for cut in 0..=bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let mut decoder = Decoder::of_relay(LIMIT);
        let mut heard = Vec::new();
        for chunk in [first, second] {
            if !matches!(heard.last(), Some(Incoming::Close(_))) {
                decoder.decode(chunk, |incoming| heard.push(incoming));
            }
        }
        assert_eq!(heard, expected, "cut at {cut}");
    }
    // A relay masks nothing.
    let mut heard = Vec::new();
    let masked = frame(LAST | BINARY, b"masked");
    Decoder::of_relay(LIMIT).decode(&masked, |incoming| heard.push(incoming));
    assert_eq!(
        heard,
        [Incoming::<core::convert::Infallible>::Fault(
            Fault::Protocol
        )]
    );
}

#[test]
fn between_messages_a_decoder_owns_no_memory() {
    let mut decoder = Decoder::new(LIMIT);
    let large = frame(LAST | BINARY, &vec![1; LIMIT]);
    let fragments = [
        frame(BINARY, &[1; 60_000]),
        frame(LAST | CONTINUE, &[1; 10_000]),
    ]
    .concat();
    for bytes in [large, fragments] {
        for chunk in bytes.chunks(1000) {
            decoder.decode(chunk, |_: Incoming| ());
        }
        owns_nothing(&decoder);
    }
}

#[test]
fn inside_of_a_message_a_decoder_keeps_no_buffer_for_what_came_with_its_beginning() {
    let mut decoder = Decoder::new(LIMIT);
    let pings = frame(LAST | PING, b"").repeat(40_000);
    let bytes = [frame(BINARY, &[1]), pings].concat();
    let held = measure(|| decoder.decode(&bytes, |_: Incoming| ()));
    assert!(held.bytes_current < 10_000, "{held:?}");
}

#[test]
fn a_message_that_has_begun_takes_little_more_than_it_is_long_and_says_so() {
    let whole = frame(LAST | BINARY, &vec![1; LIMIT]);
    let halves = [
        frame(BINARY, &vec![1; LIMIT / 2]),
        frame(CONTINUE, &vec![1; LIMIT / 2 - 1]),
    ];
    let many = [frame(BINARY, b""), frame(CONTINUE, &[1; 7]).repeat(9000)];
    let half_a_fragment = [
        frame(BINARY, &vec![1; LIMIT / 2]),
        frame(CONTINUE, &vec![1; LIMIT / 2]),
    ];
    for bytes in [
        whole[..LIMIT].to_vec(),
        halves.concat(),
        many.concat(),
        half_a_fragment.concat()[..LIMIT - 9].to_vec(),
    ] {
        for piece in [1000, 32 << 10] {
            let mut decoder = Decoder::new(LIMIT);
            let held = measure(|| {
                for piece in bytes.chunks(piece) {
                    decoder.decode(piece, |incoming: Incoming| panic!("{incoming:?}"));
                }
            });
            let (held, said) = (
                held.bytes_current.unsigned_abs(),
                decoder.held_bytes() as u64,
            );
            assert!(held <= LIMIT as u64 * 5 / 4, "{held} bytes");
            assert!(
                (held..=held + held / 8).contains(&said),
                "{said} for {held}"
            );
            decoder.discard();
            assert_eq!(decoder.held_bytes(), 0);
        }
    }
    // Text is none for a relay, and bounded all the same.
    let mut decoder = Decoder::new(LIMIT);
    let text = [
        frame(TEXT, &[b'x'; 50_000]),
        frame(CONTINUE, &[b'x'; 9_000]),
    ]
    .concat();
    let held = measure(|| decoder.decode(&text, |incoming: Incoming| panic!("{incoming:?}")));
    let said = decoder.held_bytes() as u64;
    assert!(
        held.bytes_current.unsigned_abs() <= said + 1000,
        "{said} for {held:?}"
    );
}

#[test]
fn fragments_of_one_message_are_bounded_by_their_headers() {
    for (first, more) in [(BINARY, LIMIT - 99), (TEXT, LIMIT - 99)] {
        let begun = frame(first, &[b'x'; 100]);
        let header = &frame(LAST | CONTINUE, &vec![b'x'; more])[..14];
        let (heard, _) = decode([&begun[..], header]);
        assert_eq!(heard, [Incoming::Fault(Fault::TooBig)]);
    }
}

#[test]
fn short_fragments_are_counted_and_the_last_of_a_message_is_not() {
    for first in [BINARY, TEXT] {
        let mut decoder = Decoder::new(LIMIT);
        let message = [
            frame(first, b""),
            frame(CONTINUE, &[b'x'; 125]),
            frame(CONTINUE, &[b'x'; 126]),
            frame(LAST | PING, b""),
            frame(LAST | CONTINUE, b""),
        ];
        decoder.decode::<Utf8Bytes>(&message.concat(), |_| ());
        assert_eq!(decoder.take_begun(), (0, 2));
        assert_eq!(decoder.take_begun(), (0, 0));
    }
}

#[test]
fn without_a_limit_no_length_passes_the_end_of_memory() {
    let longest = [
        &[LAST | BINARY, 0x80 | 127][..],
        &[0xff; 7],
        &[0xf2],
        &[0; 4],
    ]
    .concat();
    let mut decoder = Decoder::new(usize::MAX);
    let mut heard = Vec::new();
    decoder.decode(&longest, |incoming: Incoming| {
        assert!(heard.is_empty());
        heard.push(incoming);
    });
    assert_eq!(heard, []);
}

#[test]
fn a_message_in_many_pieces_lies_in_no_more_memory_than_it_needs() {
    let bytes = frame(LAST | BINARY, &vec![1; LIMIT]);
    let mut decoder = Decoder::new(LIMIT);
    let (most, last) = bytes.split_at(LIMIT);
    for piece in most.chunks(99) {
        decoder.decode(piece, |_: Incoming| ());
        let (length, capacity) = (decoder.partial.len(), decoder.partial.capacity());
        assert!(capacity < length + 99, "{capacity} for {length}");
    }
    let mut heard = Vec::new();
    decoder.decode(last, |incoming| heard.push(incoming));
    assert_eq!(heard, [message(&[1; LIMIT])]);
}

#[test]
fn text_is_decoded_for_callers_that_want_it() {
    let bytes = [
        frame(LAST | PING, b"1"),
        frame(TEXT, b"gr\xc3"),
        frame(LAST | PING, b"2"),
        frame(LAST | CONTINUE, b"\xbcn"),
        frame(LAST | PING, b"3"),
        frame(LAST | BINARY, b"bytes"),
        frame(LAST | CLOSE, b""),
    ]
    .concat();
    let expected = ["1", "2", "<gr\u{fc}n>", "3", "<bytes>", "<>"].concat();
    for cut in 0..bytes.len() {
        let (mut decoder, mut heard) = (Decoder::new(LIMIT), Vec::new());
        for chunk in [&bytes[..cut], &bytes[cut..]] {
            decoder.decode::<Utf8Bytes>(chunk, |incoming| match incoming {
                Incoming::Message(message) => heard.extend([b"<", &message[..], b">"].concat()),
                Incoming::Text(text) => heard.extend([b"<", text.as_bytes(), b">"].concat()),
                Incoming::Close(_) => heard.extend(b"<>"),
                Incoming::Ping(payload) => heard.extend(payload),
                Incoming::Pong(_) | Incoming::Fault(_) => panic!("{incoming:?}"),
            });
        }
        assert_eq!(heard, expected.as_bytes(), "cut at {cut}");
    }
}

#[test]
fn a_mask_is_taken_off_whatever_the_length() {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    for length in 0..=200 {
        let payload: Vec<u8> = (0..length).collect();
        let masked = payload.iter().zip(MASK.iter().cycle());
        let masked: Vec<u8> = masked.map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked(&masked, MASK), payload);
    }
}

#[test]
fn kept_messages_hold_no_memory_of_others_in_the_same_read() {
    for (length, fragmented) in [
        (100, false),
        (400, false),
        (5000, false),
        (32_000, false),
        (100, true),
        (32_000, true),
    ] {
        let message = if fragmented {
            let half = vec![1; length / 2];
            [frame(BINARY, &half), frame(LAST | CONTINUE, &half)].concat()
        } else {
            frame(LAST | BINARY, &vec![1; length])
        };
        let read = message.repeat((200_000 / length).max(7));
        let (mut count, mut kept) = (0, Vec::with_capacity(1000));
        let held = measure(|| {
            Decoder::new(LIMIT).decode(&read, |incoming: Incoming| {
                count += 1;
                if count % 7 == 1 {
                    kept.push(incoming);
                }
            });
        });
        let bytes = i64::try_from(kept.len() * length).expect("some thousands");
        assert!(
            held.bytes_current <= bytes + bytes / 50,
            "{held:?} for {bytes} bytes of messages of {length}"
        );
    }
}

#[test]
fn messages_are_bounded_whether_whole_or_in_fragments() {
    let too_big = [Incoming::Fault(Fault::TooBig)];
    let exactly = vec![5; LIMIT];
    assert_eq!(
        decode([&frame(LAST | BINARY, &exactly)[..]]).0,
        [message(&exactly)]
    );
    let (first, last) = exactly.split_at(40_000);
    let fragments = [frame(BINARY, first), frame(LAST | CONTINUE, last)].concat();
    assert_eq!(decode([&fragments[..]]).0, [message(&exactly)]);

    // The header is enough.
    let header = &frame(LAST | BINARY, &[5; LIMIT + 1])[..14];
    assert_eq!(decode([header]).0, too_big);
    let huge = [&[LAST | BINARY, 0xff][..], &[0xff; 8], &[0; 4]].concat();
    assert_eq!(decode([&huge[..]]).0, too_big);
    let fragments = [frame(BINARY, &exactly), frame(LAST | CONTINUE, b"1")].concat();
    assert_eq!(decode([&fragments[..]]).0, too_big);
    assert_eq!(decode(fragments.chunks(999)).0, too_big);
}

#[test]
fn what_came_before_is_preloaded() {
    let bytes = frame(LAST | BINARY, b"hello");
    for cut in 0..=bytes.len() {
        let mut decoder = Decoder::new(LIMIT);
        decoder.preload(bytes[..cut].to_vec());
        let mut heard = Vec::new();
        decoder.decode(&bytes[cut..], |incoming| {
            heard.push(incoming);
        });
        assert_eq!(heard, [message(b"hello")]);
    }
}

#[test]
fn a_single_message_is_decoded_and_what_is_behind_it_is_left() {
    let first = [
        frame(LAST | PING, b"1"),
        frame(BINARY, b"he"),
        frame(LAST | PING, b"2"),
        frame(LAST | CONTINUE, b"llo"),
    ]
    .concat();
    // Too long for this decoder, and a breach: that is for the next one to judge.
    let behind = [frame(LAST | BINARY, &[0; 100]), frame(LAST | 3, b"")].concat();
    let bytes = [&first[..], &behind].concat();
    for cut in 0..=bytes.len() {
        let mut decoder = Decoder::new(5);
        let mut heard = Vec::new();
        let mut rest = &bytes[cut..];
        decoder.decode_message(&bytes[..cut], |it| heard.push(it));
        if heard.len() < 3 {
            decoder.decode_message(rest, |it| heard.push(it));
            rest = &[];
        }
        let expected = [ping(b"1"), ping(b"2"), message(b"hello")];
        assert_eq!(heard, expected, "cut at {cut}");
        assert_eq!([&decoder.into_rest(), rest].concat(), behind);
    }
}

#[test]
fn frames_are_encoded_as_a_server_writes_them() {
    let close = Close::new(CloseCode::GOING_AWAY, "going away");
    let cases = [
        (
            Frame::Message(Bytes::from_static(b"hi")),
            b"\x82\x02hi".to_vec(),
        ),
        (
            Frame::Message(vec![7; 125].into()),
            [&b"\x82\x7d"[..], &[7; 125]].concat(),
        ),
        (
            Frame::Message(vec![7; 126].into()),
            [&b"\x82\x7e\x00\x7e"[..], &[7; 126]].concat(),
        ),
        (
            Frame::Message(vec![7; 65_535].into()),
            [&b"\x82\x7e\xff\xff"[..], &[7; 65_535]].concat(),
        ),
        (
            Frame::Message(vec![7; 65_536].into()),
            [
                &b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"[..],
                &[7; 65_536],
            ]
            .concat(),
        ),
        (
            Frame::Ping(Bytes::from_static(b"12345678")),
            b"\x89\x0812345678".to_vec(),
        ),
        (
            Frame::Pong(Bytes::from_static(b"1234")),
            b"\x8a\x041234".to_vec(),
        ),
        (Frame::Close(close), b"\x88\x0c\x03\xe9going away".to_vec()),
        (Frame::Close(Close::NO_STATUS), b"\x88\0".to_vec()),
    ];
    let mut all = Vec::new();
    for (frame, expected) in &cases {
        let before = all.len();
        encode(frame, &mut all);
        assert_eq!(&all[before..], expected, "{frame:?}");
    }
}

/// A frame of a conversation that breaks no rule, as a client may write it.
#[derive(Clone, Debug)]
enum Said {
    Message {
        fragments: Vec<Vec<u8>>,
        ping_between: Option<Vec<u8>>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn said() -> impl Strategy<Value = Said> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    prop_oneof![
        (
            prop::collection::vec(bytes(200), 1..4),
            prop::option::of(bytes(20))
        )
            .prop_map(|(fragments, ping_between)| Said::Message {
                fragments,
                ping_between
            }),
        bytes(126).prop_map(Said::Ping),
        bytes(126).prop_map(Said::Pong),
    ]
}

impl Said {
    /// Its bytes, and what it means.
    fn write(&self, bytes: &mut Vec<u8>, heard: &mut Vec<Incoming>) {
        match self {
            Self::Message {
                fragments,
                ping_between,
            } => {
                for (at, fragment) in fragments.iter().enumerate() {
                    let opcode = if at == 0 { BINARY } else { CONTINUE };
                    let last = if at + 1 == fragments.len() { LAST } else { 0 };
                    bytes.extend(frame(opcode | last, fragment));
                    if let Some(between) = ping_between.as_ref().filter(|_| last == 0) {
                        bytes.extend(frame(LAST | PING, between));
                        heard.push(ping(between));
                    }
                }
                heard.push(message(&fragments.concat()));
            }
            Self::Ping(payload) => {
                bytes.extend(frame(LAST | PING, payload));
                heard.push(ping(payload));
            }
            Self::Pong(payload) => {
                bytes.extend(frame(LAST | PONG, payload));
                heard.push(Incoming::Pong(Bytes::copy_from_slice(payload)));
            }
        }
    }
}

proptest! {
    #[test]
    fn however_a_conversation_is_chunked_it_means_the_same(
        said in prop::collection::vec(said(), 0..12),
        sizes in prop::collection::vec(1usize..400, 1..20),
    ) {
        let (mut bytes, mut heard) = (Vec::new(), Vec::new());
        for said in &said {
            said.write(&mut bytes, &mut heard);
        }
        let mut rest = &bytes[..];
        let mut sizes = sizes.iter().cycle();
        let chunks = core::iter::from_fn(|| {
            let size = *sizes.next()?;
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            rest = behind;
            (!chunk.is_empty()).then_some(chunk)
        });
        let (found, decoder) = decode(chunks);
        prop_assert_eq!(found, heard);
        prop_assert_eq!(decoder.partial.capacity(), 0);
        prop_assert!(decoder.fragments.is_none());
    }

    #[test]
    fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..10)) {
        decode(chunks.iter().map(Vec::as_slice));
    }
}
