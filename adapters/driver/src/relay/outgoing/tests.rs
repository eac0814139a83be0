//! Whatever a stream takes at once, it gets the same bytes.

use core::task::Waker;

use futures_util::io::{AsyncRead, AsyncWrite};
use pinch_proto::{Close, CloseCode};

use super::*;

/// Takes up to so many bytes per call, and after so many calls none.
struct Taking {
    taken: Vec<u8>,
    at_once: usize,
    calls: usize,
    lists: bool,
}

impl AsyncRead for Taking {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl AsyncWrite for Taking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.calls == 0 {
            return Poll::Pending;
        }
        self.calls -= 1;
        let some = bytes.len().min(self.at_once);
        self.taken.extend_from_slice(&bytes[..some]);
        Poll::Ready(Ok(some))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let first = slices.iter().find(|slice| !slice.is_empty());
        let lists = self.lists;
        self.poll_write(
            cx,
            if lists {
                &all
            } else {
                first.expect("something to write")
            },
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frames() -> Vec<Frame> {
    let message =
        |length: usize| Frame::Message((0..length).map(|at| at.to_le_bytes()[0]).collect());
    let lengths = [0, 10, LARGE - 1, LARGE, 70_000, 3, LARGE + 1, LARGE + 1];
    let mut frames: Vec<Frame> = lengths.map(message).into();
    frames.insert(3, Frame::Ping(Bytes::from_static(b"12345678")));
    frames.push(Frame::Close(Close::new(
        CloseCode::GOING_AWAY,
        "going away",
    )));
    frames
}

#[test]
fn a_stream_gets_every_byte_however_few_it_takes() {
    let mut expected = Vec::new();
    let frames = frames();
    for frame in &frames {
        encode(frame, &mut expected);
    }
    for lists in [false, true] {
        for at_once in [1000, 4096, 65_536, usize::MAX] {
            for calls in [0, 1, 2, 5, 10, usize::MAX] {
                let mut outgoing = Outgoing::default();
                frames
                    .iter()
                    .cloned()
                    .for_each(|frame| outgoing.push(frame));
                assert!(!outgoing.is_empty());
                let mut stream = Taking {
                    taken: Vec::new(),
                    at_once,
                    calls,
                    lists,
                };
                let rest = outgoing
                    .write(&mut stream, &mut Context::from_waker(Waker::noop()))
                    .expect("it does not fail");
                assert_eq!(rest.capacity(), rest.len());
                assert!(outgoing.is_empty());
                assert!(rest.is_empty() || calls < usize::MAX);
                assert_eq!([stream.taken, rest].concat(), expected);
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_moved_behind_what_was_not_written_before() {
    let mut expected = b"before".to_vec();
    let mut outgoing = Outgoing::default();
    for frame in frames() {
        encode(&frame, &mut expected);
        outgoing.push(frame);
    }
    let mut bytes = b"before".to_vec();
    outgoing.move_to(&mut bytes);
    assert_eq!(bytes, expected);
    assert!(outgoing.is_empty());
}

#[test]
fn a_large_message_is_not_copied_and_its_head_is_not_written_alone() {
    let message = Bytes::from(vec![7; LARGE]);
    let mut outgoing = Outgoing::default();
    outgoing.push(Frame::Message(message.clone()));
    let pieces: Vec<&[u8]> = outgoing.pieces(0).collect();
    assert_eq!(
        pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(),
        [4 + LEAD, LARGE - LEAD]
    );
    assert_eq!(pieces[1].as_ptr(), message[LEAD..].as_ptr());
}

#[test]
fn a_stream_that_takes_nothing_more_is_an_error() {
    let mut outgoing = Outgoing::default();
    outgoing.push(Frame::Ping(Bytes::new()));
    let mut stream = Taking {
        taken: Vec::new(),
        at_once: 0,
        calls: 1,
        lists: true,
    };
    let error = outgoing
        .write(&mut stream, &mut Context::from_waker(Waker::noop()))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    assert!(outgoing.is_empty());
}
