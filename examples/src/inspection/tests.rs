//! What is said of a queue.

use bytes::Bytes;
use pinch_driver::Store as _;
use pinch_proto::Address;
use pinch_proto::queue::{Append, Operation, Outcome, Seq, Usage};
use tempfile::TempDir;

use super::*;

/// A queue with what was accepted for whom at which second.
fn queue(accepted: &[(&str, i64)]) -> (TempDir, Inspection) {
    queue_and_blocks(accepted, &[])
}

/// The same, with these block lists.
fn queue_and_blocks(accepted: &[(&str, i64)], blocks: &[Operation]) -> (TempDir, Inspection) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.db");
    let append = |(seq, (recipient, second)): (u64, &(&str, i64))| {
        Operation::Append(Append {
            recipient: Address::parse(recipient).unwrap(),
            sender: Address::parse("pinch:alice@relay").unwrap(),
            seq: Seq(seq),
            message: Bytes::from_static(&[0x55; 1000]),
            now: UnixMillis(second * 1000),
            expires_at: UnixMillis(i64::MAX),
            limits: None,
            reserved: Usage::default(),
            reached: None,
            discard: false,
        })
    };
    let batch: Vec<_> = (1..).zip(accepted).map(append).collect();
    let store = RedbStore::open(&path).unwrap();
    let outcomes = smol::block_on(store.execute(batch));
    smol::block_on(store.execute(blocks.to_vec()));
    let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Appended { .. });
    assert!(outcomes.iter().all(is_done));
    drop(store);
    (directory, RedbStore::inspect(&path).unwrap())
}

fn table(inspection: &Inspection, now: i64) -> String {
    let mut out = Vec::new();
    write_table(inspection, Timestamp::from_second(now).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_table_says_who_waits_for_how_much_and_since_when() {
    let accepted = [
        ("pinch:bob@relay", 1_000_000),
        ("pinch:carol@relay.example.com", 1_000_000),
        ("pinch:bob@relay", 1_003_661),
        ("pinch:bob@relay", 1_007_200),
    ];
    let (_directory, inspection) = queue(&accepted);
    let expected = "\
RECIPIENT                      ENVELOPES     SIZE  OLDEST  NEWEST
pinch:bob@relay                        3  3.0 KiB  2h ago  now
pinch:carol@relay.example.com          1  1.0 KiB  2h ago  2h ago

envelopes: 4 (4.0 KiB), recipients: 2, blocks: 0
";
    assert_eq!(table(&inspection, 1_007_200), expected);
}

#[test]
fn block_lists_have_an_owner_a_number_and_a_time() {
    let agent = |name: &str| Address::parse(&format!("pinch:{name}@relay")).unwrap();
    let block = |blocker, blocked| Operation::Block {
        blocker: agent(blocker),
        blocked: agent(blocked),
    };
    let seen = Operation::Seen {
        blocker: agent("bob"),
        at: UnixMillis(100_000),
    };
    let operations = [
        block("bob", "eve"),
        block("al", "eve"),
        block("bob", "mallory"),
        seen,
    ];
    let (directory, inspection) = queue_and_blocks(&[], &operations);
    let expected = "\
OWNER            BLOCKS  SEEN
pinch:al@relay        1  unknown
pinch:bob@relay       2  1m ago

envelopes: 0 (0 B), recipients: 0, blocks: 3
";
    assert_eq!(table(&inspection, 160), expected);
    let mut out = Vec::new();
    let options = InspectOptions {
        path: directory.path().join("relay.db"),
        json: true,
    };
    inspect(&options, &mut out).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let expected = serde_json::json!([
        { "owner": "pinch:al@relay", "count": 1, "seen": null },
        { "owner": "pinch:bob@relay", "count": 2, "seen": "1970-01-01T00:01:40Z" },
    ]);
    assert_eq!(said["block_lists"], expected);
}

#[test]
fn an_empty_queue_is_one_line() {
    let (_directory, inspection) = queue(&[]);
    assert_eq!(
        table(&inspection, 0),
        "envelopes: 0 (0 B), recipients: 0, blocks: 0\n"
    );
}

#[test]
fn ages_have_two_units_and_know_that_clocks_are_set() {
    let now = Timestamp::from_second(1_000_000).unwrap();
    let cases = [
        (1_000_000, "now"),
        (999_999, "1s ago"),
        (999_000, "16m 40s ago"),
        (900_000, "1day 3h ago"),
        (1_000_060, "in the future"),
    ];
    for (second, expected) in cases {
        assert_eq!(age(UnixMillis(second * 1000), now), expected);
    }
    assert_eq!(age(UnixMillis(i64::MAX), now), "in the future");
    assert!(age(UnixMillis(i64::MIN), now).ends_with(" ago"));
}

#[test]
fn json_says_the_same_with_exact_times() {
    let (directory, inspection) = queue(&[("pinch:bob@relay", 0), ("pinch:bob@relay", 90)]);
    let mut out = Vec::new();
    let options = InspectOptions {
        path: directory.path().join("relay.db"),
        json: true,
    };
    inspect(&options, &mut out).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let expected = serde_json::json!({
        "count": 2,
        "bytes": inspection.bytes,
        "blocks": 0,
        "recipients": [{
            "recipient": "pinch:bob@relay",
            "count": 2,
            "bytes": inspection.bytes,
            "oldest": "1970-01-01T00:00:00Z",
            "newest": "1970-01-01T00:01:30Z",
        }],
        "block_lists": [],
    });
    assert_eq!(said, expected);
    assert!(
        !out.windows(4).any(|bytes| bytes == [0x55; 4]),
        "never the contents"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.db");
    let options = InspectOptions {
        path: path.clone(),
        json: false,
    };
    let error = inspect(&options, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(error.contains("--db"), "{error}");
    assert!(!path.exists(), "looking makes nothing");
}
