//! The load: what a relay does with its store, without the relay.
//!
//! Whoever wants something hands in one operation and waits for its outcome. One writer gathers
//! what is wanted while it waits for a batch, and makes the next batch of it.

pub(crate) mod limit;

use core::error::Error;
use core::iter;
use core::time::Duration;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use std::time::Instant;
use std::{fs, io};

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_lite::future::{block_on, zip};
use futures_util::future::join_all;
use pinch_driver::Store;
use pinch_driver::proto::queue::{Append, Limits, Operation, Outcome, Read, Seq, Usage};
use pinch_driver::proto::{Address, UnixMillis};

/// For so many agents envelopes wait.
const RECIPIENTS: u64 = 1000;
/// The size of a message, in bytes.
const MESSAGE: usize = 1024;
/// The most operations in a batch.
const BATCH: usize = 1024;
const LIMITS: Limits = Limits {
    recipient_count: 1 << 40,
    sender_bytes: 1 << 40,
    total_bytes: 1 << 40,
};

/// Loads the store that `open` opens, whose files are at `path`, and prints what comes of it.
pub(crate) fn run_all<S: Store, E: Error + 'static>(
    count: u64,
    path: &Path,
    open: impl Fn() -> Result<S, E>,
) -> Result<(), Box<dyn Error>> {
    let sizes = |what: &str| -> Result<(), Box<dyn Error>> {
        let (on_disk, in_memory) = (mebibytes(size(path)?), mebibytes(memory()?));
        println!("{what}: {on_disk} MiB on the disk, {in_memory} MiB in memory");
        Ok(())
    };
    let mut store = open()?;
    sizes("empty")?;

    let mut first = 1;
    for (senders, share) in [(1, 100), (64, 10), (1024, 1)] {
        let part = (count / share).max(senders);
        enqueue(&store, senders, first, part).print(&format!("in, {senders} senders"));
        first += part;
    }
    sizes("full")?;
    drop(store);
    let began = Instant::now();
    store = open()?;
    println!("opened again, full, in {:.1?}", began.elapsed());
    drain(&store, 64).print("out, 64 recipients at once");
    sizes("drained")?;

    println!("and in and out in turn, as in a relay that has run for long:");
    for (senders, share) in [(1, 100), (64, 10), (1024, 5)] {
        let part = (count / share).max(senders);
        enqueue(&store, senders, first, part).print(&format!("in, {senders} senders"));
        first += part;
        drain(&store, 64).print("out, 64 recipients at once");
    }
    sizes("drained")?;
    drop(store);
    let began = Instant::now();
    let _store = open()?;
    println!("opened again, empty, in {:.1?}", began.elapsed());
    sizes("empty")
}

/// What a load came to.
struct Figures {
    envelopes: u64,
    batches: u64,
    elapsed: Duration,
}

impl Figures {
    fn print(&self, what: &str) {
        let rate = self.envelopes as f64 / self.elapsed.as_secs_f64();
        let a_batch = self.envelopes as f64 / self.batches as f64;
        let (envelopes, elapsed) = (self.envelopes, self.elapsed);
        println!(
            "{what}: {rate:.0} envelopes/s ({envelopes} in {elapsed:.1?}, {a_batch:.1} a batch)"
        );
    }
}

/// What a file, or all files of a directory, take on the disk.
fn size(path: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * 512);
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// The memory of this process that is its own and resident.
fn memory() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib
        .ok_or("no RssAnon in /proc/self/status")?
        .parse::<u64>()?
        * 1024)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

type Wanted = (Operation, Sender<Outcome>);

/// Executes what is wanted until nobody can want anything. Says how many batches that took.
async fn write(store: &impl Store, wanted: Receiver<Wanted>) -> u64 {
    let mut batches = 0;
    while let Ok(first) = wanted.recv().await {
        let mut operations = Vec::with_capacity(wanted.len() + 1);
        let mut replies = Vec::with_capacity(wanted.len() + 1);
        let more = iter::from_fn(|| wanted.try_recv().ok()).take(BATCH - 1);
        for (operation, reply) in iter::once(first).chain(more) {
            operations.push(operation);
            replies.push(reply);
        }
        batches += 1;
        let outcomes = store.execute(operations).await;
        for (outcome, reply) in outcomes.into_iter().zip(replies) {
            reply.try_send(outcome).expect("whoever asks waits");
        }
    }
    batches
}

async fn ask(writer: &Sender<Wanted>, operation: Operation) -> Outcome {
    let (reply, replied) = async_channel::bounded(1);
    writer
        .send((operation, reply))
        .await
        .expect("the writer is there");
    replied
        .recv()
        .await
        .expect("every operation has an outcome")
}

/// Has `work` done with a writer to ask.
fn run<F: Future<Output = u64>>(
    store: &impl Store,
    work: impl FnOnce(Sender<Wanted>) -> F,
) -> Figures {
    let (writer, wanted) = async_channel::bounded(BATCH);
    let began = Instant::now();
    let (envelopes, batches) = block_on(zip(work(writer), write(store, wanted)));
    Figures {
        envelopes,
        batches,
        elapsed: began.elapsed(),
    }
}

/// Appends `count` envelopes, numbered from `first`, from `senders` agents that each wait for the
/// outcome of one before they send the next.
fn enqueue(store: &impl Store, senders: u64, first: u64, count: u64) -> Figures {
    let message: Bytes = (0..MESSAGE).map(|at| at as u8).collect();
    run(store, |writer| async move {
        let agents = (0..senders).map(|agent| {
            let (writer, message) = (writer.clone(), message.clone());
            async move {
                let sender = address("sender", agent);
                for seq in (first + agent..first + count).step_by(senders as usize) {
                    // Scattered, as agents write to whom they like.
                    let recipient = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                    let append = Operation::Append(Append {
                        recipient: address("recipient", recipient % RECIPIENTS),
                        sender: sender.clone(),
                        seq: Seq(seq),
                        message: message.clone(),
                        now: UnixMillis(seq as i64),
                        expires_at: UnixMillis(seq as i64 + 604_800_000),
                        limits: Some(LIMITS),
                        reserved: Usage::default(),
                        reached: None,
                        discard: false,
                    });
                    let appended = ask(&writer, append).await;
                    assert!(matches!(appended, Outcome::Appended { .. }));
                }
            }
        });
        join_all(agents.collect::<Vec<_>>()).await;
        count
    })
}

/// Reads everything, 64 KiB at a time, and removes what was read, for `agents` recipients at once.
fn drain(store: &impl Store, agents: u64) -> Figures {
    run(store, |writer| async move {
        let recipients = Arc::new(Mutex::new(0..RECIPIENTS));
        let drains = (0..agents).map(|_| {
            let (writer, recipients) = (writer.clone(), recipients.clone());
            async move {
                let mut count = 0;
                loop {
                    let next = recipients.lock().expect("nobody panics").next();
                    let Some(number) = next else {
                        return count;
                    };
                    count += drain_one(&writer, address("recipient", number)).await;
                }
            }
        });
        let counts = join_all(drains.collect::<Vec<_>>()).await;
        counts.into_iter().sum()
    })
}

async fn drain_one(writer: &Sender<Wanted>, recipient: Address) -> u64 {
    let mut count = 0;
    let mut after = None;
    loop {
        let read = Operation::Read(Read {
            recipient: recipient.clone(),
            after,
            bytes: 65_536,
            count: 256,
            now: UnixMillis(0),
        });
        let Outcome::Entries { entries, .. } = ask(writer, read).await else {
            panic!("a read comes to entries");
        };
        let Some(last) = entries.last() else {
            return count;
        };
        assert!(entries.iter().all(|entry| entry.message.len() == MESSAGE));
        count += entries.len() as u64;
        after = Some(last.seq);
        let remove = Operation::Remove {
            recipient: recipient.clone(),
            through: last.seq,
        };
        assert_eq!(ask(writer, remove).await, Outcome::Done);
    }
}

fn address(kind: &str, number: u64) -> Address {
    // As long as the address of a key.
    let text = format!("pinch:{kind:a<42}{number:08}@relay.example.com");
    Address::parse(&text).expect("a valid address")
}
