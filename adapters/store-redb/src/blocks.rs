//! Block lists: who wants nothing from whom, and when the owners of the lists were seen.

use core::ops::RangeInclusive;

use pinch_proto::queue::Operation;
use pinch_proto::{Address, UnixMillis};
use redb::{
    ReadTransaction, ReadableTable as _, Table, TableDefinition, TableError, WriteTransaction,
};

use crate::schema::{self, BLOCKS};

/// When the owner of a list was seen. Files of older versions don't have it.
pub(crate) const OWNERS: TableDefinition<'_, &str, i64> = TableDefinition::new("pinch.owners");

/// Behind the addresses of all that an owner blocks: they are printable ASCII.
const BEHIND_ALL: &str = "\u{7f}";

/// The tables, open for writing.
pub(crate) struct BlockLists<'t> {
    blocks: Table<'t, (&'static str, &'static str), ()>,
    owners: Table<'t, &'static str, i64>,
}

impl<'t> BlockLists<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            blocks: transaction.open_table(BLOCKS)?,
            owners: transaction.open_table(OWNERS)?,
        })
    }

    /// Does what `operation` says, if it is about block lists; true if that has changed something.
    pub(crate) fn execute(&mut self, operation: &Operation) -> Result<bool, redb::Error> {
        match operation {
            Operation::Block { blocker, blocked } => {
                let block = (blocker.as_str(), blocked.as_str());
                Ok(self.blocks.insert(block, ())?.is_none())
            }
            Operation::Unblock { blocker, blocked } => {
                let block = (blocker.as_str(), blocked.as_str());
                let is_changed = self.blocks.remove(block)?.is_some();
                if is_changed && !self.has_list(blocker)? {
                    self.owners.remove(blocker.as_str())?;
                }
                Ok(is_changed)
            }
            Operation::Seen { blocker, at } => {
                if !self.has_list(blocker)? {
                    return Ok(false);
                }
                let before = self.owners.insert(blocker.as_str(), at.0)?;
                Ok(before.map(|before| before.value()) != Some(at.0))
            }
            Operation::ForgetBlocks { blocker } => {
                let mut is_changed = self.owners.remove(blocker.as_str())?.is_some();
                let list = all_of(blocker.as_str());
                for row in self.blocks.extract_from_if(list, |_, ()| true)? {
                    row?;
                    is_changed = true;
                }
                Ok(is_changed)
            }
            Operation::Append(_)
            | Operation::Read(_)
            | Operation::Remove { .. }
            | Operation::Expire { .. } => Ok(false),
        }
    }

    fn has_list(&self, owner: &Address) -> Result<bool, redb::Error> {
        let mut list = self.blocks.range(all_of(owner.as_str()))?;
        Ok(list.next().transpose()?.is_some())
    }
}

/// All blocks, and when their owners were seen, as far as that is known.
#[expect(clippy::type_complexity, reason = "these are two fields of `Restored`")]
pub(crate) fn restored(
    transaction: &ReadTransaction,
) -> Result<(Vec<(Address, Address)>, Vec<(Address, UnixMillis)>), redb::Error> {
    let mut blocks: Vec<(Address, Address)> = Vec::new();
    for row in transaction.open_table(BLOCKS)?.iter()? {
        let (key, _) = row?;
        let (blocker, blocked) = key.value();
        // Those of one owner share its address.
        let same = blocks.last().filter(|last| last.0.as_str() == blocker);
        let blocker = same.map(|last| last.0.clone());
        let blocker = blocker.map_or_else(|| schema::address(key.value().0), Ok)?;
        blocks.push((blocker, schema::address(blocked)?));
    }
    let mut owners = Vec::new();
    let table = match transaction.open_table(OWNERS) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok((blocks, owners)),
        Err(error) => return Err(error.into()),
    };
    for row in table.iter()? {
        let (owner, seen) = row?;
        owners.push((schema::address(owner.value())?, UnixMillis(seen.value())));
    }
    Ok((blocks, owners))
}

/// The keys of what `owner` blocks.
fn all_of(owner: &str) -> RangeInclusive<(&str, &str)> {
    (owner, "")..=(owner, BEHIND_ALL)
}
