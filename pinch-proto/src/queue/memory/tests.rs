//! The queue in memory against the words of its vocabulary; [`model`] has it against a plain list.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::*;

mod model;

const ROOMY: Limits = Limits {
    recipient_count: 1000,
    sender_bytes: 1_000_000,
    total_bytes: 10_000_000,
};

fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@relay")).expect("a valid address")
}

/// An envelope from `sender` for `recipient` that expires at 100.
fn envelope(sender: &str, recipient: &str, seq: u64, message: &'static [u8]) -> Append {
    Append {
        recipient: address(recipient),
        sender: address(sender),
        seq: Seq(seq),
        message: Bytes::from_static(message),
        now: UnixMillis(0),
        expires_at: UnixMillis(100),
        limits: Some(ROOMY),
        reserved: Usage::default(),
        reached: None,
        discard: false,
    }
}

/// Appends it; `Done` if that is done and nothing gave way.
fn append(queue: &mut MemoryQueue, append: Append) -> Outcome {
    let outcome = queue.execute(Operation::Append(append));
    if let Outcome::Appended {
        displaced: None, ..
    } = outcome
    {
        return Outcome::Done;
    }
    outcome
}

fn all_of(recipient: &str, now: i64) -> Read {
    Read {
        recipient: address(recipient),
        after: None,
        bytes: usize::MAX,
        count: usize::MAX,
        now: UnixMillis(now),
    }
}

/// The numbers that `read` finds, and how many wait.
fn read(queue: &mut MemoryQueue, read: Read) -> (Vec<u64>, u64) {
    let outcome = queue.execute(Operation::Read(read));
    let Outcome::Entries {
        entries, pending, ..
    } = outcome
    else {
        panic!("a read comes to entries");
    };
    (entries.iter().map(|entry| entry.seq.0).collect(), pending)
}

fn remove(queue: &mut MemoryQueue, recipient: &str, through: u64) -> Outcome {
    let (recipient, through) = (address(recipient), Seq(through));
    queue.execute(Operation::Remove { recipient, through })
}

fn expire(queue: &mut MemoryQueue, now: i64) -> Outcome {
    let now = UnixMillis(now);
    queue.execute(Operation::Expire { now })
}

#[test]
fn what_is_appended_is_read_in_the_order_of_its_numbers() {
    let mut queue = MemoryQueue::new();
    for seq in [3, 1, 2] {
        assert_eq!(
            append(&mut queue, envelope("a", "b", seq, b"x")),
            Outcome::Done
        );
    }
    append(&mut queue, envelope("a", "c", 4, b"y"));
    assert_eq!(read(&mut queue, all_of("b", 0)), (vec![1, 2, 3], 3));
    assert_eq!(read(&mut queue, all_of("c", 0)), (vec![4], 1));
    assert_eq!(read(&mut queue, all_of("d", 0)), (vec![], 0));
    queue.execute(Operation::Remove {
        recipient: all_of("c", 0).recipient,
        through: Seq(4),
    });
    let last_seq = queue.restored().last_seq;
    assert_eq!(last_seq, Some(Seq(4)), "no number is used again");
}

#[test]
fn appending_twice_changes_nothing() {
    let mut queue = MemoryQueue::new();
    append(&mut queue, envelope("a", "b", 1, b"first"));
    let bytes = queue.bytes();
    assert_eq!(
        append(&mut queue, envelope("a", "b", 1, b"second")),
        Outcome::Done
    );
    assert_eq!((queue.len(), queue.bytes()), (1, bytes));
    let message = queue
        .entries("pinch:b@relay")
        .next()
        .map(|entry| entry.message);
    assert_eq!(message.as_deref(), Some(b"first".as_slice()));
}

#[test]
fn appending_twice_is_done_even_where_there_is_no_more_room() {
    let mut queue = MemoryQueue::new();
    let mut twice = envelope("a", "b", 1, b"x");
    twice.limits = Some(Limits {
        recipient_count: 1,
        ..ROOMY
    });
    assert_eq!(append(&mut queue, twice.clone()), Outcome::Done);
    assert_eq!(append(&mut queue, twice), Outcome::Done);
}

#[test]
fn a_read_is_bounded_in_bytes_and_in_count_and_counts_all_that_waits() {
    let mut queue = MemoryQueue::new();
    for seq in 1..=5 {
        append(&mut queue, envelope("a", "b", seq, b"0123456789"));
    }
    let bounded = |after: Option<u64>, bytes, count| Read {
        after: after.map(Seq),
        bytes,
        count,
        ..all_of("b", 0)
    };
    assert_eq!(read(&mut queue, bounded(None, 30, 9)), (vec![1, 2, 3], 5));
    assert_eq!(read(&mut queue, bounded(None, 29, 9)), (vec![1, 2], 5));
    assert_eq!(read(&mut queue, bounded(Some(2), 1000, 2)), (vec![3, 4], 3));
    assert_eq!(read(&mut queue, bounded(Some(5), 1000, 9)), (vec![], 0));
    assert_eq!(
        read(&mut queue, bounded(None, 0, 9)),
        (vec![1], 5),
        "one at least"
    );
    assert_eq!(
        read(&mut queue, bounded(None, 1000, 0)),
        (vec![1], 5),
        "one at least"
    );
}

#[test]
fn a_read_stops_at_what_is_too_large_instead_of_passing_it_over() {
    let mut queue = MemoryQueue::new();
    append(&mut queue, envelope("a", "b", 1, b"12"));
    append(&mut queue, envelope("a", "b", 2, b"1234567890"));
    append(&mut queue, envelope("a", "b", 3, b"1"));
    let small = Read {
        bytes: 5,
        ..all_of("b", 0)
    };
    assert_eq!(read(&mut queue, small), (vec![1], 3));
}

#[test]
fn removing_forgets_what_is_up_to_a_number_and_nothing_else() {
    let mut queue = MemoryQueue::new();
    for seq in 1..=4 {
        append(&mut queue, envelope("a", "b", seq, b"x"));
    }
    append(&mut queue, envelope("a", "c", 1, b"x"));
    assert!(!queue.is_empty());
    assert_eq!(remove(&mut queue, "b", 2), Outcome::Done);
    assert_eq!(read(&mut queue, all_of("b", 0)), (vec![3, 4], 2));
    assert_eq!(read(&mut queue, all_of("c", 0)), (vec![1], 1));
    assert_eq!(remove(&mut queue, "b", 2), Outcome::Done, "again");
    assert_eq!(remove(&mut queue, "nobody", 2), Outcome::Done);
    remove(&mut queue, "b", 9);
    remove(&mut queue, "c", 9);
    assert!(queue.is_empty());
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.sender_bytes("pinch:a@relay"), 0);
    assert_eq!(queue.recipients().count(), 0);
}

#[test]
fn what_has_expired_is_neither_read_nor_counted() {
    let mut queue = MemoryQueue::new();
    let mut late = envelope("a", "b", 2, b"x");
    late.expires_at = UnixMillis(101);
    append(&mut queue, envelope("a", "b", 1, b"x"));
    append(&mut queue, late);
    assert_eq!(read(&mut queue, all_of("b", 99)), (vec![1, 2], 2));
    assert_eq!(read(&mut queue, all_of("b", 100)), (vec![2], 1));
    assert_eq!(expire(&mut queue, 99), Outcome::Expired { count: 0 });
    assert_eq!(expire(&mut queue, 100), Outcome::Expired { count: 1 });
    assert_eq!(expire(&mut queue, 100), Outcome::Expired { count: 0 });
    assert_eq!(queue.len(), 1);
}

#[test]
fn an_envelope_costs_its_bytes_and_those_of_both_addresses() {
    let addresses = "pinch:alice@relay".len() + "pinch:bob@relay".len();
    for (message, bytes) in [(&b""[..], 0), (b"x", 1), (b"hello", 5)] {
        let cost = envelope("alice", "bob", 1, message).cost();
        assert_eq!(cost, (addresses + bytes) as u64);
    }
}

#[test]
fn who_would_exceed_a_limit_is_refused_by_its_name() {
    let cost = envelope("a", "b", 1, b"x").cost();
    let cases = [
        (
            Limits {
                recipient_count: 1,
                ..ROOMY
            },
            Refusal::RecipientFull { limit: 1 },
        ),
        (
            Limits {
                sender_bytes: 2 * cost - 1,
                ..ROOMY
            },
            Refusal::SenderFull {
                limit: 2 * cost - 1,
            },
        ),
        (
            Limits {
                total_bytes: 2 * cost - 1,
                ..ROOMY
            },
            Refusal::StoreFull {
                limit: 2 * cost - 1,
            },
        ),
    ];
    for (limits, refusal) in cases {
        let mut queue = MemoryQueue::new();
        let mut limited = envelope("a", "b", 1, b"x");
        limited.limits = Some(limits);
        assert_eq!(append(&mut queue, limited.clone()), Outcome::Done);
        limited.seq = Seq(2);
        assert_eq!(
            append(&mut queue, limited.clone()),
            Outcome::Refused(refusal)
        );
        assert_eq!(queue.len(), 1, "{refusal}");

        limited.limits = None;
        assert_eq!(
            append(&mut queue, limited),
            Outcome::Done,
            "its place was its own"
        );
        assert_eq!(queue.bytes(), 2 * cost);
    }
}

#[test]
fn limits_are_of_one_recipient_and_of_one_sender() {
    let cost = envelope("a", "b", 1, b"x").cost();
    let limits = Limits {
        recipient_count: 1,
        sender_bytes: cost,
        total_bytes: 3 * cost,
    };
    let mut queue = MemoryQueue::new();
    let mut outcomes = Vec::new();
    let parties = [
        ("a", "b"),
        ("c", "b"),
        ("a", "d"),
        ("c", "d"),
        ("e", "f"),
        ("g", "h"),
    ];
    for (seq, (sender, recipient)) in (1..).zip(parties) {
        let mut limited = envelope(sender, recipient, seq, b"x");
        limited.limits = Some(limits);
        outcomes.push(append(&mut queue, limited));
    }
    let expected = [
        Outcome::Done,
        Outcome::Refused(Refusal::RecipientFull { limit: 1 }),
        Outcome::Refused(Refusal::SenderFull { limit: cost }),
        Outcome::Done,
        Outcome::Done,
        Outcome::Refused(Refusal::StoreFull { limit: 3 * cost }),
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn what_has_expired_makes_room_and_is_counted_once() {
    let limits = Limits {
        recipient_count: 1,
        ..ROOMY
    };
    let mut queue = MemoryQueue::new();
    let mut limited = envelope("a", "b", 1, b"x");
    limited.limits = Some(limits);
    assert_eq!(append(&mut queue, limited.clone()), Outcome::Done);
    limited.seq = Seq(2);
    limited.now = UnixMillis(100);
    limited.expires_at = UnixMillis(200);
    assert_eq!(append(&mut queue, limited), Outcome::Done);
    assert_eq!(read(&mut queue, all_of("b", 100)), (vec![2], 1));
    assert_eq!(expire(&mut queue, 100), Outcome::Expired { count: 1 });
    assert_eq!(expire(&mut queue, 200), Outcome::Expired { count: 1 });
}

#[test]
fn blocks_are_remembered_until_they_are_taken_back() {
    let (a, b) = (address("a"), address("b"));
    let mut queue = MemoryQueue::new();
    let block = |blocker: &Address, blocked: &Address| Operation::Block {
        blocker: blocker.clone(),
        blocked: blocked.clone(),
    };
    for operation in [block(&b, &a), block(&a, &b), block(&a, &b)] {
        assert_eq!(queue.execute(operation), Outcome::Done);
    }
    assert_eq!(
        queue.restored().blocks,
        [(a.clone(), b.clone()), (b.clone(), a.clone())]
    );
    let (blocker, blocked) = (b.clone(), a.clone());
    let unblock = Operation::Unblock { blocker, blocked };
    assert_eq!(queue.execute(unblock.clone()), Outcome::Done);
    assert_eq!(queue.execute(unblock), Outcome::Done);
    assert_eq!(queue.restored().blocks, [(a, b)]);
}

/// A queue for bob that is full: `count` envelopes of mallory, then one of alice.
fn full_queue(count: u64) -> (MemoryQueue, Limits) {
    let limits = Limits {
        recipient_count: count + 1,
        ..ROOMY
    };
    let mut queue = MemoryQueue::new();
    for seq in 1..=count {
        append(&mut queue, envelope("mallory", "bob", seq, b"m"));
    }
    append(&mut queue, envelope("alice", "bob", count + 1, b"a"));
    (queue, limits)
}

/// The number that gives way to an envelope of `sender`; `None` if it is refused.
fn displaced_by(queue: &mut MemoryQueue, append: Append) -> Option<u64> {
    let outcome = queue.execute(Operation::Append(append));
    if let Outcome::Appended { displaced, .. } = outcome {
        return displaced.map(|entry| entry.seq.0);
    }
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    None
}

#[test]
fn the_newest_of_the_largest_sender_gives_way_to_one_with_fewer() {
    let (mut queue, limits) = full_queue(5);
    let mut next = 10..;
    let mut displace = |queue: &mut MemoryQueue, sender| {
        let seq = next.next().expect("a number");
        let mut new = envelope(sender, "bob", seq, b"n");
        new.limits = Some(limits);
        displaced_by(queue, new)
    };
    assert_eq!(displace(&mut queue, "mallory"), None, "it is the largest");
    assert_eq!(displace(&mut queue, "carol"), Some(5));
    assert_eq!(displace(&mut queue, "alice"), Some(4), "it has one");
    assert_eq!(
        displace(&mut queue, "carol"),
        Some(3),
        "3 are two more than 1"
    );
    assert_eq!(displace(&mut queue, "alice"), None, "now each has 2");
    assert_eq!(displace(&mut queue, "dave"), Some(13), "the newest of all");
    assert_eq!(queue.len(), 6);
}

#[test]
fn nothing_up_to_what_was_handed_out_gives_way() {
    for (reached, expected) in [(None, Some(5)), (Some(4), Some(5)), (Some(5), None)] {
        let (mut queue, limits) = full_queue(5);
        let mut new = envelope("carol", "bob", 10, b"n");
        new.limits = Some(limits);
        new.reached = reached.map(Seq);
        assert_eq!(displaced_by(&mut queue, new), expected, "{reached:?}");
    }
}

#[test]
fn what_is_reserved_counts_as_if_it_were_stored() {
    let cost = envelope("a", "b", 1, b"x").cost();
    let limits = Limits {
        recipient_count: 2,
        sender_bytes: 2 * cost,
        total_bytes: 2 * cost,
    };
    let none = Usage::default();
    let cases = [
        (
            Usage {
                recipient_count: 2,
                ..none
            },
            Refusal::RecipientFull { limit: 2 },
        ),
        (
            Usage {
                sender_bytes: cost + 1,
                ..none
            },
            Refusal::SenderFull { limit: 2 * cost },
        ),
        (
            Usage {
                total_bytes: cost + 1,
                ..none
            },
            Refusal::StoreFull { limit: 2 * cost },
        ),
    ];
    for (reserved, refusal) in cases {
        let mut queue = MemoryQueue::new();
        let mut limited = envelope("a", "b", 1, b"x");
        limited.limits = Some(limits);
        limited.reserved = reserved;
        let refused = append(&mut queue, limited.clone());
        assert_eq!(refused, Outcome::Refused(refusal));
        limited.reserved = none;
        assert_eq!(append(&mut queue, limited), Outcome::Done);
    }
}

#[test]
fn what_is_discarded_has_the_same_outcome_and_changes_nothing() {
    let (mut queue, limits) = full_queue(5);
    let before: Vec<_> = queue.entries("pinch:bob@relay").collect();
    for (sender, refused) in [("mallory", true), ("carol", false), ("carol", false)] {
        let mut blocked = envelope(sender, "bob", 10, b"n");
        blocked.limits = Some(limits);
        blocked.discard = true;
        let outcome = append(&mut queue, blocked);
        assert_eq!(matches!(outcome, Outcome::Refused(_)), refused, "{sender}");
        assert_eq!(outcome == Outcome::Done, !refused, "{sender}");
    }
    assert_eq!(queue.entries("pinch:bob@relay").collect::<Vec<_>>(), before);
}

#[test]
fn outcomes_say_what_is_stored() {
    let mut queue = MemoryQueue::new();
    append(&mut queue, envelope("a", "b", 1, b"x"));
    append(&mut queue, envelope("b", "c", 1, b"y"));
    let cost = envelope("a", "b", 1, b"x").cost();
    let usage = |recipient_count, sender_bytes, total_bytes| Usage {
        recipient_count,
        sender_bytes: sender_bytes * cost,
        total_bytes: total_bytes * cost,
    };
    let appended = queue.execute(Operation::Append(envelope("a", "b", 2, b"z")));
    let Outcome::Appended { usage: found, .. } = appended else {
        panic!("it is appended: {appended:?}");
    };
    assert_eq!(found, usage(2, 2, 3));
    let read = queue.execute(Operation::Read(all_of("b", 0)));
    let Outcome::Entries { usage: found, .. } = read else {
        panic!("there are entries: {read:?}");
    };
    assert_eq!(found, usage(2, 1, 3), "b has sent one");
}
