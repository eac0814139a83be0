//! What the limits are about: how much waits for whom, of whom, and in all.
//!
//! It is kept up to date with every envelope that comes and goes, so that nothing ever has to be
//! counted. Within a transaction the accounts are in memory, and each is written once.

use std::collections::BTreeMap;

use pinch_proto::Address;
use pinch_proto::queue::{Append, Usage};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::bodies::places;
use crate::schema::{ACCOUNTS, ADDRESSES, AGENTS, Account, TOTALS, TotalsRow, corrupted};

pub(crate) struct Accounts<'t> {
    agents: Table<'t, &'static str, u64>,
    addresses: Table<'t, u64, &'static str>,
    accounts: Table<'t, u64, Account>,
    totals: Table<'t, (), TotalsRow>,
    /// As they will be written.
    changed: BTreeMap<u64, Account>,
    count: u64,
    bytes: u64,
    next_place: u64,
    next_agent: u64,
    /// How many envelopes have expired since that was last told.
    pub(crate) expired: u64,
    commits: u64,
}

impl<'t> Accounts<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let totals = transaction.open_table(TOTALS)?;
        let row = totals.get(())?.map(|row| row.value());
        let row = row.ok_or_else(|| corrupted("the totals are missing"))?;
        let (count, bytes, next_place, next_agent, expired, commits) = row;
        Ok(Self {
            agents: transaction.open_table(AGENTS)?,
            addresses: transaction.open_table(ADDRESSES)?,
            accounts: transaction.open_table(ACCOUNTS)?,
            totals,
            changed: BTreeMap::new(),
            count,
            bytes,
            next_place,
            next_agent,
            expired,
            commits,
        })
    }

    /// The cost of all that waits.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of an agent for whom or of whom something waits.
    pub(crate) fn agent(&self, address: &Address) -> Result<Option<u64>, redb::Error> {
        agent(&self.agents, address)
    }

    /// What is stored for `recipient`, of `sender`, and in all.
    pub(crate) fn usage(
        &self,
        recipient: &Address,
        sender: &Address,
    ) -> Result<Usage, redb::Error> {
        let account = |address| match self.agent(address)? {
            Some(agent) => self.account(agent),
            None => Ok((0, 0)),
        };
        Ok(Usage {
            recipient_count: account(recipient)?.0,
            sender_bytes: account(sender)?.1,
            total_bytes: self.bytes,
        })
    }

    /// Counts an envelope in. Gives the numbers of its recipient and its sender, and its place.
    pub(crate) fn charge(&mut self, append: &Append) -> Result<(u64, u64, u64), redb::Error> {
        let cost = append.cost();
        let recipient = self.agent_or_new(&append.recipient)?;
        let (waiting, of_it) = self.account(recipient)?;
        self.changed.insert(recipient, (waiting + 1, of_it));
        let sender = self.agent_or_new(&append.sender)?;
        let (for_it, sent) = self.account(sender)?;
        self.changed.insert(sender, (for_it, sent + cost));
        self.count += 1;
        self.bytes += cost;
        let place = self.next_place;
        self.next_place += places(append.message.len());
        Ok((recipient, sender, place))
    }

    /// Counts an envelope out.
    pub(crate) fn release(
        &mut self,
        recipient: u64,
        sender: u64,
        cost: u64,
    ) -> Result<(), redb::Error> {
        let less = |amount: u64, by| {
            let left = amount.checked_sub(by);
            left.ok_or_else(|| corrupted("an account has less than its envelopes"))
        };
        let (waiting, of_it) = self.account(recipient)?;
        self.changed.insert(recipient, (less(waiting, 1)?, of_it));
        let (for_it, sent) = self.account(sender)?;
        self.changed.insert(sender, (for_it, less(sent, cost)?));
        self.count = less(self.count, 1)?;
        self.bytes = less(self.bytes, cost)?;
        Ok(())
    }

    /// Writes what has changed. Gives the number of the commit that this will be.
    pub(crate) fn write(mut self) -> Result<u64, redb::Error> {
        for (agent, account) in self.changed {
            if account != (0, 0) {
                self.accounts.insert(agent, account)?;
                continue;
            }
            self.accounts.remove(agent)?;
            let address = self.addresses.remove(agent)?;
            let address = address.ok_or_else(|| corrupted("an agent has no address"))?;
            self.agents.remove(address.value())?;
        }
        let commits = self.commits + 1;
        let row = (
            self.count,
            self.bytes,
            self.next_place,
            self.next_agent,
            self.expired,
            commits,
        );
        self.totals.insert((), row)?;
        Ok(commits)
    }

    fn account(&self, agent: u64) -> Result<Account, redb::Error> {
        match self.changed.get(&agent) {
            Some(account) => Ok(*account),
            None => account(&self.accounts, agent),
        }
    }

    fn agent_or_new(&mut self, address: &Address) -> Result<u64, redb::Error> {
        if let Some(agent) = self.agent(address)? {
            return Ok(agent);
        }
        let agent = self.next_agent;
        self.next_agent += 1;
        self.agents.insert(address.as_str(), agent)?;
        self.addresses.insert(agent, address.as_str())?;
        Ok(agent)
    }
}

pub(crate) fn agent(
    agents: &impl ReadableTable<&'static str, u64>,
    address: &Address,
) -> Result<Option<u64>, redb::Error> {
    Ok(agents.get(address.as_str())?.map(|agent| agent.value()))
}

/// The account of `agent` as it is written; nothing without one.
pub(crate) fn account(
    accounts: &impl ReadableTable<u64, Account>,
    agent: u64,
) -> Result<Account, redb::Error> {
    let account = accounts.get(agent)?;
    Ok(account.map_or((0, 0), |account| account.value()))
}
