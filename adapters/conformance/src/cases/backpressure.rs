//! Readers that are slower than their senders: what waits for them is bounded, who sends too much
//! hears so, nothing is lost in silence, and who takes nothing at all is closed.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeSet;

use async_io::Async;
use async_tungstenite::tungstenite::Message as WsMessage;
use bytes::Bytes;
use futures_lite::future::{or, yield_now};
use futures_util::AsyncWriteExt as _;
use pinch_driver::proto::hub::{Config, QueueConfig};
use pinch_driver::proto::wire::QueueFull;
use pinch_driver::{Auth, MemoryStore};

use crate::envelopes::{address, decode, message, number, refusal};
use crate::peer::{Heard, Peer};
use crate::raw::{BINARY, Raw, frame};
use crate::relays::{bind, config, emptied, open};
use crate::starter::{Running, Starter};
use crate::wait::{LIMIT, eventually, millis, soon};

const ENVELOPE: usize = 16 << 10;
const OUTBOX: usize = 128 << 10;

fn small_outboxes() -> Config {
    config()
        .control_limit(None)
        .envelope_bytes(2 * ENVELOPE)
        .outbox_bytes(OUTBOX)
        .unconfirmed_bytes(OUTBOX)
}

/// Sends envelopes, and asks after each whether it was accepted.
struct Sender {
    peer: Peer,
    next: u64,
    accepted: Vec<u64>,
    refused: Vec<u64>,
}

impl Sender {
    async fn new(relay: &impl Running) -> Self {
        Self {
            peer: Peer::named(relay, "sender").await,
            next: 0,
            accepted: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Sends one envelope to `reader`; true if it was accepted.
    async fn send(&mut self) -> bool {
        let (number, own) = (self.next, self.peer.address.clone());
        self.next += 1;
        self.peer
            .send(message(&own, &address("reader"), number, ENVELOPE))
            .await;
        let mut accepted = true;
        for (about, refusal) in self.refusals().await {
            assert_eq!(about, number);
            assert_eq!(refusal.recipient_address, address("reader").as_str());
            let reason = format!("at most {OUTBOX} bytes or 4096 envelopes wait");
            assert!(refusal.reason.contains(&reason), "{}", refusal.reason);
            accepted = false;
        }
        let list = if accepted {
            &mut self.accepted
        } else {
            &mut self.refused
        };
        list.push(number);
        accepted
    }

    /// All that the relay says about what was sent: a pong comes behind it.
    async fn refusals(&mut self) -> Vec<(u64, QueueFull)> {
        let payload = Bytes::from_static(b"?");
        self.peer.send_any(WsMessage::Ping(payload.clone())).await;
        let mut refusals = Vec::new();
        loop {
            match self.peer.next().await {
                Heard::Pong(pong) if pong == payload => return refusals,
                Heard::Envelope(heard) => refusals.extend(refusal(&heard)),
                heard @ (Heard::Ping(_) | Heard::Pong(_) | Heard::Close(..) | Heard::End) => {
                    panic!("{heard:?} instead of a pong")
                }
            }
        }
    }

    /// Sends until the reader's socket and outbox are full.
    async fn fill(&mut self, relay: &impl Running) {
        let mut refused_in_a_row = 0;
        while refused_in_a_row < 10 {
            refused_in_a_row = if self.send().await {
                0
            } else {
                refused_in_a_row + 1
            };
            let stats = relay.stats().hub;
            assert!(stats.queued_bytes <= OUTBOX as u64, "{stats:?}");
            // What nobody has confirmed, and the last envelope that went while there was room.
            let window = OUTBOX + 2 * ENVELOPE;
            assert!(stats.in_flight_bytes <= window as u64, "{stats:?}");
        }
    }
}

pub(crate) async fn a_reader_that_stops_gets_what_was_accepted_when_it_reads_on<S: Starter>(
    starter: &S,
) {
    let relay = open(starter, small_outboxes()).await;
    let mut reader = Raw::named(&relay, "reader").await;
    let mut sender = Sender::new(&relay).await;
    for _ in 0..3 {
        sender.fill(&relay).await;
        for expected in core::mem::take(&mut sender.accepted) {
            assert_eq!(number(&decode(&reader.envelope().await)), expected);
        }
        eventually("nothing waits", || relay.stats().hub.queued == 0).await;
        assert!(sender.send().await, "there is room again");
    }
    let stats = relay.stats().hub;
    assert_eq!(stats.refused_full, sender.refused.len() as u64);
    assert_eq!((stats.returned, stats.stalls), (0, 0));
}

pub(crate) async fn a_reader_that_reads_slowly_gets_everything_and_is_not_closed<S: Starter>(
    starter: &S,
) {
    let config = config()
        .outbox_bytes(64 << 20)
        .stall_timeout(Duration::from_secs(5));
    let relay = open(starter, config).await;
    let mut reader = Raw::named(&relay, "reader").await;
    let mut sender = Peer::named(&relay, "sender").await;
    for number in 0..1000 {
        sender
            .send(message(
                &sender.address,
                &address("reader"),
                number,
                ENVELOPE,
            ))
            .await;
    }
    for expected in 0..1000 {
        assert_eq!(number(&decode(&reader.envelope().await)), expected);
        yield_now().await;
    }
    assert_eq!(relay.stats().hub.stalls, 0);
}

pub(crate) async fn a_reader_that_takes_nothing_is_closed_and_its_senders_are_told<S: Starter>(
    starter: &S,
) {
    // More than the system keeps for a socket, so that it is the socket which stands still.
    let config = small_outboxes()
        .unconfirmed_bytes(64 << 20)
        .stall_timeout(millis(1000))
        .close_timeout(LIMIT);
    let relay = open(starter, config).await;
    let mut reader = Raw::named(&relay, "reader").await;
    let mut sender = Sender::new(&relay).await;
    let mut told = Vec::new();
    let own = sender.peer.address.clone();
    // Floods on until the reader is closed; then it is offline.
    while told
        .last()
        .is_none_or(|told: &(u64, String)| !told.1.contains("offline"))
    {
        sender
            .peer
            .send(message(&own, &address("reader"), sender.next, ENVELOPE))
            .await;
        sender.next += 1;
        let refusals = sender.refusals().await.into_iter();
        told.extend(refusals.map(|(about, refusal)| (about, refusal.reason)));
    }
    let stats = relay.stats().hub;
    // It neither takes nor acknowledges anything: both timeouts are as long.
    let too_slow = stats.stalls + stats.ack_timeouts;
    assert_eq!((too_slow, stats.connections, stats.closing), (1, 1, 1));
    let returned = told.iter().filter(|told| told.1.contains("recipient left"));
    assert_eq!(returned.count() as u64, stats.returned);
    assert!(stats.returned > 0);

    // It reads on, and finds everything that nobody was told about, and why it was closed.
    let told: BTreeSet<u64> = told.into_iter().map(|told| told.0).collect();
    for expected in (0..sender.next).filter(|number| !told.contains(number)) {
        assert_eq!(number(&decode(&reader.envelope().await)), expected);
    }
    // A marker may lie behind what it was given last.
    let mut heard = reader.hear().await;
    while let Heard::Ping(_) = heard {
        heard = reader.hear().await;
    }
    assert_eq!(heard, Heard::close(1008, "too slow"));
    reader.answer_close().await;
    drop(sender);
    emptied(&relay).await;
}

pub(crate) async fn a_sender_that_reads_no_rejections_is_too_slow_in_the_end<S: Starter>(
    starter: &S,
) {
    let config = config()
        .refusal_bytes(10_000)
        .stall_timeout(millis(200))
        .close_timeout(millis(100));
    let relay = open(starter, config).await;
    let mut sender = Raw::named(&relay, "sender").await;
    let frame = frame(
        BINARY,
        &message(&address("sender"), &address("nobody"), 1, 0),
    );
    let frames = frame.repeat(1000);
    let flood = async { while sender.stream.write_all(&frames).await.is_ok() {} };
    soon("the cut", flood).await;
    emptied(&relay).await;
    let stats = relay.stats().hub;
    assert_eq!((stats.stalls, stats.violations), (1, 0));
}

/// Of 5,000 envelopes in one go, for a reader that pauses meanwhile, each arrives or is rejected, and
/// nobody is closed.
pub(crate) async fn a_fast_sender_hears_of_each_rejection_and_is_not_closed<S: Starter>(
    starter: &S,
) {
    const COUNT: u64 = 5000;
    let queue = QueueConfig::new().recipient_count(1000);
    let builder = starter
        .builder()
        .auth(Auth::Open)
        .store(MemoryStore::new())
        .hub(config().refusal_bytes(10_000).queue(queue));
    let relay = bind(starter, builder).await;
    let (own, to) = (address("sender"), address("reader"));
    let mut reader = Raw::named(&relay, "reader").await;
    let mut sender = Raw::named(&relay, "sender").await;
    let mut writer = Async::new(sender.stream.get_ref().try_clone().expect("a handle"))
        .expect("a stream that does not block");
    let frames = (0..COUNT).flat_map(|number| frame(BINARY, &message(&own, &to, number, 1024)));
    let frames: Vec<u8> = frames.collect();

    let known = RefCell::new(BTreeSet::new());
    let is_new = |number| assert!(known.borrow_mut().insert(number), "{number} a second time");
    let rejections = async {
        loop {
            let (number, _) = refusal(&sender.envelope().await).expect("a rejection");
            is_new(number);
        }
    };
    let deliveries = async {
        let written = writer.write_all(&frames).await;
        written.expect("the sender is not closed");
        loop {
            is_new(number(&decode(&reader.envelope().await)));
        }
    };
    let all = eventually(
        || format!("{} fates of {COUNT}, {relay:?}", known.borrow().len()),
        || known.borrow().len() as u64 == COUNT,
    );
    or(all, or(rejections, deliveries)).await;
    assert_eq!(relay.stats().hub.connections, 2);
}

pub(crate) async fn many_envelopes_are_as_bounded_as_large_ones<S: Starter>(starter: &S) {
    let relay = open(starter, config().outbox_count(10).join_timeout(LIMIT)).await;
    let mut reader = Raw::upgraded(&relay, "reader").await;
    let ping = reader.ping().await;
    let mut sender = Peer::named(&relay, "sender").await;
    let said: Vec<Bytes> = (0..15)
        .map(|number| message(&sender.address, &address("reader"), number, 1))
        .collect();
    for message in &said {
        sender.send(message.clone()).await;
    }
    for expected in 10..15 {
        let (number, refusal) = refusal(&sender.envelope().await).expect("a refusal");
        assert_eq!(number, expected);
        assert!(
            refusal.reason.contains("or 10 envelopes wait"),
            "{}",
            refusal.reason
        );
    }
    reader.send(crate::raw::PONG, &ping).await;
    for message in &said[..10] {
        assert_eq!(reader.envelope().await, message);
    }
}

pub(crate) async fn the_relay_as_a_whole_is_bounded_too<S: Starter>(starter: &S) {
    let config = config()
        .join_timeout(LIMIT)
        .total_outbox_bytes(70_000)
        .outbox_bytes(66_000);
    let relay = open(starter, config).await;
    let mut readers = Vec::new();
    let mut sender = Sender::new(&relay).await;
    let mut refusals = Vec::new();
    // Each shard has room for one.
    for number in 0..=relay.shards() as u64 {
        let name = format!("reader{number}");
        let mut reader = Raw::upgraded(&relay, &name).await;
        reader.ping().await;
        readers.push(reader);
        let own = &sender.peer.address;
        let said = message(own, &address(&name), number, 60_000);
        sender.peer.send(said).await;
        refusals.extend(sender.refusals().await);
    }
    assert!((1..=relay.shards()).contains(&refusals.len()));
    for (number, refusal) in refusals {
        assert!(number > 0);
        let reason = "relay is out of memory for envelopes";
        assert!(refusal.reason.contains(reason), "{}", refusal.reason);
    }
    drop(readers);
}
