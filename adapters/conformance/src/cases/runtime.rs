//! What the driver relies on in a runtime, one by one: whoever writes an adapter begins here.

use core::net::SocketAddr;
use std::io::IoSlice;

use async_io::Timer;
use futures_lite::future::{or, zip};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use pinch_driver::{DialError, Runtime, bind, dial};

use crate::tracked::Tracked;
use crate::wait::{eventually, is_pending, millis, soon};

fn listen<R: Runtime>(runtime: &R) -> (R::Listener, SocketAddr) {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("it listens");
    let addr = listener.local_addr().expect("it listens");
    (runtime.listen(listener).expect("it listens"), addr)
}

/// The accepted end of a connection, and the one that has connected.
async fn both_ends<R: Runtime>(
    runtime: &R,
    listener: &R::Listener,
    addr: SocketAddr,
) -> (R::Stream, R::Stream) {
    let both = zip(runtime.accept(listener), runtime.connect(addr));
    let (accepted, connected) = soon("both ends", both).await;
    let (near, _) = accepted.expect("it accepts");
    (near, connected.expect("it connects"))
}

pub(crate) async fn two_streams_carry_bytes_both_ways<R: Runtime>(runtime: &Tracked<R>) {
    let (listener, addr) = listen(runtime);
    let (mut near, mut far) = both_ends(runtime, &listener, addr).await;
    // More than the system keeps for a socket.
    let said = vec![7; 8 << 20];
    for _ in 0..2 {
        let mut heard = vec![0; said.len()];
        let writing = async {
            near.write_all(&said).await.expect("it writes");
            near.flush().await.expect("it flushes");
        };
        soon(
            "the bytes",
            zip(writing, async {
                far.read_exact(&mut heard).await.expect("it reads");
            }),
        )
        .await;
        assert!(heard == said);
        core::mem::swap(&mut near, &mut far);
    }
}

pub(crate) async fn a_name_is_resolved_and_dialled<R: Runtime>(runtime: &Tracked<R>) {
    let (listener, addr) = listen(runtime);
    let accepting = runtime.accept(&listener);
    // Where `localhost` is `::1` first, nobody answers there.
    let dialling = dial(runtime, "localhost", addr.port());
    let (accepted, dialled) = soon("both ends", zip(accepting, dialling)).await;
    accepted.expect("it accepts");
    dialled.expect("it connects");
    let nowhere = soon("an answer", dial(runtime, "no.such.host.invalid", 1)).await;
    assert!(matches!(nowhere, Err(DialError::Resolve { .. })));
}

/// Otherwise a large envelope takes a system call for what stands before it, and one for itself.
pub(crate) async fn a_stream_takes_several_pieces_of_memory_at_once<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let (listener, addr) = listen(runtime);
    let (mut near, mut far) = both_ends(runtime, &listener, addr).await;
    for _ in 0..2 {
        let pieces = [b"several ".as_slice(), b"pieces ", b"at once"].map(IoSlice::new);
        let written = soon("the write", near.write_vectored(&pieces)).await;
        assert_eq!(written.expect("it writes"), 22);
        let mut heard = [0; 22];
        let read = soon("the bytes", far.read_exact(&mut heard)).await;
        read.expect("it reads");
        assert_eq!(&heard, b"several pieces at once");
        core::mem::swap(&mut near, &mut far);
    }
}

pub(crate) async fn closing_a_stream_tells_the_peer<R: Runtime>(runtime: &Tracked<R>) {
    let (listener, addr) = listen(runtime);
    let (mut near, mut far) = both_ends(runtime, &listener, addr).await;
    for _ in 0..2 {
        soon("the close", near.close()).await.expect("it closes");
        // It is only closed, not dropped.
        let read = soon("the end", far.read(&mut [0])).await;
        assert_eq!(read.expect("an end in order"), 0);
        core::mem::swap(&mut near, &mut far);
    }
}

pub(crate) async fn an_accept_that_is_dropped_loses_no_connection<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let (listener, addr) = listen(runtime);
    for _ in 0..10 {
        assert!(is_pending(runtime.accept(&listener)));
        both_ends(runtime, &listener, addr).await;
    }
}

pub(crate) async fn nobody_answers_where_nobody_listens<R: Runtime>(runtime: &Tracked<R>) {
    let (listener, addr) = listen(runtime);
    drop(listener);
    let connected = soon("an answer", runtime.connect(addr)).await;
    assert!(connected.is_err(), "nobody listens");
}

pub(crate) async fn a_timer_ends_at_its_instant_or_soon_after<R: Runtime>(runtime: &Tracked<R>) {
    let begin = runtime.now();
    let deadline = begin + millis(50);
    soon("the timer", runtime.sleep_until(deadline)).await;
    assert!(runtime.now() >= deadline);
    soon("a timer of the past", runtime.sleep_until(begin)).await;
    // One that is far away does not end.
    let far = async {
        runtime.sleep_until(begin + millis(1 << 40)).await;
        panic!("it is not yet time");
    };
    or(far, async {
        Timer::after(millis(20)).await;
    })
    .await;
}

pub(crate) async fn tasks_run_side_by_side_and_wake_each_other<R: Runtime>(runtime: &Tracked<R>) {
    let (sender, receiver) = async_channel::bounded(1);
    for n in 0..100 {
        let sender = sender.clone();
        runtime.spawn(async move {
            // Whoever finds the channel full waits for the others.
            sender.send(n).await.expect("somebody listens");
        });
    }
    let mut heard = Vec::new();
    for _ in 0..100 {
        heard.push(soon("a task", receiver.recv()).await.expect("a number"));
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..100).collect::<Vec<_>>());
    eventually("all have ended", || runtime.held().tasks == 0).await;
}
