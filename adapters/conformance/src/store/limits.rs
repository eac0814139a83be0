//! What a store keeps no longer, and what it does not take.

use pinch_driver::Store;
use pinch_driver::proto::UnixMillis;
use pinch_driver::proto::queue::{Append, Limits, Operation, Outcome, Read, Refusal, Seq, Usage};

use super::Place;
use super::bench::{ROOMY, all_of, append, envelope, execute, expire, read, read_messages, remove};

fn limited(sender: &str, recipient: &str, seq: u64, limits: Limits) -> Append {
    let mut envelope = envelope(sender, recipient, seq, b"message");
    envelope.limits = Some(limits);
    envelope
}

pub fn what_has_expired_is_neither_read_nor_counted<P: Place>() {
    let place = P::new();
    let store = place.open();
    for (seq, expires_at) in [(1, 100), (2, 300), (3, 200), (4, -5), (5, 300)] {
        let mut one = envelope("alice", "bob", seq, b"x");
        one.expires_at = UnixMillis(expires_at);
        assert_eq!(append(&store, one), Outcome::Done);
    }
    let at = |now| Read {
        now: UnixMillis(now),
        ..all_of("bob")
    };
    assert_eq!(read(&store, at(-6)), (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(read(&store, at(99)), (vec![1, 2, 3, 5], 4));
    assert_eq!(read(&store, at(100)), (vec![2, 3, 5], 3));
    assert_eq!(
        read(
            &store,
            Read {
                count: 1,
                ..at(200)
            }
        ),
        (vec![2], 2)
    );
    assert_eq!(
        read(
            &store,
            Read {
                after: Some(Seq(2)),
                ..at(200)
            }
        ),
        (vec![5], 1)
    );
    assert_eq!(read(&store, at(300)), (vec![], 0));
}

pub fn what_has_expired_is_forgotten_and_counted_once<P: Place>() {
    let place = P::new();
    let store = place.open();
    for (seq, recipient) in [(1, "bob"), (2, "carol"), (3, "bob")] {
        let mut one = envelope("alice", recipient, seq, b"x");
        one.expires_at = UnixMillis(i64::try_from(seq).expect("a small number") * 100);
        append(&store, one);
    }
    assert_eq!(execute(&store, expire(99)), Outcome::Expired { count: 0 });
    assert_eq!(execute(&store, expire(200)), Outcome::Expired { count: 2 });
    assert_eq!(execute(&store, expire(200)), Outcome::Expired { count: 0 });
    assert_eq!(read(&store, all_of("bob")), (vec![3], 1));
    assert_eq!(read(&store, all_of("carol")), (vec![], 0));
}

pub fn what_has_expired_makes_room<P: Place>() {
    let cost = envelope("alice", "bob", 1, b"message").cost();
    for limits in [
        Limits {
            recipient_count: 1,
            ..ROOMY
        },
        Limits {
            sender_bytes: cost,
            ..ROOMY
        },
        Limits {
            total_bytes: cost,
            ..ROOMY
        },
    ] {
        let place = P::new();
        let store = place.open();
        assert_eq!(
            append(&store, limited("alice", "bob", 1, limits)),
            Outcome::Done
        );
        let mut later = limited("alice", "bob", 2, limits);
        (later.now, later.expires_at) = (UnixMillis(99), UnixMillis(200));
        assert!(matches!(append(&store, later.clone()), Outcome::Refused(_)));
        later.now = UnixMillis(100);
        assert_eq!(append(&store, later), Outcome::Done);
        assert_eq!(execute(&store, expire(100)), Outcome::Expired { count: 1 });
        assert_eq!(read(&store, all_of("bob")), (vec![2], 1));
    }
}

pub fn who_would_exceed_a_limit_is_refused_by_its_name<P: Place>() {
    let cost = envelope("alice", "bob", 1, b"message").cost();
    let just_too_little = 2 * cost - 1;
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
                sender_bytes: just_too_little,
                ..ROOMY
            },
            Refusal::SenderFull {
                limit: just_too_little,
            },
        ),
        (
            Limits {
                total_bytes: just_too_little,
                ..ROOMY
            },
            Refusal::StoreFull {
                limit: just_too_little,
            },
        ),
    ];
    for (limits, refusal) in cases {
        let place = P::new();
        let store = place.open();
        assert_eq!(
            append(&store, limited("alice", "bob", 1, limits)),
            Outcome::Done
        );
        let refused = append(&store, limited("alice", "bob", 2, limits));
        assert_eq!(refused, Outcome::Refused(refusal));
        let again = append(&store, limited("alice", "bob", 1, limits));
        assert_eq!(again, Outcome::Done, "it is there already");
        assert_eq!(read(&store, all_of("bob")), (vec![1], 1));
    }
}

pub fn limits_are_of_one_recipient_and_of_one_sender<P: Place>() {
    let place = P::new();
    let store = place.open();
    let cost = envelope("a", "b", 1, b"message").cost();
    let limits = Limits {
        recipient_count: 1,
        sender_bytes: cost,
        total_bytes: 3 * cost,
    };
    let parties = [
        ("a", "b"),
        ("c", "b"),
        ("a", "d"),
        ("c", "d"),
        ("e", "f"),
        ("g", "h"),
    ];
    let outcomes = (1..)
        .zip(parties)
        .map(|(seq, (sender, recipient))| append(&store, limited(sender, recipient, seq, limits)));
    let expected = [
        Outcome::Done,
        Outcome::Refused(Refusal::RecipientFull { limit: 1 }),
        Outcome::Refused(Refusal::SenderFull { limit: cost }),
        Outcome::Done,
        Outcome::Done,
        Outcome::Refused(Refusal::StoreFull { limit: 3 * cost }),
    ];
    assert_eq!(outcomes.collect::<Vec<_>>(), expected);
}

pub fn what_comes_back_is_kept_beyond_all_limits<P: Place>() {
    let place = P::new();
    let store = place.open();
    let none = Limits {
        recipient_count: 0,
        sender_bytes: 0,
        total_bytes: 0,
    };
    let refused = append(&store, limited("alice", "bob", 1, none));
    assert_eq!(
        refused,
        Outcome::Refused(Refusal::RecipientFull { limit: 0 })
    );
    let mut back = limited("alice", "bob", 1, none);
    back.limits = None;
    assert_eq!(append(&store, back), Outcome::Done);
    assert_eq!(read(&store, all_of("bob")), (vec![1], 1));
}

pub fn what_was_removed_makes_exactly_as_much_room_as_it_took<P: Place>() {
    let place = P::new();
    let store = place.open();
    let cost = envelope("alice", "bob", 1, b"message").cost();
    let limits = Limits {
        recipient_count: 4,
        sender_bytes: 4 * cost,
        total_bytes: 4 * cost,
    };
    let mut next = 1..;
    for round in 1..=5 {
        let mut taken = Vec::new();
        for seq in next.by_ref().take(5) {
            if append(&store, limited("alice", "bob", seq, limits)) == Outcome::Done {
                taken.push(seq);
            }
        }
        assert_eq!(taken.len(), 4, "round {round}");
        let (half, last) = (taken[1], taken[3]);
        execute(&store, remove("bob", half));
        assert_eq!(read(&store, all_of("bob")), (taken[2..].to_vec(), 2));
        execute(&store, remove("bob", last));
    }
}

/// Fills the queue of bob: five envelopes of mallory, and one of alice.
fn fill(store: &impl Store) -> Limits {
    for seq in 1..=5 {
        append(store, envelope("mallory", "bob", seq, b"message"));
    }
    append(store, envelope("alice", "bob", 6, b"message"));
    Limits {
        recipient_count: 6,
        ..ROOMY
    }
}

/// The number that gives way to an envelope; `None` if it is refused.
fn displaced_by(store: &impl Store, new: Append) -> Option<u64> {
    let outcome = execute(store, Operation::Append(new));
    if let Outcome::Appended { displaced, .. } = outcome {
        let displaced = displaced.expect("the queue is full");
        assert_eq!(displaced.message, "message");
        return Some(displaced.seq.0);
    }
    let refusal = Refusal::RecipientFull { limit: 6 };
    assert_eq!(outcome, Outcome::Refused(refusal));
    None
}

pub fn the_newest_of_the_largest_sender_gives_way_to_one_with_fewer<P: Place>() {
    let place = P::new();
    let store = place.open();
    let limits = fill(&store);
    let senders = [
        ("mallory", None),
        ("carol", Some(5)),
        ("mallory", None),
        ("alice", Some(4)),
        ("carol", Some(3)),
        ("alice", None),
        // Now each has two: the newest of all is carol's.
        ("dave", Some(14)),
        ("carol", None),
    ];
    for (seq, (sender, expected)) in (10..).zip(senders) {
        let found = displaced_by(&store, limited(sender, "bob", seq, limits));
        assert_eq!(found, expected, "number {seq}, of {sender}");
    }
    let left = vec![1, 2, 6, 11, 13, 16];
    assert_eq!(read(&store, all_of("bob")), (left, 6));
    execute(&store, remove("bob", 1));
    assert_eq!(
        append(&store, limited("mallory", "bob", 20, limits)),
        Outcome::Done,
        "there is room again"
    );
    assert_eq!(
        displaced_by(&store, limited("erin", "bob", 21, limits)),
        Some(20)
    );
}

pub fn nothing_that_was_handed_out_gives_way<P: Place>() {
    for (reached, expected) in [(None, Some(5)), (Some(4), Some(5)), (Some(5), None)] {
        let place = P::new();
        let store = place.open();
        let limits = fill(&store);
        let mut new = limited("carol", "bob", 10, limits);
        new.reached = reached.map(Seq);
        assert_eq!(displaced_by(&store, new), expected, "behind {reached:?}");
    }
}

pub fn what_is_reserved_counts_as_if_it_were_stored<P: Place>() {
    let place = P::new();
    let store = place.open();
    let cost = envelope("alice", "bob", 1, b"message").cost();
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
        let mut new = limited("alice", "bob", 1, limits);
        new.reserved = reserved;
        assert_eq!(append(&store, new), Outcome::Refused(refusal));
    }
    let mut exact = limited("alice", "bob", 1, limits);
    exact.reserved = Usage {
        recipient_count: 1,
        sender_bytes: cost,
        total_bytes: cost,
    };
    assert_eq!(append(&store, exact), Outcome::Done);
}

pub fn what_is_discarded_has_the_same_outcome_and_changes_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    let limits = fill(&store);
    let before = read_messages(&store, all_of("bob"));
    let full = Outcome::Refused(Refusal::RecipientFull { limit: 6 });
    for (sender, expected) in [
        ("mallory", full),
        ("carol", Outcome::Done),
        ("dave", Outcome::Done),
    ] {
        let mut blocked = limited(sender, "bob", 10, limits);
        blocked.discard = true;
        assert_eq!(append(&store, blocked), expected, "{sender}");
    }
    assert_eq!(read_messages(&store, all_of("bob")), before);
}

pub fn outcomes_say_what_is_stored<P: Place>() {
    let place = P::new();
    let store = place.open();
    let cost = envelope("ann", "bob", 1, b"message").cost();
    let usage = |recipient_count, sender_bytes, total_bytes| Usage {
        recipient_count,
        sender_bytes: sender_bytes * cost,
        total_bytes: total_bytes * cost,
    };
    let parties = [
        ("ann", "bob", usage(1, 1, 1)),
        ("bob", "ann", usage(1, 1, 2)),
        ("ann", "bob", usage(2, 2, 3)),
    ];
    for (seq, (sender, recipient, expected)) in (1..).zip(parties) {
        let new = envelope(sender, recipient, seq, b"message");
        let appended = execute(&store, Operation::Append(new));
        let expected = Outcome::Appended {
            usage: expected,
            displaced: None,
        };
        assert_eq!(appended, expected);
    }
    let found = |recipient| {
        let outcome = execute(&store, Operation::Read(all_of(recipient)));
        let Outcome::Entries { usage, .. } = outcome else {
            panic!("a read came to {outcome:?}")
        };
        usage
    };
    assert_eq!(found("bob"), usage(2, 1, 3));
    assert_eq!(found("eve"), usage(0, 0, 3));
    execute(&store, remove("bob", 1));
    assert_eq!(found("bob"), usage(1, 1, 2));
}
