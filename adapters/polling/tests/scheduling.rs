//! Which thread runs what, and what goes on when a task does not do as it should.

mod patience;

use core::future::poll_fn;
use core::iter;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use std::io::Write as _;
use std::net;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Instant;

use futures_util::{AsyncReadExt as _, FutureExt as _};
use patience::{PATIENCE, soon, start};
use pinch_polling::{Polling, Runtime as _, TcpStream, bind};

/// What comes soon, or `None` at the end.
fn heard<T>(receiver: &Receiver<T>) -> Option<T> {
    match receiver.recv_timeout(PATIENCE) {
        Ok(said) => Some(said),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("waited in vain"),
    }
}

/// `count` streams that were accepted, and their peers.
fn streams(polling: &Polling, count: usize) -> Vec<(TcpStream, net::TcpStream)> {
    let listener = bind(([127, 0, 0, 1], 0).into()).expect("it listens");
    let addr = listener.local_addr().expect("it listens");
    let listener = polling.listen(listener).expect("it listens");
    let pair = |_| {
        let peer = net::TcpStream::connect(addr).expect("it connects");
        let (stream, _) = soon(polling.accept(&listener)).expect("it accepts");
        (stream, peer)
    };
    (0..count).map(pair).collect()
}

#[test]
fn who_is_woken_or_spawned_by_a_task_runs_on_its_thread() {
    let polling = start(4);
    let (report, reported) = mpsc::channel::<(ThreadId, ThreadId)>();
    for _ in 0..100 {
        let (say, hear) = async_channel::bounded(1);
        let (parked, wait) = mpsc::channel();
        let (inner, reporting) = (polling.clone(), report.clone());
        polling.spawn(async move {
            // It runs when this one does not.
            inner.spawn(async move { parked.send(()).expect("it is heard") });
            let waker = hear.recv().await.expect("somebody speaks");
            let own = thread::current().id();
            reporting.send((waker, own)).expect("it is heard");
        });
        heard(&wait).expect("it is ready");
        let (inner, reporting) = (polling.clone(), report.clone());
        polling.spawn(async move {
            let own = thread::current().id();
            say.try_send(own).expect("somebody hears");
            inner.spawn(async move {
                let child = thread::current().id();
                reporting.send((own, child)).expect("it is heard");
            });
        });
    }
    drop(report);
    let pairs: Vec<_> = iter::from_fn(|| heard(&reported)).collect();
    assert_eq!(pairs.len(), 200);
    assert!(pairs.iter().all(|(waker, woken)| waker == woken));
}

#[test]
fn what_comes_from_outside_is_shared_among_the_threads() {
    let polling = start(3);
    let all = Arc::new(Barrier::new(3));
    let (report, reported) = mpsc::channel();
    for _ in 0..3 {
        let (all, report) = (Arc::clone(&all), report.clone());
        // Each holds a thread until the others have theirs.
        polling.spawn(async move {
            all.wait();
            report.send(()).expect("it is heard");
        });
    }
    for _ in 0..3 {
        assert_eq!(heard(&reported), Some(()));
    }
}

#[test]
fn a_task_that_panics_ends_alone() {
    let polling = start(1);
    let (report, reported) = mpsc::channel();
    let held = report.clone();
    polling.spawn(async move {
        let _held = held;
        std::panic::resume_unwind(Box::new("a panic that nobody reports"));
    });
    polling.spawn(async move { report.send(()).expect("it is heard") });
    assert_eq!(heard(&reported), Some(()));
    assert_eq!(heard(&reported), None, "what the task held is dropped");
}

#[test]
fn a_task_that_wakes_itself_lets_others_go_on() {
    let polling = start(1);
    let (mut stream, mut peer) = streams(&polling, 1).remove(0);
    let ended = Arc::new(AtomicBool::new(false));
    let restless = Arc::clone(&ended);
    polling.spawn(poll_fn(move |cx| {
        if restless.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    let (report, reported) = mpsc::channel();
    let sleeping = polling.clone();
    polling.spawn(async move {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("it reads");
        sleeping
            .sleep_until(Instant::now() + Duration::from_millis(1))
            .await;
        report.send(byte).expect("it is heard");
    });
    peer.write_all(&[7]).expect("it writes");
    assert_eq!(heard(&reported), Some([7]));
    ended.store(true, Ordering::Relaxed);
}

#[test]
fn timers_end_in_their_order() {
    let polling = start(1);
    let begin = Instant::now() + Duration::from_millis(50);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (report, reported) = mpsc::channel::<()>();
    let mut numbers: Vec<u32> = (0..50).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut numbers);
    for number in numbers {
        let sleep = polling.sleep_until(begin + number * Duration::from_micros(300));
        let (order, report) = (Arc::clone(&order), report.clone());
        polling.spawn(async move {
            sleep.await;
            order.lock().expect("no panic").push(number);
            drop(report);
        });
    }
    drop(report);
    assert_eq!(heard(&reported), None);
    let order = order.lock().expect("no panic");
    assert_eq!(*order, (0..50).collect::<Vec<_>>());
}

/// A task that waits for bytes until a deadline has to find those that came before it, even if the
/// thread that has the socket is held up by another task.
#[test]
fn a_timer_finds_what_came_before_it() {
    let polling = start(2);
    let mut pairs = streams(&polling, 4);
    let (begun, wait) = mpsc::channel();
    let (release, held_up) = mpsc::channel::<()>();
    polling.spawn(async move {
        begun.send(()).expect("it is heard");
        let _ = held_up.recv();
    });
    heard(&wait).expect("it has begun");
    for (_, peer) in &mut pairs {
        peer.write_all(&[7]).expect("it writes");
    }
    let (report, reported) = mpsc::channel();
    let mut peers = Vec::new();
    // Of the sockets, and of these tasks, every other one falls to the thread that is held up.
    while let (Some((mut one, near)), Some((mut other, far))) = (pairs.pop(), pairs.pop()) {
        peers.extend([near, far]);
        let (report, sleeping) = (report.clone(), polling.clone());
        polling.spawn(async move {
            let soon = Instant::now() + Duration::from_millis(10);
            sleeping.sleep_until(soon).await;
            let heard = [&mut one, &mut other].map(|stream| {
                let read = stream.read(&mut [0; 2]).now_or_never();
                read.map(|read| read.expect("it reads"))
            });
            report.send(heard).expect("it is heard");
        });
    }
    assert_eq!(heard(&reported), Some([Some(1), Some(1)]));
    drop(release);
    assert_eq!(heard(&reported), Some([Some(1), Some(1)]));
}
