//! What each operation does.

use std::thread;

use bytes::Bytes;
use futures_lite::future::{block_on, poll_once};
use pinch_driver::Store as _;
use pinch_driver::proto::queue::{Operation, Outcome, Read, Restored, Seq, Usage};
use pinch_driver::proto::{Address, UnixMillis};

use super::Place;
use super::bench::{
    address, all_of, append, block, done_if_appended, envelope, execute, execute_all, expire, read,
    read_messages, remove, unblock,
};

pub fn an_empty_store_has_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    assert_eq!(store.restored(), Restored::default());
    assert_eq!(read(&store, all_of("bob")), (vec![], 0));
    assert_eq!(
        execute(&store, expire(i64::MAX)),
        Outcome::Expired { count: 0 }
    );
    assert_eq!(execute(&store, remove("bob", u64::MAX)), Outcome::Done);
    assert_eq!(execute(&store, unblock("bob", "eve")), Outcome::Done);
    assert!(!store.name().is_empty());
}

pub fn a_batch_of_nothing_comes_to_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    assert_eq!(execute_all(&store, Vec::new()), []);
}

pub fn outcomes_come_in_the_order_of_the_operations<P: Place>() {
    let place = P::new();
    let store = place.open();
    let batch = vec![
        expire(0),
        Operation::Append(envelope("alice", "bob", 1, b"x")),
        expire(0),
        Operation::Read(all_of("carol")),
        block("bob", "eve"),
    ];
    let cost = envelope("alice", "bob", 1, b"x").cost();
    let usage = |recipient_count, sender_bytes| Usage {
        recipient_count,
        sender_bytes,
        total_bytes: cost,
    };
    let appended = Outcome::Appended {
        usage: usage(1, cost),
        displaced: None,
    };
    let nothing = Outcome::Entries {
        entries: vec![],
        pending: 0,
        usage: usage(0, 0),
    };
    let expired = Outcome::Expired { count: 0 };
    let expected = [expired.clone(), appended, expired, nothing, Outcome::Done];
    assert_eq!(execute_all(&store, batch), expected);
}

pub fn an_operation_sees_those_before_it_in_its_batch<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut batch = Vec::new();
    for seq in 1..=3 {
        batch.push(Operation::Append(envelope("alice", "bob", seq, b"x")));
        batch.push(Operation::Read(all_of("bob")));
    }
    batch.push(remove("bob", 2));
    batch.push(Operation::Read(all_of("bob")));
    let found = execute_all(&store, batch)
        .into_iter()
        .filter_map(|outcome| {
            let Outcome::Entries {
                entries, pending, ..
            } = outcome
            else {
                return None;
            };
            Some((
                entries.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(),
                pending,
            ))
        });
    let expected = [
        (vec![1], 1),
        (vec![1, 2], 2),
        (vec![1, 2, 3], 3),
        (vec![3], 1),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

pub fn a_message_is_read_byte_for_byte<P: Place>() {
    let place = P::new();
    let store = place.open();
    let mut random = fastrand::Rng::with_seed(1);
    let lens = [0, 1, 100, 4095, 4096, 4097, 65_536, 1_048_576];
    let messages: Vec<Bytes> = lens
        .iter()
        .map(|&len| (0..len).map(|_| random.u8(..)).collect())
        .collect();
    for (seq, message) in (1..).zip(&messages) {
        let appended = append(&store, envelope("alice", "bob", seq, message));
        assert_eq!(appended, Outcome::Done, "{} bytes", message.len());
    }
    let (found, pending) = read_messages(&store, all_of("bob"));
    assert_eq!(pending, messages.len() as u64);
    for ((seq, found), (expected_seq, expected)) in found.iter().zip((1..).zip(&messages)) {
        assert_eq!((*seq, found.len()), (expected_seq, expected.len()));
        assert!(
            found == expected,
            "{} bytes are as they were",
            expected.len()
        );
    }
    assert_eq!(found.len(), messages.len());
}

pub fn entries_are_read_in_the_order_of_their_numbers<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in [500, 2, 1_000_000, 1, 255, 256, 65_536, 257] {
        append(&store, envelope("alice", "bob", seq, b"x"));
    }
    let expected = vec![1, 2, 255, 256, 257, 500, 65_536, 1_000_000];
    assert_eq!(read(&store, all_of("bob")), (expected, 8));
    assert_eq!(store.restored().last_seq, Some(Seq(1_000_000)));
}

pub fn appending_twice_changes_nothing<P: Place>() {
    let place = P::new();
    let store = place.open();
    let again = || Operation::Append(envelope("alice", "bob", 1, b"again"));
    append(&store, envelope("alice", "bob", 1, b"first"));
    for outcome in execute_all(&store, vec![again(), again(), again()]) {
        assert_eq!(done_if_appended(outcome), Outcome::Done);
    }
    let first = vec![(1, Bytes::from_static(b"first"))];
    assert_eq!(read_messages(&store, all_of("bob")), (first, 1));
    execute(&store, remove("bob", 1));
    assert_eq!(read(&store, all_of("bob")), (vec![], 0));
}

pub fn a_read_is_bounded_in_bytes_and_in_count<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in 1..=5 {
        append(&store, envelope("alice", "bob", seq, &[7; 1000]));
    }
    let bounded = |bytes, count| Read {
        bytes,
        count,
        ..all_of("bob")
    };
    assert_eq!(read(&store, bounded(3000, 9)), (vec![1, 2, 3], 5));
    assert_eq!(read(&store, bounded(2999, 9)), (vec![1, 2], 5));
    assert_eq!(read(&store, bounded(100_000, 4)), (vec![1, 2, 3, 4], 5));
    assert_eq!(read(&store, bounded(0, 9)), (vec![1], 5), "one at least");
    assert_eq!(
        read(&store, bounded(100_000, 0)),
        (vec![1], 5),
        "one at least"
    );
}

pub fn a_read_stops_at_what_is_too_large<P: Place>() {
    let place = P::new();
    let store = place.open();
    append(&store, envelope("alice", "bob", 1, &[7; 10]));
    append(&store, envelope("alice", "bob", 2, &[7; 1000]));
    append(&store, envelope("alice", "bob", 3, &[7; 10]));
    let small = Read {
        bytes: 100,
        ..all_of("bob")
    };
    assert_eq!(read(&store, small.clone()), (vec![1], 3));
    let behind = Read {
        after: Some(Seq(1)),
        ..small
    };
    assert_eq!(
        read(&store, behind),
        (vec![2], 2),
        "the order matters more than the size"
    );
}

pub fn a_read_goes_on_behind_the_last<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in [1, 2, 5, 6] {
        append(&store, envelope("alice", "bob", seq, b"x"));
    }
    let after = |seq| Read {
        after: Some(Seq(seq)),
        ..all_of("bob")
    };
    assert_eq!(read(&store, after(0)), (vec![1, 2, 5, 6], 4));
    assert_eq!(read(&store, after(2)), (vec![5, 6], 2));
    assert_eq!(read(&store, after(3)), (vec![5, 6], 2));
    assert_eq!(read(&store, after(6)), (vec![], 0));
    assert_eq!(read(&store, after(u64::MAX)), (vec![], 0));
}

pub fn removing_forgets_what_is_up_to_a_number<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in 1..=4 {
        append(&store, envelope("alice", "bob", seq, b"x"));
        append(&store, envelope("alice", "carol", seq, b"x"));
    }
    assert_eq!(execute(&store, remove("bob", 2)), Outcome::Done);
    assert_eq!(read(&store, all_of("bob")), (vec![3, 4], 2));
    assert_eq!(execute(&store, remove("bob", 2)), Outcome::Done, "again");
    assert_eq!(read(&store, all_of("bob")), (vec![3, 4], 2));
    assert_eq!(execute(&store, remove("bob", u64::MAX)), Outcome::Done);
    assert_eq!(read(&store, all_of("bob")), (vec![], 0));
    assert_eq!(read(&store, all_of("carol")), (vec![1, 2, 3, 4], 4));
}

pub fn addresses_that_begin_alike_are_not_mixed_up<P: Place>() {
    let place = P::new();
    let store = place.open();
    let recipients = [
        "pinch:b@r",
        "pinch:b@r.",
        "pinch:b@relay",
        "pinch:bo@r",
        "pinch:B@r",
    ];
    for (seq, recipient) in (1..).zip(recipients) {
        let mut one = envelope("alice", "bob", seq, recipient.as_bytes());
        one.recipient = Address::parse(recipient).expect("a valid address");
        append(&store, one);
    }
    for (seq, recipient) in (1..).zip(recipients) {
        let recipient = Address::parse(recipient).expect("a valid address");
        let message = Bytes::copy_from_slice(recipient.as_str().as_bytes());
        let (of_it, through) = (recipient.clone(), Seq(u64::MAX));
        let found = read_messages(
            &store,
            Read {
                recipient: of_it,
                ..all_of("bob")
            },
        );
        assert_eq!(found, (vec![(seq, message)], 1));
        execute(&store, Operation::Remove { recipient, through });
    }
}

pub fn the_longest_addresses_and_the_largest_numbers_are_kept<P: Place>() {
    let place = P::new();
    let store = place.open();
    let host = "relay.example.com";
    let name = "n".repeat(Address::MAX_LEN - "pinch:@".len() - host.len());
    let mut extreme = envelope(&name, &name, u64::MAX, b"x");
    assert_eq!(extreme.recipient.as_str().len(), Address::MAX_LEN);
    (extreme.now, extreme.expires_at) = (UnixMillis(i64::MIN), UnixMillis(i64::MAX));
    assert_eq!(append(&store, extreme.clone()), Outcome::Done);
    extreme.seq = Seq(0);
    assert_eq!(append(&store, extreme), Outcome::Done);
    let last = Read {
        now: UnixMillis(i64::MAX - 1),
        ..all_of(&name)
    };
    assert_eq!(read(&store, last.clone()), (vec![0, u64::MAX], 2));
    let at_its_end = Read {
        now: UnixMillis(i64::MAX),
        ..last
    };
    assert_eq!(read(&store, at_its_end), (vec![], 0));
    assert_eq!(store.restored().last_seq, Some(Seq(u64::MAX)));
    assert_eq!(
        execute(&store, expire(i64::MAX)),
        Outcome::Expired { count: 2 }
    );
    let last_seq = store.restored().last_seq;
    assert_eq!(last_seq, Some(Seq(u64::MAX)), "no number is used again");
}

pub fn blocks_are_remembered_until_they_are_taken_back<P: Place>() {
    let place = P::new();
    let store = place.open();
    let operations = vec![
        block("bob", "eve"),
        block("alice", "eve"),
        block("bob", "eve"),
    ];
    assert_eq!(execute_all(&store, operations), vec![Outcome::Done; 3]);
    let pair = |blocker, blocked| (address(blocker), address(blocked));
    let mut blocks = store.restored().blocks;
    blocks.sort();
    assert_eq!(blocks, [pair("alice", "eve"), pair("bob", "eve")]);
    let operations = vec![unblock("bob", "eve"), unblock("bob", "eve")];
    assert_eq!(execute_all(&store, operations), vec![Outcome::Done; 2]);
    assert_eq!(store.restored().blocks, [pair("alice", "eve")]);

    let seen = |name, at| Operation::Seen {
        blocker: address(name),
        at: UnixMillis(at),
    };
    let forget = |name| Operation::ForgetBlocks {
        blocker: address(name),
    };
    let operations = vec![
        block("bob", "mallory"),
        block("bob", "eve"),
        block("bobby", "eve"),
        seen("bob", 1),
        seen("bob", 2),
        seen("bobby", 3),
        // She blocks nobody.
        seen("carol", 4),
    ];
    assert_eq!(execute_all(&store, operations), vec![Outcome::Done; 7]);
    let owners = [
        (address("bob"), UnixMillis(2)),
        (address("bobby"), UnixMillis(3)),
    ];
    assert_eq!(store.restored().owners, owners);
    let operations = vec![forget("bob"), forget("bob"), unblock("bobby", "eve")];
    assert_eq!(execute_all(&store, operations), vec![Outcome::Done; 3]);
    let restored = store.restored();
    assert_eq!(restored.blocks, [pair("alice", "eve")]);
    assert_eq!(restored.owners, []);
}

pub fn who_blocks_whom_is_not_mixed_up<P: Place>() {
    let place = P::new();
    let store = place.open();
    execute(&store, block("bob", "eve"));
    assert_eq!(execute(&store, unblock("eve", "bob")), Outcome::Done);
    assert_eq!(store.restored().blocks, [(address("bob"), address("eve"))]);
}

pub fn a_batch_that_nobody_waits_for_does_no_harm<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in (0..100).step_by(2) {
        let left = store.execute(vec![
            Operation::Append(envelope("alice", "bob", seq, b"x")),
            Operation::Append(envelope("alice", "carol", seq, b"x")),
        ]);
        block_on(poll_once(left));
        let next = append(&store, envelope("alice", "bob", seq + 1, b"x"));
        assert_eq!(next, Outcome::Done);
    }
    let (found, pending) = read(&store, all_of("bob"));
    let awaited: Vec<u64> = (1..100).step_by(2).collect();
    let found_awaited: Vec<u64> = found.iter().copied().filter(|seq| seq % 2 == 1).collect();
    assert_eq!(found_awaited, awaited, "what was awaited is there");
    assert_eq!(pending, found.len() as u64);
    assert!(found.is_sorted());
}

pub fn a_store_can_be_used_from_any_thread<P: Place>() {
    let place = P::new();
    let store = place.open();
    for seq in 1..=3 {
        thread::scope(|scope| {
            scope.spawn(|| append(&store, envelope("alice", "bob", seq, b"x")));
        });
    }
    assert_eq!(read(&store, all_of("bob")), (vec![1, 2, 3], 3));
}
