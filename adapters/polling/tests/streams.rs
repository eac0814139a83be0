//! Streams at their ends and edges: what a socket tells only once must not be missed.

mod patience;

use std::io::Write as _;
use std::net::{self, Shutdown};
use std::thread;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use patience::{soon, start};
use pinch_polling::{Polling, Runtime as _, TcpListener, bind};

fn listen(polling: &Polling) -> (TcpListener, u16) {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("it listens");
    let port = listener.local_addr().expect("it listens").port();
    let listener = polling.listen(listener).expect("it listens");
    (listener, port)
}

fn dial(port: u16) -> net::TcpStream {
    net::TcpStream::connect(("127.0.0.1", port)).expect("it connects")
}

#[test]
fn the_end_is_seen_behind_the_last_bytes() {
    let polling = start(1);
    let (listener, port) = listen(&polling);
    for _ in 0..200 {
        let mut peer = dial(port);
        let (mut stream, _) = soon(polling.accept(&listener)).expect("it accepts");
        peer.write_all(b"last").expect("it writes");
        peer.shutdown(Shutdown::Write).expect("it ends");
        let mut buffer = [0; 64];
        soon(async {
            assert_eq!(stream.read(&mut buffer).await.expect("it reads"), 4);
            assert_eq!(stream.read(&mut buffer).await.expect("the end"), 0);
            assert_eq!(stream.read(&mut buffer).await.expect("it stays"), 0);
            stream
                .write_all(b"still")
                .await
                .expect("the other half is open");
        });
    }
}

#[test]
fn nothing_is_missed_however_it_comes() {
    let polling = start(2);
    let (listener, port) = listen(&polling);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let chunks: Vec<usize> = (0..random.usize(1..20))
            .map(|_| random.usize(1..300))
            .collect();
        let expected: usize = chunks.iter().sum();
        let mut peer = dial(port);
        let writing = thread::spawn(move || {
            peer.set_nodelay(true).expect("it may");
            for chunk in chunks {
                peer.write_all(&vec![7; chunk]).expect("it writes");
            }
        });
        let (mut stream, _) = soon(polling.accept(&listener)).expect("it accepts");
        let (report, reported) = async_channel::bounded(1);
        let size = random.usize(1..400);
        polling.spawn(async move {
            let (mut buffer, mut heard) = (vec![0; size], 0);
            loop {
                match stream.read(&mut buffer).await.expect("it reads") {
                    0 => break,
                    read => heard += read,
                }
            }
            report.send(heard).await.expect("somebody asks");
        });
        assert_eq!(soon(reported.recv()), Ok(expected));
        writing.join().expect("no panic");
    }
}

#[test]
fn two_tasks_may_have_a_half_each() {
    let polling = start(2);
    let (listener, port) = listen(&polling);
    let near = soon(polling.connect(([127, 0, 0, 1], port).into())).expect("it connects");
    let (far, _) = soon(polling.accept(&listener)).expect("it accepts");
    // More than the system keeps for a socket: each half has to wait, and not for the other one.
    let said = vec![7; 8 << 20];
    let (report, reported) = async_channel::unbounded();
    for stream in [near, far] {
        let (mut reader, mut writer) = stream.split();
        let (said, report) = (said.clone(), report.clone());
        let mut heard = vec![0; said.len()];
        polling.spawn(async move {
            writer.write_all(&said).await.expect("it writes");
        });
        polling.spawn(async move {
            reader.read_exact(&mut heard).await.expect("it reads");
            report.send(heard).await.expect("somebody asks");
        });
    }
    for _ in 0..2 {
        assert!(soon(reported.recv()).expect("it is heard") == said);
    }
}

#[test]
fn slices_are_written_in_their_order() {
    let polling = start(1);
    let (listener, port) = listen(&polling);
    let mut near = soon(polling.connect(([127, 0, 0, 1], port).into())).expect("it connects");
    let (mut far, _) = soon(polling.accept(&listener)).expect("it accepts");
    soon(async {
        let slices = [b"one ".as_slice(), b"", b"two ", b"three"].map(std::io::IoSlice::new);
        let written = near.write_vectored(&slices).await.expect("it writes");
        assert_eq!(written, 13);
        near.close().await.expect("it closes");
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.expect("it reads");
        assert_eq!(heard, "one two three");
    });
}
