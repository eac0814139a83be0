//! When threads start and end. This program has one test, for it counts the threads and the
//! descriptors of the process.
#![cfg(target_os = "linux")]

mod patience;

use core::num::NonZero;
use core::time::Duration;
use std::fs;
use std::thread;
use std::time::Instant;

use futures_util::AsyncReadExt as _;
use patience::{PATIENCE, soon, start};
use pinch_polling::{Polling, Runtime as _, StartError, bind};

/// How many threads of this process wait for sockets.
fn threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").expect("a proc file system");
    let names = threads.filter_map(|thread| fs::read(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name == b"pinch-polling\n").count()
}

/// How many descriptors are open.
fn files() -> usize {
    let files = fs::read_dir("/proc/self/fd").expect("a proc file system");
    files.count()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        let (threads, files) = (threads(), files());
        assert!(
            begin.elapsed() < PATIENCE,
            "{what}: {threads} threads, {files} files"
        );
        thread::yield_now();
    }
}

#[test]
fn threads_end_with_the_last_that_needs_them() {
    // What the tests wait with opens something for good.
    soon(async_io::Timer::after(Duration::from_millis(1)));
    let files_before = files();
    let nothing_is_left = || threads() == 0 && files() == files_before;

    let polling = start(3);
    let another = polling.clone();
    eventually("they start", || threads() == 3);
    drop(polling);
    let (report, reported) = async_channel::bounded(1);
    another.spawn(async move { report.send(7).await.expect("somebody asks") });
    assert_eq!(soon(reported.recv()), Ok(7), "there is another handle");
    assert_eq!(threads(), 3);
    drop(another);
    eventually("the end of the last handle", nothing_is_left);

    let polling = start(2);
    let (release, held) = async_channel::bounded::<()>(1);
    let (report, reported) = async_channel::bounded(1);
    polling.spawn(async move {
        let _ = held.recv().await;
        report.send(7).await.expect("somebody asks");
    });
    drop(polling);
    release.try_send(()).expect("it waits");
    assert_eq!(soon(reported.recv()), Ok(7), "there is a task");
    eventually("the end of the last task", nothing_is_left);

    let sleep = start(2).sleep_until(Instant::now() + Duration::from_millis(20));
    soon(sleep);
    eventually("the end of the last timer", nothing_is_left);

    let polling = start(2);
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("it listens");
    let port = listener.local_addr().expect("it listens").port();
    let listener = polling.listen(listener).expect("it listens");
    let near = soon(polling.connect(([127, 0, 0, 1], port).into())).expect("it connects");
    let (mut far, _) = soon(polling.accept(&listener)).expect("it accepts");
    drop((polling, listener));
    let closing = thread::spawn(move || drop(near));
    let read = soon(far.read(&mut [0]));
    assert_eq!(read.expect("there is a stream"), 0);
    closing.join().expect("no panic");
    drop(far);
    eventually("the end of the last stream", nothing_is_left);

    // A task may drop the last handle, too.
    for _ in 0..100 {
        let polling = start(2);
        let own = polling.clone();
        polling.spawn(async move { drop(own) });
    }
    eventually("the end of a hundred", nothing_is_left);

    let many = NonZero::new(100_000).expect("many");
    let refused = Polling::with_threads(many).expect_err("too many");
    assert!(matches!(refused, StartError::TooMany { threads: 100_000 }));
    assert_eq!(
        refused.to_string(),
        "100000 threads are too many, expected at most 1024"
    );
    assert!(nothing_is_left());
}
