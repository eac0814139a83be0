//! What the operations that change something do to the tables.
//!
//! Nothing here is durable: whoever begins a transaction commits it, and decides what a failure
//! means for the rest of a batch. Any error leaves the transaction half done, to be dropped.

use core::ops::Bound;

use bytes::Bytes;
use pinch_proto::queue::{Append, Entry, Limits, Operation, Outcome, Ranking, Read, Refusal, Seq};
use pinch_proto::{Address, UnixMillis};
use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::accounts::Accounts;
use crate::rankings::Rankings;
use crate::read::{Tables, anything_expired};
use crate::schema::{
    BLOCKS, BODIES, EXPIRIES, ExpiryKey, INDEX, IndexKey, Placed, all_of, corrupted,
};

/// All tables, open for writing.
pub(crate) struct Writer<'t> {
    bodies: Table<'t, u64, &'static [u8]>,
    /// Messages with their places, which are yet to be written behind the last of the bodies. redb
    /// fills its pages with what is written in one go, and leaves them half empty otherwise.
    arrived: Vec<(u64, Bytes)>,
    index: Table<'t, IndexKey, Placed>,
    expiries: Table<'t, ExpiryKey, IndexKey>,
    blocks: Table<'t, (&'static str, &'static str), ()>,
    accounts: Accounts<'t>,
    /// They are wrong once a transaction is dropped that has changed something.
    rankings: &'t mut Rankings,
    is_changed: bool,
}

impl<'t> Writer<'t> {
    pub(crate) fn new(
        transaction: &'t WriteTransaction,
        rankings: &'t mut Rankings,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            bodies: transaction.open_table(BODIES)?,
            arrived: Vec::new(),
            index: transaction.open_table(INDEX)?,
            expiries: transaction.open_table(EXPIRIES)?,
            blocks: transaction.open_table(BLOCKS)?,
            accounts: Accounts::new(transaction)?,
            rankings,
            is_changed: false,
        })
    }

    pub(crate) fn execute(&mut self, operation: &Operation) -> Result<Outcome, redb::Error> {
        match operation {
            Operation::Append(append) => self.append(append),
            Operation::Read(wanted) => self.read(wanted),
            Operation::Remove { recipient, through } => self.remove_through(recipient, *through),
            Operation::Expire { now } => {
                self.forget_expired(*now)?;
                let count = core::mem::take(&mut self.accounts.expired);
                self.is_changed |= count > 0;
                Ok(Outcome::Expired { count })
            }
            Operation::Block { blocker, blocked } => {
                let block = (blocker.as_str(), blocked.as_str());
                self.is_changed |= self.blocks.insert(block, ())?.is_none();
                Ok(Outcome::Done)
            }
            Operation::Unblock { blocker, blocked } => {
                let block = (blocker.as_str(), blocked.as_str());
                self.is_changed |= self.blocks.remove(block)?.is_some();
                Ok(Outcome::Done)
            }
        }
    }

    /// Ends the work on the tables. Gives the number of the commit that this will be; `None` if
    /// there is nothing to commit.
    pub(crate) fn finish(mut self) -> Result<Option<u64>, redb::Error> {
        if !self.is_changed {
            return Ok(None);
        }
        self.write_arrived()?;
        self.accounts.write().map(Some)
    }

    fn append(&mut self, append: &Append) -> Result<Outcome, redb::Error> {
        let Append {
            seq: Seq(seq),
            now: UnixMillis(accepted_at),
            expires_at: UnixMillis(expires_at),
            ..
        } = *append;
        if let Some(recipient) = self.accounts.agent(&append.recipient)?
            && self.index.get((recipient, seq))?.is_some()
        {
            return self.appended(append, None);
        }
        let mut displaced = None;
        if let Some(limits) = append.limits {
            if self.refusal(append, limits)?.is_some() {
                self.forget_expired(append.now)?;
            }
            match self.admit(append, limits)? {
                Ok(gives_way) => displaced = gives_way,
                Err(refusal) => return Ok(Outcome::Refused(refusal)),
            }
        }
        // What is discarded takes a commit, too, and so as long.
        self.is_changed = true;
        if append.discard {
            return self.appended(append, None);
        }
        let displaced = displaced.map(|key| self.displace(key)).transpose()?;
        let (recipient, sender, place) = self.accounts.charge(append)?;
        self.rankings.insert(recipient, sender, seq);
        self.arrived.push((place, append.message.clone()));
        let placed = (place, sender, accepted_at, expires_at, append.cost());
        self.index.insert((recipient, seq), placed)?;
        self.expiries
            .insert((expires_at, place), (recipient, seq))?;
        self.appended(append, displaced)
    }

    fn appended(&self, append: &Append, displaced: Option<Entry>) -> Result<Outcome, redb::Error> {
        let usage = self.accounts.usage(&append.recipient, &append.sender)?;
        Ok(Outcome::Appended { usage, displaced })
    }

    /// Which of its limits `append` would exceed.
    fn refusal(&self, append: &Append, limits: Limits) -> Result<Option<Refusal>, redb::Error> {
        let usage = self.accounts.usage(&append.recipient, &append.sender)?;
        Ok(limits.refusal(append, usage))
    }

    /// The envelope that gives way to `append`, if one has to; or why there is no room.
    fn admit(
        &mut self,
        append: &Append,
        limits: Limits,
    ) -> Result<Result<Option<IndexKey>, Refusal>, redb::Error> {
        let Some(refusal) = self.refusal(append, limits)? else {
            return Ok(Ok(None));
        };
        let recipient = self.accounts.agent(&append.recipient)?;
        // No agent has this number, which is that of one of whom nothing waits.
        let sender = self.accounts.agent(&append.sender)?.unwrap_or(u64::MAX);
        let (Some(recipient), Refusal::RecipientFull { .. }) = (recipient, refusal) else {
            return Ok(Err(refusal));
        };
        let index = &self.index;
        let ranking = self.rankings.of(recipient, || count(index, recipient))?;
        let Some((_, Seq(seq))) = ranking.gives_way_to(&sender, append.reached) else {
            return Ok(Err(refusal));
        };
        let key = (recipient, seq);
        let placed = self.index.get(key)?.map(|placed| placed.value());
        let (.., cost) = placed.ok_or_else(|| corrupted("what gives way is in no index"))?;
        let usage = self.accounts.usage(&append.recipient, &append.sender)?;
        Ok(match limits.refusal(append, usage.without(cost)) {
            Some(refusal) => Err(refusal),
            None => Ok(Some(key)),
        })
    }

    /// Forgets an envelope that gives way to another, and returns it.
    fn displace(&mut self, key: IndexKey) -> Result<Entry, redb::Error> {
        self.write_arrived()?;
        let (recipient, seq) = key;
        let placed = self.index.remove(key)?.map(|placed| placed.value());
        let placed = placed.ok_or_else(|| corrupted("what gives way is in no index"))?;
        let (place, sender, _, expires_at, cost) = placed;
        let body = self.bodies.remove(place)?;
        let body = body.ok_or_else(|| corrupted("an envelope in the index has no body"))?;
        let message = Bytes::copy_from_slice(body.value());
        let expiry = self.expiries.remove((expires_at, place))?;
        expiry.ok_or_else(|| corrupted("an envelope in the index never expires"))?;
        self.accounts.release(recipient, sender, cost)?;
        self.rankings.remove(recipient, sender, seq);
        let seq = Seq(seq);
        Ok(Entry { seq, message })
    }

    fn read(&mut self, wanted: &Read) -> Result<Outcome, redb::Error> {
        self.write_arrived()?;
        let recipient = self.accounts.agent(&wanted.recipient)?;
        let usage = self.accounts.usage(&wanted.recipient, &wanted.recipient)?;
        let (bodies, index, expiries) = (&self.bodies, &self.index, &self.expiries);
        let tables = Tables {
            bodies,
            index,
            expiries,
        };
        tables.read(wanted, recipient, usage)
    }

    fn remove_through(
        &mut self,
        recipient: &Address,
        Seq(through): Seq,
    ) -> Result<Outcome, redb::Error> {
        self.write_arrived()?;
        let Some(recipient) = self.accounts.agent(recipient)? else {
            return Ok(Outcome::Done);
        };
        let arrived = (recipient, 0)..=(recipient, through);
        for row in self.index.extract_from_if(arrived, |_, _| true)? {
            let (key, placed) = row?;
            let (_, seq) = key.value();
            let (place, sender, _, expires_at, cost) = placed.value();
            let body = self.bodies.remove(place)?;
            body.ok_or_else(|| corrupted("an envelope in the index has no body"))?;
            let expiry = self.expiries.remove((expires_at, place))?;
            expiry.ok_or_else(|| corrupted("an envelope in the index never expires"))?;
            self.accounts.release(recipient, sender, cost)?;
            self.rankings.remove(recipient, sender, seq);
            self.is_changed = true;
        }
        Ok(Outcome::Done)
    }

    fn forget_expired(&mut self, UnixMillis(now): UnixMillis) -> Result<(), redb::Error> {
        if !anything_expired(&self.expiries, now)? {
            return Ok(());
        }
        self.write_arrived()?;
        self.is_changed = true;
        let expired = ..=(now, u64::MAX);
        for row in self.expiries.extract_from_if(expired, |_, _| true)? {
            let (expiry, key) = row?;
            let ((_, place), (recipient, seq)) = (expiry.value(), key.value());
            let placed = self.index.remove(key.value())?;
            let placed = placed.ok_or_else(|| corrupted("what has expired is in no index"))?;
            let (_, sender, _, _, cost) = placed.value();
            let body = self.bodies.remove(place)?;
            body.ok_or_else(|| corrupted("what has expired has no body"))?;
            self.accounts.release(recipient, sender, cost)?;
            self.rankings.remove(recipient, sender, seq);
            self.accounts.expired += 1;
        }
        Ok(())
    }

    fn write_arrived(&mut self) -> Result<(), redb::Error> {
        if self.arrived.is_empty() {
            return Ok(());
        }
        let mut behind = self.bodies.upper_bound_mut(Bound::<u64>::Unbounded)?;
        for (place, message) in self.arrived.drain(..) {
            behind.insert_before(place, &*message)?;
        }
        Ok(behind.close()?)
    }
}

/// Reads who has how many envelopes in the queue of `recipient`.
fn count(index: &Table<'_, IndexKey, Placed>, recipient: u64) -> Result<Ranking<u64>, redb::Error> {
    let mut ranking = Ranking::default();
    for row in index.range(all_of(recipient))? {
        let (key, placed) = row?;
        let ((_, seq), (_, sender, ..)) = (key.value(), placed.value());
        ranking.insert(sender, Seq(seq));
    }
    Ok(ranking)
}
