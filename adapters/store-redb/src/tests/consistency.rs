//! Whether the tables agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use crate::medium::{self, Medium};
use crate::schema::{ACCOUNTS, ADDRESSES, AGENTS, BODIES, EXPIRIES, INDEX, TOTALS};

/// Counts everything again.
pub(super) fn check(medium: &dyn Medium) {
    let database = medium::open_view(medium).unwrap();
    check_tables(&database.begin_read().unwrap());
}

fn check_tables(transaction: &ReadTransaction) {
    let mut accounts: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut places = BTreeSet::new();
    let mut expiries = BTreeSet::new();
    let (mut count, mut bytes) = (0, 0);
    for row in transaction.open_table(INDEX).unwrap().iter().unwrap() {
        let (key, placed) = row.unwrap();
        let (recipient, seq) = key.value();
        let (place, sender, _, expires_at, cost) = placed.value();
        accounts.entry(recipient).or_default().0 += 1;
        accounts.entry(sender).or_default().1 += cost;
        assert!(places.insert(place), "two envelopes at place {place}");
        expiries.insert((expires_at, place, recipient, seq));
        (count, bytes) = (count + 1, bytes + cost);
    }

    let bodies = transaction.open_table(BODIES).unwrap();
    let bodies = bodies.iter().unwrap().map(|row| row.unwrap().0.value());
    assert_eq!(bodies.collect::<BTreeSet<_>>(), places);

    let kept = transaction.open_table(EXPIRIES).unwrap();
    let kept = kept.iter().unwrap().map(|row| {
        let (expiry, key) = row.unwrap();
        let ((expires_at, place), (recipient, seq)) = (expiry.value(), key.value());
        (expires_at, place, recipient, seq)
    });
    assert_eq!(kept.collect::<BTreeSet<_>>(), expiries);

    let kept = transaction.open_table(ACCOUNTS).unwrap();
    let kept = kept.iter().unwrap().map(|row| {
        let (agent, account) = row.unwrap();
        (agent.value(), account.value())
    });
    assert_eq!(kept.collect::<BTreeMap<_, _>>(), accounts);

    let addresses = transaction.open_table(ADDRESSES).unwrap();
    let addresses = addresses.iter().unwrap().map(|row| {
        let (agent, address) = row.unwrap();
        (address.value().to_owned(), agent.value())
    });
    let addresses: BTreeMap<_, _> = addresses.collect();
    let known: BTreeSet<_> = addresses.values().collect();
    assert_eq!(known, accounts.keys().collect());
    let agents = transaction.open_table(AGENTS).unwrap();
    let agents = agents.iter().unwrap().map(|row| {
        let (address, agent) = row.unwrap();
        (address.value().to_owned(), agent.value())
    });
    assert_eq!(agents.collect::<BTreeMap<_, _>>(), addresses);

    let totals = transaction.open_table(TOTALS).unwrap();
    let (kept_count, kept_bytes, next_place, next_agent, ..) =
        totals.get(()).unwrap().unwrap().value();
    assert_eq!((kept_count, kept_bytes), (count, bytes));
    assert!(places.iter().all(|place| *place < next_place));
    assert!(accounts.keys().all(|agent| *agent < next_agent));
}
