//! Whatever a stream takes at once, it gets the same bytes.

use pinch_proto::{Close, CloseCode};

use super::*;

/// Takes up to so many bytes per call, and after so many calls none.
struct Stream {
    taken: Vec<u8>,
    at_once: usize,
    calls: usize,
    takes_lists: bool,
}

impl Stream {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.calls == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.calls -= 1;
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        let count = if self.takes_lists { slices.len() } else { 1 };
        let bytes: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|it| it.iter().copied())
            .collect();
        let some = bytes.len().min(self.at_once);
        self.taken.extend_from_slice(&bytes[..some]);
        Ok(some)
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

fn everything(batch: &mut WriteBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = batch.write_with(|slices| io::Write::write_vectored(&mut bytes, slices));
    written.expect("memory takes everything");
    bytes
}

#[test]
fn a_stream_gets_every_byte_however_few_it_takes() {
    let mut expected = b"before".to_vec();
    for frame in frames() {
        encode(&frame, &mut expected);
    }
    for takes_lists in [false, true] {
        for at_once in [1000, 4096, 65_536, usize::MAX] {
            for calls in [0, 1, 2, 5, 10, usize::MAX] {
                let mut batch = WriteBatch::default();
                batch.extend_from_slice(b"before");
                frames().into_iter().for_each(|frame| batch.push(frame));
                assert_eq!(batch.len(), expected.len());
                let mut stream = Stream {
                    taken: Vec::new(),
                    at_once,
                    calls,
                    takes_lists,
                };
                let written = batch.write_with(|slices| stream.write(slices));
                written.expect("it does not fail");
                assert_eq!(batch.len(), expected.len() - stream.taken.len());
                assert!(batch.is_empty() || calls < usize::MAX);
                let mut rest = batch.take_rest();
                assert!(batch.is_empty());
                let mut taken = stream.taken;
                let left = expected.len() - taken.len();
                assert_eq!(rest.len(), left);
                assert!(rest.copied.capacity() <= left);
                taken.extend(everything(&mut rest));
                assert_eq!(taken, expected);
            }
        }
    }
}

#[test]
fn frames_follow_what_was_not_written_before() {
    let mut batch = WriteBatch::default();
    let mut expected = b"before".to_vec();
    batch.extend_from_slice(&expected);
    let mut rest = batch.take_rest();
    for frame in frames() {
        encode(&frame, &mut expected);
        rest.push(frame);
    }
    assert_eq!(everything(&mut rest), expected);
}

#[test]
fn a_large_message_is_not_copied_and_its_head_is_not_written_alone() {
    let message = Bytes::from(vec![7; LARGE]);
    let mut batch = WriteBatch::default();
    batch.push(Frame::Message(message.clone()));
    let lengths = |batch: &WriteBatch| batch.pieces().map(<[u8]>::len).collect::<Vec<_>>();
    assert_eq!(lengths(&batch), [4 + LEAD, LARGE - LEAD]);
    let rest = batch.take_rest();
    assert_eq!(lengths(&rest), [4 + LEAD, LARGE - LEAD]);
    let pieces: Vec<&[u8]> = rest.pieces().collect();
    assert_eq!(pieces[1].as_ptr(), message[LEAD..].as_ptr());
}

#[test]
fn a_stream_that_takes_nothing_more_is_an_error() {
    let mut batch = WriteBatch::default();
    batch.push(Frame::Ping(Bytes::new()));
    let error = batch.write_with(|_| Ok(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
}
