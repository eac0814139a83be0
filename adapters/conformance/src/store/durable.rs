//! What is left of a store when it is closed and opened again.

use pinch_driver::Store as _;
use pinch_driver::proto::UnixMillis;
use pinch_driver::proto::queue::{Limits, Operation, Outcome, Refusal, Restored, Seq};

pub use super::random::it_does_what_a_queue_in_memory_does_when_it_is_opened_again_and_again;

use super::Place;
use super::bench::{
    ROOMY, address, all_of, append, block, envelope, execute, execute_all, expire, read,
    read_messages, remove, unblock,
};

pub fn what_was_done_is_there_when_the_store_is_opened_again<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in 1..=3 {
        append(&store, envelope("alice", "bob", seq, b"message"));
        append(&store, envelope("alice", "carol", seq, b"message"));
    }
    execute(&store, remove("bob", 1));
    execute(&store, remove("carol", 3));
    let before = read_messages(&store, all_of("bob"));
    drop(store);

    let store = place.open();
    assert_eq!(read_messages(&store, all_of("bob")), before);
    assert_eq!(before.0.len(), 2);
    assert_eq!(read(&store, all_of("carol")), (vec![], 0));
    assert_eq!(store.restored().last_seq, Some(Seq(3)));
    execute(&store, remove("bob", 3));
    drop(store);
    let restored = Restored {
        last_seq: Some(Seq(3)),
        ..Restored::default()
    };
    assert_eq!(place.open().restored(), restored);
}

pub fn blocks_are_there_when_the_store_is_opened_again<P: Place>() {
    let place = P::new();
    let blocks = vec![
        block("bob", "eve"),
        block("carol", "eve"),
        unblock("bob", "eve"),
        Operation::Seen {
            blocker: address("carol"),
            at: UnixMillis(7),
        },
    ];
    execute_all(&place.open(), blocks);
    let restored = place.open().restored();
    assert_eq!(restored.blocks, [(address("carol"), address("eve"))]);
    assert_eq!(restored.owners, [(address("carol"), UnixMillis(7))]);
}

pub fn limits_count_what_was_there_before<P: Place>() {
    let cost = envelope("alice", "bob", 1, b"x").cost();
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
                sender_bytes: cost,
                ..ROOMY
            },
            Refusal::SenderFull { limit: cost },
        ),
        (
            Limits {
                total_bytes: cost,
                ..ROOMY
            },
            Refusal::StoreFull { limit: cost },
        ),
    ];
    for (limits, refusal) in cases {
        let place = P::new();
        append(&place.open(), envelope("alice", "bob", 1, b"x"));
        let store = place.open();
        let mut second = envelope("alice", "bob", 2, b"x");
        second.limits = Some(limits);
        assert_eq!(append(&store, second.clone()), Outcome::Refused(refusal));
        execute(&store, remove("bob", 1));
        drop(store);
        assert_eq!(append(&place.open(), second), Outcome::Done);
    }
}

pub fn what_expired_before_is_counted_once<P: Place>() {
    let place = P::new();
    append(&place.open(), envelope("alice", "bob", 1, b"x"));
    let mut second = envelope("alice", "bob", 2, b"x");
    second.limits = Some(Limits {
        recipient_count: 1,
        ..ROOMY
    });
    (second.now, second.expires_at) = (UnixMillis(100), UnixMillis(200));
    assert_eq!(
        append(&place.open(), second),
        Outcome::Done,
        "the first has expired"
    );
    assert_eq!(
        execute(&place.open(), expire(100)),
        Outcome::Expired { count: 1 }
    );
    assert_eq!(
        execute(&place.open(), expire(100)),
        Outcome::Expired { count: 0 }
    );
    assert_eq!(
        execute(&place.open(), expire(200)),
        Outcome::Expired { count: 1 }
    );
}
