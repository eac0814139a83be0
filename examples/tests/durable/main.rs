//! What the relays promise of envelopes that cannot be delivered at once, shown with processes:
//! readers that pause or vanish, relays that are killed, disks that are full.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod peer;
mod relay;

use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Instant;

use self::peer::{Heard, Peer, address};
use self::relay::{Place, Relay};

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

const KIB: usize = 1024;

/// Waits until `is_so`, of which nobody tells.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Everything that waits for `peer`, all of it from `sender`.
fn drain(peer: &mut Peer, sender: &str) -> Vec<u64> {
    let pending = peer.queue_status();
    peer.messages(sender, pending)
}

/// Has somebody hear what they say to themselves, and nothing before it.
fn expect_live_traffic(name: &str, peer: &mut Peer) {
    peer.send(name, 7, KIB);
    assert_eq!(peer.messages(name, 1), [7]);
}

#[test]
fn a_reader_that_pauses_for_ten_seconds_misses_nothing_and_the_relay_does_not_swell() {
    const SMALL: u64 = 5000;
    const LARGE: u64 = 1000;
    // As many fit an outbox, and what a socket may have been given.
    const IN_MEMORY: u64 = 2 * 1024 + 100;
    // Some megabytes of the outbox and of what is underway to the disk, and the store's pages of
    // the file. Without a bound, it would be 60 MB.
    const SWELL: u64 = 32 * 1024 * 1024;

    let place = Place::new();
    let relay = place.relay_with(&["--queue-max", "100000", "--queue-sender-bytes", "1GiB"]);
    let mut alice = Peer::join(&relay, "alice");
    let mut bob = Peer::join(&relay, "bob");
    // So that it has answered the first ping before it pauses.
    expect_live_traffic("bob", &mut bob);
    let paused = Instant::now();
    for number in 0..SMALL {
        alice.send("bob", number, KIB);
    }
    eventually("what does not fit is stored", || relay.stored() > SMALL / 2);
    let before = relay.memory();
    for number in SMALL..SMALL + LARGE {
        alice.send("bob", number, 60 * KIB);
        // At a pace that the disk can follow: what waits for it is in memory, too.
        eventually("the disk follows", || number < relay.stored() + IN_MEMORY);
    }
    thread::sleep(Duration::from_secs(10).saturating_sub(paused.elapsed()));
    let swollen = relay.memory().saturating_sub(before);
    assert!(swollen < SWELL, "{swollen} bytes");
    for number in 0..SMALL + LARGE {
        assert_eq!(bob.messages("alice", 1), [number]);
    }
}

#[test]
fn a_reader_whose_socket_is_reset_after_20_of_500_gets_the_rest_when_it_returns() {
    let place = Place::new();
    let relay = place.relay();
    let mut alice = Peer::join(&relay, "alice");
    for number in 0..500 {
        alice.send("bob", number, KIB);
    }
    eventually("all are stored", || relay.stored() == 500);

    let mut bob = Peer::join(&relay, "bob");
    assert_eq!(bob.queue_status(), 500);
    let first = bob.messages("alice", 20);
    assert!(first.into_iter().eq(0..20));
    bob.reset();
    eventually("the relay knows", || relay.health()["connections"] == 1);

    let mut bob = Peer::join(&relay, "bob");
    let rest = drain(&mut bob, "alice");
    let begin = rest[0];
    assert!(
        begin <= 20,
        "{begin}: only what bob has read may be left out"
    );
    assert!(rest.into_iter().eq(begin..500), "all, and in order");
    expect_live_traffic("alice", &mut alice);
}

#[test]
fn what_waits_and_who_is_blocked_outlives_a_relay_that_is_told_to_end() {
    let place = Place::new();
    let relay = place.relay();
    let (mut alice, mut eve) = (Peer::join(&relay, "alice"), Peer::join(&relay, "eve"));
    let mut bob = Peer::join(&relay, "bob");
    bob.block("eve");
    // Behind the block, so that it is heard of.
    bob.send("alice", 0, 1);
    assert_eq!(alice.messages("bob", 1), [0]);
    drop(bob);
    eventually("bob has left", || relay.health()["connections"] == 2);
    // What bob sent may have taken the way through the queue.
    let before = relay.stored();
    for number in 0..100 {
        alice.send("bob", number, KIB);
        eve.send("bob", number, KIB);
    }
    eventually("all are stored", || relay.stored() == before + 100);
    assert_eq!(relay.terminate().code(), Some(0));

    let inspected = place.inspect(&["--json"]);
    assert_eq!(inspected.status.code(), Some(0));
    let found: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let recipients = found["recipients"].as_array().unwrap();
    let of_bob = |row: &&serde_json::Value| row["recipient"] == address("bob");
    assert_eq!(recipients.iter().find(of_bob).unwrap()["count"], 100);
    assert_eq!(found["blocks"], 1);

    let relay = place.nth_relay(1, &[]);
    let inspected = place.inspect(&[]);
    assert_eq!(inspected.status.code(), Some(1));
    let error = String::from_utf8(inspected.stderr).unwrap();
    assert!(error.contains("in use by another process"), "{error}");

    let mut eve = Peer::join(&relay, "eve");
    eve.send("bob", 1000, KIB);
    expect_live_traffic("eve", &mut eve);
    let mut bob = Peer::join(&relay, "bob");
    assert!(drain(&mut bob, "alice").into_iter().eq(0..100));
    eve.send("bob", 1001, KIB);
    expect_live_traffic("eve", &mut eve);
    expect_live_traffic("bob", &mut bob);
}

/// Somebody who is away while others write, over many lives of the relay.
struct Absent {
    name: String,
    sender: String,
    /// The number of the first message that has not arrived.
    next: u64,
    /// How many times it has returned.
    returns: u64,
}

impl Absent {
    fn new(n: usize) -> Self {
        Self {
            name: format!("bob{n}"),
            sender: format!("alice{n}"),
            next: 0,
            returns: 0,
        }
    }

    /// Returns, and reads until `limit` messages have come, or the last of all.
    fn fetch(&mut self, relay: &Relay, limit: usize) {
        let mut peer = Peer::join(relay, &self.name);
        // It stays behind whatever waits.
        self.returns += 1;
        peer.send(&self.name, self.returns, 0);
        let (mut pending, mut last) = (0, None);
        for read in 0..limit {
            match peer.hear() {
                Heard::QueueStatus(count) => {
                    assert_eq!((read, pending), (0, 0), "the status comes first");
                    pending = usize::try_from(count).unwrap();
                }
                Heard::Message(from, number) if from == address(&self.name) => {
                    // Those of former returns are queued if the relay was killed after them.
                    if number == self.returns {
                        // It may itself have been counted.
                        assert!(
                            pending == read || pending + 1 == read,
                            "{pending} of {read}"
                        );
                        return;
                    }
                }
                Heard::Message(from, number) => {
                    assert_eq!(from, address(&self.sender));
                    assert!(last < Some(number), "in order, and each of them once");
                    assert!(number <= self.next, "{number} came before {}", self.next);
                    last = Some(number);
                    self.next = self.next.max(number + 1);
                }
                Heard::Refused(number, about) => panic!("{number} was refused: {about:?}"),
            }
        }
    }
}

/// Writes to somebody who is away until the relay is gone. Says how many were written.
fn write_until_it_is_gone(mut sender: Peer, to: &str, first: u64) -> u64 {
    let mut number = first;
    while let Ok(()) = sender.try_send(to, number, KIB) {
        number += 1;
    }
    number - first
}

/// Has everybody write, and kills the relay. Says how many envelopes were written, and how many of
/// them were stored for certain.
fn load_and_kill(relay: Relay, absent: &[Absent], duration: Duration) -> (u64, u64) {
    let senders = absent.iter().map(|absent| {
        let sender = Peer::join(&relay, &absent.sender);
        let (to, first) = (absent.name.clone(), absent.next);
        thread::spawn(move || write_until_it_is_gone(sender, &to, first))
    });
    let senders: Vec<_> = senders.collect();
    let began = Instant::now();
    let mut stored = relay.stored();
    while began.elapsed() < duration {
        stored = relay.stored();
    }
    relay.kill();
    let written = senders.into_iter().map(|sender| sender.join().unwrap());
    (written.sum(), stored)
}

/// Has everybody fetch so many messages at most, and kills the relay.
fn fetch_and_kill(relay: Relay, absent: &mut [Absent], mut limit: impl FnMut() -> usize) {
    for absent in absent {
        absent.fetch(&relay, limit());
    }
    relay.kill();
}

#[test]
fn whatever_was_stored_when_the_relay_is_killed_is_there_when_it_is_back() {
    // In each, it is killed two or three times.
    const ROUNDS: usize = 25;

    let place = Place::new();
    let start = |n| place.nth_relay(n, &["--queue-max=1000000", "--queue-sender-bytes=1GiB"]);
    let mut random = fastrand::Rng::with_seed(0x6b69_6c6c);
    let mut absent: Vec<_> = (0..4).map(Absent::new).collect();
    let arrived = |absent: &[Absent]| absent.iter().map(|absent| absent.next).sum::<u64>();
    let (mut written, mut stored) = (0, 0);
    for round in 0..ROUNDS {
        let before = arrived(&absent);
        let duration = Duration::from_millis(random.u64(..300));
        let (more, certain) = load_and_kill(start(round), &absent, duration);
        if random.bool() {
            let some = || random.usize(..200);
            fetch_and_kill(start(round + 1), &mut absent, some);
        }
        fetch_and_kill(start(round + 2), &mut absent, || usize::MAX);
        let came = arrived(&absent) - before;
        assert!(came >= certain, "{certain} were stored, {came} came");
        (written, stored) = (written + more, stored + certain);
    }
    assert!(
        stored > 1000,
        "{stored} were stored: too few to show anything"
    );
    assert!(arrived(&absent) < written, "no kill hit what was underway");
}

#[test]
fn a_full_disk_is_told_to_senders_and_does_not_end_what_needs_no_disk() {
    let place = Place::new();
    let relay = place.relay();
    let (mut alice, mut carol) = (Peer::join(&relay, "alice"), Peer::join(&relay, "carol"));
    for number in 0..100 {
        alice.send("bob", number, KIB);
    }
    eventually("all are stored", || relay.stored() == 100);
    let len = fs::metadata(place.path()).unwrap().len();
    relay.limit_files(Some(len));

    // More than all the room that there still is in the file.
    let mut sent = 100;
    while relay.health()["store"] == "ok" {
        assert!(sent < 1000, "the file cannot hold that much");
        alice.send("bob", sent, 60 * KIB);
        sent += 1;
        eventually("the disk has been asked", || {
            relay.stored() == sent || relay.health()["store"] != "ok"
        });
    }
    assert_eq!(relay.health()["store"], "disk full");
    assert_eq!(relay.health()["status"], "ok");
    // The last that there will be no room for.
    alice.send("bob", sent, 60 * KIB);
    sent += 1;
    let mut refused = BTreeSet::new();
    while refused.last() != Some(&(sent - 1)) {
        let (number, about) = alice.refusal();
        assert_eq!(about.reason, "relay is out of disk");
        assert_eq!(about.recipient_address, address("bob"));
        refused.insert(number);
    }
    carol.send("alice", 1, KIB);
    assert_eq!(alice.messages("carol", 1), [1], "live traffic goes on");

    relay.limit_files(None);
    alice.send("bob", sent, 60 * KIB);
    sent += 1;
    eventually("there is room again", || relay.health()["store"] == "ok");
    let mut bob = Peer::join(&relay, "bob");
    let accepted = (0..sent).filter(|number| !refused.contains(number));
    assert!(
        drain(&mut bob, "alice").into_iter().eq(accepted),
        "all that was not refused"
    );
}

#[test]
fn a_queue_that_cannot_be_opened_is_named_and_left_as_it_is() {
    let place = Place::new();
    let refused = |expected: &str| {
        let output = place.refused();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout),
            (Some(1), vec![]),
            "{error}"
        );
        let path = place.path();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.contains(expected) && error.contains("--db"),
            "{error}"
        );
    };
    fs::write(place.path(), "shopping list: bread").unwrap();
    refused("damaged, or not the queue of a relay");
    assert_eq!(fs::read(place.path()).unwrap(), b"shopping list: bread");
    fs::write(place.path(), "").unwrap();
    refused("damaged, or not the queue of a relay");
    fs::remove_file(place.path()).unwrap();

    let relay = place.relay();
    refused("in use by another process");
    relay.terminate();
    let mut bytes = fs::read(place.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    fs::write(place.path(), &bytes).unwrap();
    refused("damaged, or not the queue of a relay");
    assert!(
        fs::read(place.path()).unwrap() == bytes,
        "nothing is changed"
    );
}
