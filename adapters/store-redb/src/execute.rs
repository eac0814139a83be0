//! What the operations that change something do to the tables.
//!
//! Nothing here is durable: whoever begins a transaction commits it, and decides what a failure
//! means for the rest of a batch. Any error leaves the transaction half done, to be dropped.

use pinch_proto::queue::{
    Append, Entry, Failure, Limits, Operation, Outcome, Ranking, Read, Refusal, Seq, Usage,
};
use pinch_proto::{Address, UnixMillis};
use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::accounts::Accounts;
use crate::blocks::BlockLists;
use crate::bodies::Bodies;
use crate::rankings::Rankings;
use crate::read::{Tables, anything_expired};
use crate::schema::{
    EXPIRIES, ExpiryKey, INDEX, IndexKey, LAST_SEQ_KEY, META, Placed, all_of, corrupted,
};

/// Number of envelopes that one transaction removes. Until it is done, each may take as much room as
/// three pages and those above them.
const MAX_REMOVED: u64 = 500;

/// All tables, open for writing.
pub(crate) struct Writer<'t> {
    meta: Table<'t, &'static str, u64>,
    bodies: Bodies<'t>,
    index: Table<'t, IndexKey, Placed>,
    expiries: Table<'t, ExpiryKey, IndexKey>,
    blocks: BlockLists<'t>,
    accounts: Accounts<'t>,
    /// They are wrong once a transaction is dropped that has changed something.
    rankings: &'t mut Rankings,
    /// New envelopes may not make the queue larger than that, for there is no room in the file.
    most_bytes: Option<u64>,
    /// Whether there is room for envelopes that had their place before.
    pub(crate) takes_returned: bool,
    /// The highest number of those appended.
    last_seq: Option<u64>,
    removed: u64,
    is_changed: bool,
}

impl<'t> Writer<'t> {
    pub(crate) fn new(
        transaction: &'t WriteTransaction,
        rankings: &'t mut Rankings,
        most_bytes: Option<u64>,
    ) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            bodies: Bodies::new(transaction)?,
            index: transaction.open_table(INDEX)?,
            expiries: transaction.open_table(EXPIRIES)?,
            blocks: BlockLists::new(transaction)?,
            accounts: Accounts::new(transaction)?,
            rankings,
            most_bytes,
            takes_returned: true,
            last_seq: None,
            removed: 0,
            is_changed: false,
        })
    }

    /// Executes as many operations of `batch` as one transaction may, and the last of them perhaps in
    /// part: that one has no outcome yet, and goes on when it is executed again.
    pub(crate) fn execute_some(
        &mut self,
        batch: &[Operation],
    ) -> Result<Vec<Outcome>, redb::Error> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for operation in batch {
            let Some(outcome) = self.execute(operation)? else {
                break;
            };
            outcomes.push(outcome);
            if self.is_at_its_end() {
                break;
            }
        }
        Ok(outcomes)
    }

    /// The cost of all that waits.
    pub(crate) const fn bytes(&self) -> u64 {
        self.accounts.bytes()
    }

    fn execute(&mut self, operation: &Operation) -> Result<Option<Outcome>, redb::Error> {
        let done = match operation {
            Operation::Append(append) => return self.append(append),
            Operation::Read(wanted) => self.read(wanted)?,
            Operation::Remove { recipient, through } => {
                return self.remove_through(recipient, *through);
            }
            Operation::Expire { now } => {
                self.forget_expired(*now)?;
                if self.is_at_its_end() {
                    return Ok(None);
                }
                let count = core::mem::take(&mut self.accounts.expired);
                self.is_changed |= count > 0;
                Outcome::Expired { count }
            }
            Operation::Block { .. }
            | Operation::Unblock { .. }
            | Operation::Seen { .. }
            | Operation::ForgetBlocks { .. } => {
                self.is_changed |= self.blocks.execute(operation)?;
                Outcome::Done
            }
        };
        Ok(Some(done))
    }

    /// Whether the transaction may remove nothing more.
    const fn is_at_its_end(&self) -> bool {
        self.removed >= MAX_REMOVED
    }

    /// Ends the work on the tables. Gives the number of the commit that this will be; `None` if
    /// there is nothing to commit.
    pub(crate) fn finish(mut self) -> Result<Option<u64>, redb::Error> {
        if !self.is_changed {
            return Ok(None);
        }
        self.bodies.write()?;
        let before = self.meta.get(LAST_SEQ_KEY)?.map(|seq| seq.value());
        if let Some(last_seq) = self.last_seq
            && before < Some(last_seq)
        {
            self.meta.insert(LAST_SEQ_KEY, last_seq)?;
        }
        self.accounts.write().map(Some)
    }

    fn append(&mut self, append: &Append) -> Result<Option<Outcome>, redb::Error> {
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
        if append.limits.is_none() && !self.takes_returned {
            let detail = "the queue's file has no room left but for removing".into();
            let failure = Failure::DiskFull;
            return Ok(Some(Outcome::Failed { failure, detail }));
        }
        let mut displaced = None;
        if let Some(limits) = append.limits {
            if self.refusal(append, limits)?.is_some() {
                self.forget_expired(append.now)?;
                if self.is_at_its_end() {
                    return Ok(None);
                }
            }
            match self.admit(append, limits)? {
                Ok(gives_way) => displaced = gives_way,
                Err(refusal) => return Ok(Some(Outcome::Refused(refusal))),
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
        self.bodies.push(place, append.message.clone());
        self.last_seq = self.last_seq.max(Some(seq));
        let placed = (place, sender, accepted_at, expires_at, append.cost());
        self.index.insert((recipient, seq), placed)?;
        self.expiries
            .insert((expires_at, place), (recipient, seq))?;
        self.appended(append, displaced)
    }

    fn appended(
        &self,
        append: &Append,
        displaced: Option<Entry>,
    ) -> Result<Option<Outcome>, redb::Error> {
        let usage = self.accounts.usage(&append.recipient, &append.sender)?;
        Ok(Some(Outcome::Appended { usage, displaced }))
    }

    /// Which of its limits `append` would exceed, or that there is no room for it.
    fn refusal(&self, append: &Append, limits: Limits) -> Result<Option<Refusal>, redb::Error> {
        let usage = self.accounts.usage(&append.recipient, &append.sender)?;
        Ok(self.refusal_at(append, limits, usage))
    }

    fn refusal_at(&self, append: &Append, limits: Limits, usage: Usage) -> Option<Refusal> {
        limits.refusal(append, usage).or_else(|| {
            let bytes = usage.total_bytes.saturating_add(append.cost());
            let limit = limits.total_bytes;
            let is_full = self.most_bytes.is_some_and(|most| bytes > most);
            is_full.then_some(Refusal::StoreFull { limit })
        })
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
        Ok(match self.refusal_at(append, limits, usage.without(cost)) {
            Some(refusal) => Err(refusal),
            None => Ok(Some(key)),
        })
    }

    /// Forgets an envelope that gives way to another, and returns it.
    fn displace(&mut self, key: IndexKey) -> Result<Entry, redb::Error> {
        let (recipient, seq) = key;
        let placed = self.index.remove(key)?.map(|placed| placed.value());
        let placed = placed.ok_or_else(|| corrupted("what gives way is in no index"))?;
        let (place, sender, _, expires_at, cost) = placed;
        let message = self.bodies.write()?.read(place)?;
        self.bodies.remove(place)?;
        let expiry = self.expiries.remove((expires_at, place))?;
        expiry.ok_or_else(|| corrupted("an envelope in the index never expires"))?;
        self.accounts.release(recipient, sender, cost)?;
        self.rankings.remove(recipient, sender, seq);
        let seq = Seq(seq);
        Ok(Entry { seq, message })
    }

    fn read(&mut self, wanted: &Read) -> Result<Outcome, redb::Error> {
        let recipient = self.accounts.agent(&wanted.recipient)?;
        let usage = self.accounts.usage(&wanted.recipient, &wanted.recipient)?;
        let (bodies, index, expiries) = (self.bodies.write()?, &self.index, &self.expiries);
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
    ) -> Result<Option<Outcome>, redb::Error> {
        let Some(recipient) = self.accounts.agent(recipient)? else {
            return Ok(Some(Outcome::Done));
        };
        let arrived = (recipient, 0)..=(recipient, through);
        for row in self.index.extract_from_if(arrived, |_, _| true)? {
            let (key, placed) = row?;
            let (_, seq) = key.value();
            let (place, sender, _, expires_at, cost) = placed.value();
            self.bodies.remove(place)?;
            let expiry = self.expiries.remove((expires_at, place))?;
            expiry.ok_or_else(|| corrupted("an envelope in the index never expires"))?;
            self.accounts.release(recipient, sender, cost)?;
            self.rankings.remove(recipient, sender, seq);
            self.is_changed = true;
            self.removed += 1;
            if self.removed >= MAX_REMOVED {
                return Ok(None);
            }
        }
        Ok(Some(Outcome::Done))
    }

    /// Forgets what has expired, as much of it as one transaction may.
    fn forget_expired(&mut self, UnixMillis(now): UnixMillis) -> Result<(), redb::Error> {
        if !anything_expired(&self.expiries, now)? {
            return Ok(());
        }
        self.is_changed = true;
        let expired = ..=(now, u64::MAX);
        for row in self.expiries.extract_from_if(expired, |_, _| true)? {
            let (expiry, key) = row?;
            let ((_, place), (recipient, seq)) = (expiry.value(), key.value());
            let placed = self.index.remove(key.value())?;
            let placed = placed.ok_or_else(|| corrupted("what has expired is in no index"))?;
            let (_, sender, _, _, cost) = placed.value();
            self.bodies.remove(place)?;
            self.accounts.release(recipient, sender, cost)?;
            self.rankings.remove(recipient, sender, seq);
            self.accounts.expired += 1;
            self.removed += 1;
            if self.removed >= MAX_REMOVED {
                break;
            }
        }
        Ok(())
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
