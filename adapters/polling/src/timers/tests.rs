use core::future::Future as _;
use core::num::NonZero;
use core::pin::Pin;
use core::task::{Context, Waker};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use super::{Sleep, Timers};
use crate::threads::Handle;

fn start() -> Arc<Handle> {
    Handle::start(NonZero::new(2).expect("two")).expect("threads")
}

fn is_pending(sleep: &mut Sleep) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(sleep).poll(&mut cx).is_pending()
}

/// The deadlines of all workers.
fn deadlines(handle: &Handle) -> Vec<Instant> {
    let workers = handle.pool().workers().iter();
    workers.filter_map(|worker| worker.timers.next()).collect()
}

#[test]
fn a_timer_that_is_dropped_is_cancelled() {
    let handle = start();
    let at = Instant::now() + Duration::from_secs(3600);
    let mut sleep = Sleep::new(Arc::clone(&handle), at);
    assert_eq!(deadlines(&handle), [], "nobody has asked for it");
    assert!(is_pending(&mut sleep));
    assert!(is_pending(&mut sleep));
    assert_eq!(deadlines(&handle), [at], "it is there once");
    drop(sleep);
    assert_eq!(deadlines(&handle), []);
}

#[test]
fn a_timer_of_the_past_never_waits() {
    let handle = start();
    let mut sleep = Sleep::new(Arc::clone(&handle), Instant::now());
    assert!(!is_pending(&mut sleep));
    assert_eq!(deadlines(&handle), []);
}

#[test]
fn those_that_are_due_are_taken_out_and_no_others() {
    let (timers, begin) = (Timers::default(), Instant::now());
    let at = |seconds| begin + Duration::from_secs(seconds);
    for seconds in [3, 1, 2, 2] {
        timers.insert(at(seconds), Waker::noop().clone());
    }
    let mut woken = Vec::new();
    timers.expire(begin, &mut woken);
    assert_eq!((woken.len(), timers.next()), (0, Some(at(1))));
    timers.expire(at(2), &mut woken);
    assert_eq!((woken.len(), timers.next()), (3, Some(at(3))));
}

#[test]
fn the_earliest_is_known_when_it_comes() {
    let (timers, begin) = (Timers::default(), Instant::now());
    let insert = |seconds| {
        let at = begin + Duration::from_secs(seconds);
        timers.insert(at, Waker::noop().clone())
    };
    let earliest = [2, 3, 1].map(|seconds| insert(seconds).1);
    assert_eq!(earliest, [true, false, true]);
}
