//! Whether the tables agree with each other.

use core::error::Error;
use core::fmt::Debug;
use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable as _};

use crate::bodies::PIECE;
use crate::schema::{
    ACCOUNTS, ADDRESSES, AGENTS, BODIES, EXPIRIES, INDEX, LAST_SEQ_KEY, META, PIECES, TOTALS,
};

/// Counts everything again.
pub(crate) fn check(transaction: &ReadTransaction) -> Result<(), Box<dyn Error>> {
    let mut accounts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut places = BTreeSet::new();
    let mut last_seq = None;
    let mut expiries = BTreeSet::new();
    let (mut count, mut bytes) = (0, 0);
    for row in transaction.open_table(INDEX)?.iter()? {
        let (key, placed) = row?;
        let (recipient, seq) = key.value();
        let (place, sender, _, expires_at, cost) = placed.value();
        accounts.entry(recipient).or_default().0 += 1;
        accounts.entry(sender).or_default().1 += cost;
        ensure(places.insert(place), "two envelopes have one place")?;
        last_seq = last_seq.max(Some(seq));
        expiries.insert((expires_at, place, recipient, seq));
        (count, bytes) = (count + 1, bytes + cost);
    }

    let mut kept = BTreeSet::new();
    for row in transaction.open_table(BODIES)?.iter()? {
        kept.insert(row?.0.value());
    }
    let mut begun = None;
    for row in transaction.open_table(PIECES)?.iter()? {
        let (at, piece) = row?;
        let (first, next) = begun.take().unwrap_or((at.value(), at.value()));
        ensure(at.value() == next, "a message lacks a piece")?;
        if piece.value().len() == PIECE {
            begun = Some((first, next + 1));
        } else {
            kept.insert(first);
        }
    }
    ensure(begun.is_none(), "a message has no end")?;
    agree("bodies", &kept, &places)?;

    let mut kept = BTreeSet::new();
    for row in transaction.open_table(EXPIRIES)?.iter()? {
        let (expiry, key) = row?;
        let ((expires_at, place), (recipient, seq)) = (expiry.value(), key.value());
        kept.insert((expires_at, place, recipient, seq));
    }
    agree("expiries", &kept, &expiries)?;

    let mut kept = BTreeMap::new();
    for row in transaction.open_table(ACCOUNTS)?.iter()? {
        let (agent, account) = row?;
        kept.insert(agent.value(), account.value());
    }
    agree("accounts", &kept, &accounts)?;

    let mut addresses = BTreeMap::new();
    for row in transaction.open_table(ADDRESSES)?.iter()? {
        let (agent, address) = row?;
        addresses.insert(address.value().to_owned(), agent.value());
    }
    let known: BTreeSet<_> = addresses.values().copied().collect();
    agree("addresses", &known, &accounts.keys().copied().collect())?;
    let mut agents = BTreeMap::new();
    for row in transaction.open_table(AGENTS)?.iter()? {
        let (address, agent) = row?;
        agents.insert(address.value().to_owned(), agent.value());
    }
    agree("agents", &agents, &addresses)?;

    let kept = transaction.open_table(META)?.get(LAST_SEQ_KEY)?;
    let is_kept = kept.map(|seq| seq.value()) >= last_seq;
    ensure(is_kept, "a number is higher than the highest")?;

    let totals = transaction.open_table(TOTALS)?;
    let totals = totals.get(())?.ok_or("the totals are missing")?;
    let (kept_count, kept_bytes, next_place, next_agent, ..) = totals.value();
    agree("totals", &(kept_count, kept_bytes), &(count, bytes))?;
    let is_free = places.iter().all(|place| *place < next_place);
    ensure(is_free, "the next place is taken")?;
    let is_free = accounts.keys().all(|agent| *agent < next_agent);
    ensure(is_free, "the next number of an agent is taken")
}

fn ensure(is_so: bool, what_is_not: &str) -> Result<(), Box<dyn Error>> {
    is_so.then_some(()).ok_or_else(|| what_is_not.into())
}

fn agree<T: Debug + PartialEq>(table: &str, kept: &T, counted: &T) -> Result<(), Box<dyn Error>> {
    let what_is_not = || format!("{table}: {kept:?} is kept, {counted:?} was counted").into();
    (kept == counted).then_some(()).ok_or_else(what_is_not)
}
