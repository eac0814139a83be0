//! What stands in the file: tables, their keys and values, and the version of all that.
//!
//! # Format 2
//!
//! | table | key | value |
//! |---|---|---|
//! | `pinch.meta` | `format` | 2 |
//! | `pinch.meta` | `last seq` | the highest number that an envelope ever had |
//! | `pinch.pieces` | place, and those behind it | message, in pieces of [`PIECE`](crate::bodies::PIECE) bytes; a shorter one ends it |
//! | `pinch.bodies` | place | message, written in format 1 |
//! | `pinch.index` | recipient, number | place, sender, accepted at, expires at, cost |
//! | `pinch.expiries` | expires at, place | recipient, number |
//! | `pinch.accounts` | agent | how many wait for it, cost of what waits of it |
//! | `pinch.agents` | address | agent |
//! | `pinch.addresses` | agent | address |
//! | `pinch.totals` | – | how many wait, their cost, the next place, the next agent, how many expired and are untold, how many commits there were |
//! | `pinch.blocks` | address of the blocker, of the blocked | – |
//! | `pinch.owners` | address of a blocker | when it was seen; not in files of older versions |
//!
//! Format 1 has no pieces and no last number, and its file doubles when it grows. It becomes format 2
//! when it is opened, without a look at what waits in it: the messages stay where they are until they
//! are removed, and numbers go on behind [`LAST_SEQ_OF_FORMAT_1`]. Only its addresses are looked at, of
//! which the hosts may have capital letters.
//!
//! Places are given in the order of arrival, so that messages, most of the bytes, are only ever
//! written behind the last one, whoever they are for. What is written all over the place is the
//! index; that is why it knows agents, recipients and senders alike, by a number instead of their
//! long addresses. An agent for whom and of whom nothing waits is forgotten, and so is its number.
//! Times are milliseconds since the Unix epoch, costs are those of
//! [`Append::cost`](pinch_proto::queue::Append::cost).
//!
//! Whoever changes a table changes [`FORMAT`], teaches [`medium::open`](crate::medium::open) what to
//! do with the former one, and adds a file of the new one to `tests/data`, beside those of the old
//! ones, which stay: the tests in `golden.rs` say how, and open them all.

use core::ops::RangeInclusive;

use pinch_proto::Address;
use pinch_proto::queue::{Restored, Seq};
use redb::{Database, ReadTransaction, ReadableDatabase as _, TableDefinition, TableError};

use crate::{blocks, hosts};

/// The version that this crate writes.
pub(crate) const FORMAT: u64 = 2;
pub(crate) const FORMAT_KEY: &str = "format";
pub(crate) const LAST_SEQ_KEY: &str = "last seq";
/// No hub has come that far: a million envelopes per second would take two thousand years.
pub(crate) const LAST_SEQ_OF_FORMAT_1: u64 = 1 << 56;

/// A recipient and a number.
pub(crate) type IndexKey = (u64, u64);
/// A place, a sender, when it was accepted, when it expires, a cost.
pub(crate) type Placed = (u64, u64, i64, i64, u64);
/// When it expires, and its place.
pub(crate) type ExpiryKey = (i64, u64);
/// How many wait for it, and the cost of what waits of it.
pub(crate) type Account = (u64, u64);
/// How many wait, their cost, the next place, the next agent, how many expired and are untold, how
/// many commits there were.
pub(crate) type TotalsRow = (u64, u64, u64, u64, u64, u64);

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("pinch.meta");
pub(crate) const PIECES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pinch.pieces");
pub(crate) const BODIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pinch.bodies");
pub(crate) const INDEX: TableDefinition<'_, IndexKey, Placed> = TableDefinition::new("pinch.index");
pub(crate) const EXPIRIES: TableDefinition<'_, ExpiryKey, IndexKey> =
    TableDefinition::new("pinch.expiries");
pub(crate) const ACCOUNTS: TableDefinition<'_, u64, Account> =
    TableDefinition::new("pinch.accounts");
pub(crate) const AGENTS: TableDefinition<'_, &str, u64> = TableDefinition::new("pinch.agents");
pub(crate) const ADDRESSES: TableDefinition<'_, u64, &str> =
    TableDefinition::new("pinch.addresses");
pub(crate) const TOTALS: TableDefinition<'_, (), TotalsRow> = TableDefinition::new("pinch.totals");
pub(crate) const BLOCKS: TableDefinition<'_, (&str, &str), ()> =
    TableDefinition::new("pinch.blocks");

/// Makes a new database a queue with nothing in it.
pub(crate) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    transaction.open_table(PIECES)?;
    transaction.open_table(BODIES)?;
    transaction.open_table(INDEX)?;
    transaction.open_table(EXPIRIES)?;
    transaction.open_table(ACCOUNTS)?;
    transaction.open_table(AGENTS)?;
    transaction.open_table(ADDRESSES)?;
    transaction
        .open_table(TOTALS)?
        .insert((), (0, 0, 0, 0, 0, 0))?;
    transaction.open_table(BLOCKS)?;
    transaction.commit()?;
    Ok(())
}

/// Makes a queue of format 1 one of the present format. Any other is left as it is.
pub(crate) fn upgrade(database: &Database) -> Result<(), redb::Error> {
    if format(database)? != Some(1) {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(FORMAT_KEY, FORMAT)?;
    meta.insert(LAST_SEQ_KEY, LAST_SEQ_OF_FORMAT_1)?;
    drop(meta);
    transaction.open_table(PIECES)?;
    hosts::normalize(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Which version `database` is of; `None` if it is no queue at all.
pub(crate) fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(FORMAT_KEY)?.map(|format| format.value())),
        Err(TableError::Storage(error)) => Err(error.into()),
        // Another program's table of that name, or none.
        Err(_) => Ok(None),
    }
}

/// How many commits there were.
pub(crate) fn commits(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    let totals = transaction.open_table(TOTALS)?;
    let row = totals.get(())?.map(|row| row.value());
    let (.., commits) = row.ok_or_else(|| corrupted("the totals are missing"))?;
    Ok(commits)
}

/// What a hub has to know of the queue.
pub(crate) fn restored(transaction: &ReadTransaction) -> Result<Restored, redb::Error> {
    let last_seq = transaction.open_table(META)?.get(LAST_SEQ_KEY)?;
    let last_seq = last_seq.map(|seq| Seq(seq.value()));
    let (blocks, owners) = blocks::restored(transaction)?;
    Ok(Restored {
        last_seq,
        blocks,
        owners,
    })
}

/// The keys in the index of what waits for an agent.
pub(crate) fn all_of(agent: u64) -> RangeInclusive<IndexKey> {
    (agent, 0)..=(agent, u64::MAX)
}

/// An address that stands in the file.
pub(crate) fn address(text: &str) -> Result<Address, redb::Error> {
    Address::parse(text).map_err(|error| corrupted(&format!("`{text}` is no address: {error}")))
}

/// The error that says that tables contradict each other.
pub(crate) fn corrupted(what: &str) -> redb::Error {
    redb::Error::Corrupted(what.to_owned())
}
