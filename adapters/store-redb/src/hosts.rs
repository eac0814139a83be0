//! Hosts in lower case: files of format 1 may tell addresses apart by the case of their host.
//!
//! Addresses are looked up as they are written in the file. So what stands under another spelling would
//! never be found again: it is moved to the normal one, when such a file becomes one of format 2.

use std::collections::BTreeMap;

use pinch_proto::Address;
use redb::{ReadableTable as _, WriteTransaction};

use crate::schema::{
    self, ACCOUNTS, ADDRESSES, AGENTS, BLOCKS, EXPIRIES, INDEX, IndexKey, corrupted,
};

/// Moves what stands under an address with capital letters in its host.
pub(crate) fn normalize(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let mut agents = Vec::new();
    for row in transaction.open_table(AGENTS)?.iter()? {
        let (text, agent) = row?;
        if let Some(address) = renamed(text.value())? {
            agents.push((text.value().to_owned(), address, agent.value()));
        }
    }
    rename_agents(transaction, agents)?;
    let mut table = transaction.open_table(BLOCKS)?;
    let mut blocks = Vec::new();
    for row in table.iter()? {
        let (key, _) = row?;
        let (blocker, blocked) = key.value();
        if renamed(blocker)?.is_some() || renamed(blocked)?.is_some() {
            blocks.push((blocker.to_owned(), blocked.to_owned()));
        }
    }
    for (blocker, blocked) in blocks {
        table.remove((&*blocker, &*blocked))?;
        let (blocker, blocked) = (schema::address(&blocker)?, schema::address(&blocked)?);
        table.insert((blocker.as_str(), blocked.as_str()), ())?;
    }
    Ok(())
}

/// The address that `text` is, if it is written otherwise.
fn renamed(text: &str) -> Result<Option<Address>, redb::Error> {
    let address = schema::address(text)?;
    Ok((address.as_str() != text).then_some(address))
}

fn rename_agents(
    transaction: &WriteTransaction,
    renamed: Vec<(String, Address, u64)>,
) -> Result<(), redb::Error> {
    let mut agents = transaction.open_table(AGENTS)?;
    let mut addresses = transaction.open_table(ADDRESSES)?;
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    // Agents that turn out to be another one.
    let mut merged = BTreeMap::new();
    for (text, address, agent) in renamed {
        agents.remove(&*text)?;
        let other = agents.get(address.as_str())?.map(|other| other.value());
        let Some(other) = other else {
            agents.insert(address.as_str(), agent)?;
            addresses.insert(agent, address.as_str())?;
            continue;
        };
        merged.insert(agent, other);
        addresses.remove(agent)?;
        let account = accounts.remove(agent)?.map(|account| account.value());
        let (for_it, of_it) = account.unwrap_or_default();
        let account = accounts.get(other)?.map(|account| account.value());
        let (for_other, of_other) = account.unwrap_or_default();
        accounts.insert(other, (for_other + for_it, of_other + of_it))?;
    }
    if merged.is_empty() {
        return Ok(());
    }
    let of = |agent: u64| merged.get(&agent).copied().unwrap_or(agent);
    let mut index = transaction.open_table(INDEX)?;
    let mut expiries = transaction.open_table(EXPIRIES)?;
    let mut moved: Vec<(IndexKey, _)> = Vec::new();
    for row in index.iter()? {
        let (key, placed) = row?;
        let ((recipient, _), (_, sender, ..)) = (key.value(), placed.value());
        if merged.contains_key(&recipient) || merged.contains_key(&sender) {
            moved.push((key.value(), placed.value()));
        }
    }
    for ((recipient, seq), (place, sender, accepted_at, expires_at, cost)) in moved {
        index.remove((recipient, seq))?;
        let key = (of(recipient), seq);
        index.insert(key, (place, of(sender), accepted_at, expires_at, cost))?;
        let expiry = expiries.insert((expires_at, place), key)?;
        expiry.ok_or_else(|| corrupted("an envelope in the index never expires"))?;
    }
    Ok(())
}
