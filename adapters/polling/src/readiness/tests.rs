use core::num::NonZero;
use core::task::{Poll, Waker};

use super::{AWAITED, Direction, ENDED, LESS_MEANS_NO_MORE, READABLE, Readiness, Source, WRITABLE};
use crate::sources::Writers;
use crate::threads::Handle;

const KEY: u32 = 7;

/// A source that is known to be ready for what `flags` say.
fn source(flags: u32) -> Source {
    let handle = Handle::start(NonZero::<usize>::MIN).expect("a thread");
    Source::new(handle, 0, Readiness(flags))
}

/// Tells `source`; returns how many were waiting for that.
fn notice(source: &Source, flags: u32, writers: &Writers) -> usize {
    let mut woken = Vec::new();
    source.notice(Readiness(flags), KEY, writers, &mut woken);
    woken.len()
}

fn readable(source: &Source) -> Option<Readiness> {
    match source.poll_readable(Waker::noop()) {
        Poll::Ready(seen) => Some(seen),
        Poll::Pending => None,
    }
}

fn writable(source: &Source, writers: &Writers) -> Option<Readiness> {
    match source.poll_writable(KEY, writers, Waker::noop()) {
        Poll::Ready(seen) => Some(seen),
        Poll::Pending => None,
    }
}

#[test]
fn it_is_ready_from_a_notice_until_it_would_block() {
    let (source, writers) = (source(0), Writers::default());
    assert_eq!(readable(&source), None);
    assert_eq!(notice(&source, READABLE, &writers), 1);
    assert_eq!(notice(&source, READABLE, &writers), 0, "nobody waits");
    let seen = readable(&source).expect("it is readable");
    source.blocked(Direction::Read, seen);
    assert_eq!(readable(&source), None);
}

#[test]
fn a_notice_that_comes_meanwhile_stays() {
    let (source, writers) = (source(READABLE | WRITABLE), Writers::default());
    let seen = readable(&source).expect("it is readable");
    notice(&source, READABLE | WRITABLE, &writers);
    source.blocked(Direction::Read, seen);
    source.exhausted(Direction::Read, seen);
    source.blocked(Direction::Write, seen);
    assert!(readable(&source).is_some());
    assert!(writable(&source, &writers).is_some());
}

#[test]
fn one_direction_is_not_the_other() {
    let (source, writers) = (source(READABLE | WRITABLE), Writers::default());
    let seen = readable(&source).expect("it is readable");
    source.blocked(Direction::Read, seen);
    let seen = writable(&source, &writers).expect("it is writable");
    source.blocked(Direction::Write, seen);
    assert_eq!(
        (readable(&source), writable(&source, &writers)),
        (None, None)
    );
    assert_eq!(notice(&source, WRITABLE, &writers), 1);
    assert_eq!(readable(&source), None);
    assert!(writable(&source, &writers).is_some());
    assert_eq!(notice(&source, READABLE, &writers), 1);
}

#[test]
fn less_than_asked_for_is_all_there_is_unless_the_end_was_told() {
    for (flags, is_ready) in [(READABLE, !LESS_MEANS_NO_MORE), (READABLE | ENDED, true)] {
        let source = source(flags);
        let seen = readable(&source).expect("it is readable");
        source.exhausted(Direction::Read, seen);
        assert_eq!(readable(&source).is_some(), is_ready);
    }
}

#[test]
fn who_no_longer_waits_is_forgotten() {
    let (source, writers) = (source(0), Writers::default());
    assert_eq!(
        (readable(&source), writable(&source, &writers)),
        (None, None)
    );
    assert_ne!(source.load().0 & AWAITED, 0);
    source.forget(KEY, &writers);
    assert_eq!(notice(&source, READABLE | WRITABLE, &writers), 0);
}

#[test]
fn an_idle_socket_takes_no_more_than_a_cache_line() {
    let counts = 2 * size_of::<usize>();
    assert!(counts + size_of::<Source>() <= 64, "as an `Arc` holds it");
}
