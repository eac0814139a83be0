//! Reading: the same whether within a transaction that writes, or of what is committed.

use core::ops::Bound;

use pinch_proto::UnixMillis;
use pinch_proto::queue::{Entry, Outcome, Read, Seq, Usage};
use redb::{Range, ReadTransaction, ReadableTable};

use crate::accounts::{account, agent};
use crate::bodies::Messages;
use crate::schema::{
    ACCOUNTS, AGENTS, BODIES, EXPIRIES, ExpiryKey, INDEX, IndexKey, PIECES, Placed, TOTALS,
    corrupted,
};

/// Reads what is committed.
pub(crate) fn read(wanted: &Read, transaction: &ReadTransaction) -> Result<Outcome, redb::Error> {
    let recipient = agent(&transaction.open_table(AGENTS)?, &wanted.recipient)?;
    let (recipient_count, sender_bytes) = match recipient {
        Some(recipient) => account(&transaction.open_table(ACCOUNTS)?, recipient)?,
        None => (0, 0),
    };
    let totals = transaction.open_table(TOTALS)?.get(())?;
    let (_, total_bytes, ..) = totals
        .ok_or_else(|| corrupted("the totals are missing"))?
        .value();
    let usage = Usage {
        recipient_count,
        sender_bytes,
        total_bytes,
    };
    let tables = Tables {
        bodies: &Messages {
            pieces: transaction.open_table(PIECES)?,
            whole: transaction.open_table(BODIES)?,
        },
        index: &transaction.open_table(INDEX)?,
        expiries: &transaction.open_table(EXPIRIES)?,
    };
    tables.read(wanted, recipient, usage)
}

/// What is read.
pub(crate) struct Tables<'a, B, I, E> {
    pub(crate) bodies: &'a Messages<B>,
    pub(crate) index: &'a I,
    pub(crate) expiries: &'a E,
}

impl<B, I, E> Tables<'_, B, I, E>
where
    B: ReadableTable<u64, &'static [u8]>,
    I: ReadableTable<IndexKey, Placed>,
    E: ReadableTable<ExpiryKey, IndexKey>,
{
    /// Reads for `recipient`, if the queue has heard of it, where `usage` is what is stored.
    pub(crate) fn read(
        &self,
        wanted: &Read,
        recipient: Option<u64>,
        usage: Usage,
    ) -> Result<Outcome, redb::Error> {
        let Some(recipient) = recipient else {
            return Ok(Outcome::Entries {
                entries: Vec::new(),
                pending: 0,
                usage,
            });
        };
        let UnixMillis(now) = wanted.now;
        let (first, behind) = match wanted.after {
            None => (Bound::Included((recipient, 0)), None),
            Some(Seq(after)) => (Bound::Excluded((recipient, after)), Some(after)),
        };
        let last = Bound::Included((recipient, u64::MAX));
        let mut rows = self.index.range::<IndexKey>((first, last))?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut unread = 0;
        for row in rows.by_ref() {
            let (key, placed) = row?;
            let (place, _, _, expires_at, _) = placed.value();
            if expires_at <= now {
                continue;
            }
            let message = self.bodies.read(place)?;
            bytes += message.len();
            if !entries.is_empty() && (bytes > wanted.bytes || entries.len() >= wanted.count) {
                unread = 1;
                break;
            }
            let (_, seq) = key.value();
            entries.push(Entry {
                seq: Seq(seq),
                message,
            });
        }

        let pending = if anything_expired(self.expiries, now)? {
            entries.len() as u64 + unread + count_unexpired(rows, now)?
        } else {
            // All that is kept waits then, and only what is on its way already has to be counted.
            let on_its_way = match behind {
                None => 0,
                Some(after) => {
                    let on_its_way = (recipient, 0)..=(recipient, after);
                    count_unexpired(self.index.range::<IndexKey>(on_its_way)?, now)?
                }
            };
            let pending = usage.recipient_count.checked_sub(on_its_way);
            pending.ok_or_else(|| corrupted("an account has less than its envelopes"))?
        };
        Ok(Outcome::Entries {
            entries,
            pending,
            usage,
        })
    }
}

/// Whether anything has expired, for whomever.
pub(crate) fn anything_expired(
    expiries: &impl ReadableTable<ExpiryKey, IndexKey>,
    now: i64,
) -> Result<bool, redb::Error> {
    let first = expiries.first()?;
    Ok(first.is_some_and(|(expiry, _)| expiry.value().0 <= now))
}

fn count_unexpired(rows: Range<'_, IndexKey, Placed>, now: i64) -> Result<u64, redb::Error> {
    let mut count = 0;
    for row in rows {
        let (_, placed) = row?;
        let (_, _, _, expires_at, _) = placed.value();
        count += u64::from(expires_at > now);
    }
    Ok(count)
}
