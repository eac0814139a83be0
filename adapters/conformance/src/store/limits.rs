//! What a store keeps no longer, and what it does not take.

use pinch_driver::proto::UnixMillis;
use pinch_driver::proto::queue::{Append, Limits, Outcome, Read, Refusal, Seq};

use super::Place;
use super::bench::{ROOMY, all_of, append, envelope, execute, expire, read, remove};

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
