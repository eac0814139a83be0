//! The durable queue of a Pinch relay in one file, with [redb](https://docs.rs/redb).
//!
//! ```
//! use pinch_driver::Store as _;
//! use pinch_proto::queue::{Append, Operation, Outcome, Seq, Usage};
//! use pinch_proto::{Address, UnixMillis};
//! use pinch_store_redb::RedbStore;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("relay.queue");
//! # futures_lite::future::block_on(async {
//! let store = RedbStore::open(&path)?;
//! let append = Operation::Append(Append {
//!     recipient: Address::parse("pinch:bob@relay")?,
//!     sender: Address::parse("pinch:alice@relay")?,
//!     seq: Seq(7),
//!     message: b"hello".as_slice().into(),
//!     now: UnixMillis(0),
//!     expires_at: UnixMillis(60_000),
//!     limits: None,
//!     reserved: Usage::default(),
//!     reached: None,
//!     discard: false,
//! });
//! let outcomes = store.execute(vec![append]).await;
//! assert!(matches!(&*outcomes, [Outcome::Appended { .. }]));
//! drop(store);
//!
//! assert_eq!(RedbStore::inspect(&path)?.count, 1);
//! assert_eq!(RedbStore::open(&path)?.restored().last_seq, Some(Seq(7)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens when
//!
//! | | |
//! |---|---|
//! | a batch is executed | one transaction for each 500 envelopes that it removes, one `fsync` each, another if the file has 32 MiB or more, and another if it has to grow; a batch that only reads, or changes nothing, costs none |
//! | the file has no room for a new envelope | it is refused: [`StoreFull`](pinch_proto::queue::Refusal::StoreFull); so are all others until 1/64 of what waits is gone, or 1/8 if the file is longer than its limit already |
//! | the process is killed, the power fails | every confirmed operation is there when the file is opened again, and of the others each as a whole or not at all; nobody is asked anything |
//! | the disk is full or read-only | what would change something fails and says so, what only reads goes on; every batch tries again, so that there is nothing to do once there is room |
//! | the file is damaged | it is never replaced by an empty one: [`OpenError::Damaged`] where that shows when it is opened; else what is asked of it fails. [`RedbStore::inspect`] checks every page; only of a relay that has crashed, a damaged last commit looks like one that was never finished, and is undone as such |
//! | two processes want the file | the second is told: [`OpenError::InUse`] |
//! | the file is unlinked or replaced while it is open (Unix) | [`warning`](pinch_driver::Store::warning) says so, within a second or two, and so do a log line and the relay's `/health`; it is not opened again under its name |
//! | others may read the file (Unix) | it gets mode 0600 when it is made, and when it is opened |
//!
//! # How large the file becomes
//!
//! As large as [`Limits::total_bytes`](pinch_proto::queue::Limits::total_bytes) of the envelopes says, or
//! 16 MiB if that is more: it grows by 16 MiB, and messages are cut into pieces that fill its pages.
//! Removing an envelope takes room until it is done, and so do envelopes without limits and blocks: for
//! them, a sixteenth and 33 MiB come on top. At the limit, the file holds of messages that are all of
//! one size (the share of the limit that they and their addresses are; `cargo bench -p pinch-store-redb --
//! --limit BYTES`):
//!
//! | 100 B | 1,012 B | 2,041 B | 4,000 B | 4,081 B | 32 KiB | 64 KiB |
//! |--:|--:|--:|--:|--:|--:|--:|
//! | 1.00 | 0.75 | 0.74 | 0.96 | 0.78 | 0.95 | 0.97 |
//!
//! # Why redb
//!
//! Two embedded stores in Rust can do what a queue asks for: redb, a B-tree in one file, and
//! [fjall](https://docs.rs/fjall), a log-structured merge tree in a directory. The same load on both,
//! with the same tables and one `fsync` for each batch, in turns on the same machine, the median of
//! three runs: messages of 1 KiB for 1000 agents; "in" is envelopes accepted per second, "out" is
//! envelopes read and removed per second for 64 agents at once.
//!
//! | | redb 4.6 | fjall 3.1 |
//! |---|--:|--:|
//! | in, 1 sender that waits for each | 2,300/s | 7,700/s |
//! | in, 64 senders | 33,000/s | 62,000/s |
//! | in, 1024 senders, a million envelopes | 39,000/s | 33,000/s |
//! | out, all of these | 30,000/s | 45,000/s |
//! | afterwards: in, 64 and 1024 senders | 45,000/s and 53,000/s | 35,000/s and 27,000/s |
//! | and out again, all of these | 31,000/s and 25,000/s | 61,000/s and 51,000/s |
//! | on the disk with 1.1 million envelopes | 1,621 MiB | 1,501 MiB |
//! | when they are gone | 1,107 MiB | 1,430 MiB |
//! | 310,000 more in and out later | 87 MiB | 1,885 MiB |
//! | and when it is closed and opened again | 2 MiB | 1,399 MiB |
//! | memory, at most | 41 MiB | 431 MiB |
//! | opened, empty but used | 2 ms | 6.5 s |
//! | crates it brings | 2 | 43 |
//!
//! Measured on 2026-11-23 with 2 cores, 24 GiB and ext4 on a virtual disk, next to other work; fjall
//! without compression, as messages are encrypted, and otherwise as it comes. The load is that of
//! `cargo bench -p pinch-store-redb`.
//!
//! So fjall is the faster one for few senders, since its commit only appends to a log, and it hands
//! out faster, since it notes down what is removed instead of removing it. That has its price in
//! memory, in a disk that stays full long after the queue is empty, and in the time that a restart
//! takes. A relay batches what its agents send, and there redb keeps up; it gives back what it no
//! longer needs; and it is one file, with a checksum on every page. To copy it, end the relay first: a
//! copy of a file that is being written to may hold neither the old state nor the new one.

mod accounts;
mod backend;
mod blocks;
mod bodies;
mod error;
mod execute;
mod hosts;
mod inspect;
mod medium;
mod place;
mod rankings;
mod read;
mod room;
mod schema;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod steps;
mod store;
mod worker;

#[cfg(test)]
mod tests;

pub use self::error::OpenError;
pub use self::inspect::{BlockList, Inspection, Waiting};
pub use self::store::RedbStore;
