//! What an operator may see of a queue: who waits for how much, and never what.

use std::path::Path;

use pinch_proto::{Address, UnixMillis};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _,
};

use crate::blocks;
use crate::error::OpenError;
use crate::medium::{self, Medium, OnDisk};
use crate::schema::{self, ADDRESSES, BLOCKS, INDEX, corrupted};

/// What a queue holds. What has expired is counted until it is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// For whom something waits, in the order of their addresses.
    pub recipients: Vec<Waiting>,
    /// How many envelopes wait in all.
    pub count: u64,
    /// How many bytes they are, as the limits count them:
    /// [`Append::cost`](pinch_proto::queue::Append::cost).
    pub bytes: u64,
    /// How many pairs of addresses there are of which one blocks the other.
    pub blocks: u64,
    /// Who blocks others, in the order of their addresses.
    pub block_lists: Vec<BlockList>,
}

/// The block list of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockList {
    /// The agent that blocks others.
    pub owner: Address,
    /// How many it blocks.
    pub count: u64,
    /// When it joined last, to the day; `None` if that is not known.
    pub seen: Option<UnixMillis>,
}

/// What waits for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// For whom.
    pub recipient: Address,
    /// How many envelopes.
    pub count: u64,
    /// How many bytes, as the limits count them.
    pub bytes: u64,
    /// When the first of them was accepted.
    pub oldest: UnixMillis,
    /// When the last of them was accepted.
    pub newest: UnixMillis,
}

pub(crate) fn inspect(path: &Path) -> Result<Inspection, OpenError> {
    if !medium::is_there(path)? {
        let path = path.to_owned();
        return Err(OpenError::Missing { path });
    }
    inspect_on(&OnDisk::new(path.to_owned()))
}

pub(crate) fn inspect_on(medium: &dyn Medium) -> Result<Inspection, OpenError> {
    let database = medium::open_view(medium)?;
    look(&database).map_err(|error| OpenError::from_redb(medium.path().to_owned(), error))
}

fn look(database: &Database) -> Result<Inspection, redb::Error> {
    let transaction = database.begin_read()?;
    let addresses = transaction.open_table(ADDRESSES)?;
    let mut recipients: Vec<Waiting> = Vec::new();
    let mut current = None;
    for row in transaction.open_table(INDEX)?.iter()? {
        let (key, placed) = row?;
        let (recipient, _) = key.value();
        let (_, _, accepted_at, _, cost) = placed.value();
        let accepted_at = UnixMillis(accepted_at);
        match recipients.last_mut() {
            Some(waiting) if current == Some(recipient) => {
                waiting.count += 1;
                waiting.bytes += cost;
                waiting.oldest = waiting.oldest.min(accepted_at);
                waiting.newest = waiting.newest.max(accepted_at);
            }
            Some(_) | None => {
                let address = addresses.get(recipient)?;
                let address = address.ok_or_else(|| corrupted("a recipient has no address"))?;
                current = Some(recipient);
                recipients.push(Waiting {
                    recipient: schema::address(address.value())?,
                    count: 1,
                    bytes: cost,
                    oldest: accepted_at,
                    newest: accepted_at,
                });
            }
        }
    }
    recipients.sort_by(|one, other| one.recipient.cmp(&other.recipient));
    Ok(Inspection {
        count: recipients.iter().map(|waiting| waiting.count).sum(),
        bytes: recipients.iter().map(|waiting| waiting.bytes).sum(),
        blocks: transaction.open_table(BLOCKS)?.len()?,
        block_lists: block_lists(&transaction)?,
        recipients,
    })
}

fn block_lists(transaction: &ReadTransaction) -> Result<Vec<BlockList>, redb::Error> {
    let (blocks, owners) = blocks::restored(transaction)?;
    let mut lists: Vec<BlockList> = Vec::new();
    for (owner, _) in blocks {
        if let Some(list) = lists.last_mut().filter(|list| list.owner == owner) {
            list.count += 1;
            continue;
        }
        let seen = owners.binary_search_by(|(known, _)| known.cmp(&owner));
        lists.push(BlockList {
            seen: seen.ok().and_then(|at| owners.get(at)).map(|it| it.1),
            owner,
            count: 1,
        });
    }
    Ok(lists)
}
