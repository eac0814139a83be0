//! The durable queue of a Pinch relay in one file, with [redb](https://docs.rs/redb).
//!
//! ```
//! use pinch_driver::Store as _;
//! use pinch_proto::queue::{Append, Operation, Outcome, Seq};
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
//! });
//! assert_eq!(store.execute(vec![append]).await, [Outcome::Done]);
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
//! | a batch is executed | one transaction, one `fsync`; a batch that only reads, or changes nothing, costs none |
//! | the process is killed, the power fails | every confirmed operation is there when the file is opened again, and of the others each as a whole or not at all; nobody is asked anything |
//! | the disk is full or read-only | what would change something fails and says so, what only reads goes on; every batch tries again, so that there is nothing to do once there is room |
//! | the file is damaged | it is not opened, and never replaced by an empty one: [`OpenError::Damaged`] |
//! | two processes want the file | the second is told: [`OpenError::InUse`] |

mod accounts;
mod backend;
mod error;
mod execute;
mod inspect;
mod medium;
mod read;
mod schema;
mod store;
mod worker;

#[cfg(test)]
mod tests;

pub use self::error::OpenError;
pub use self::inspect::{Inspection, Waiting};
pub use self::store::RedbStore;
