//! Which hub of a relay an address belongs to.
//!
//! A relay is one hub or several: shards. Each address lives in one of them, with its connections,
//! its outbox, its queue and its block list; so nothing is shared, and all envelopes of one sender
//! to one recipient take one way.

use alloc::vec::Vec;
use core::num::NonZeroU16;
use core::time::Duration;

use super::config::ConfigError;
use super::seeded::{AddressHash, Seeded};
use crate::Address;
use crate::queue::Restored;

/// Names one shard of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShardId(pub(super) u16);

impl ShardId {
    /// Returns its number: 0 for the first.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How the addresses of a relay are spread over its shards.
///
/// ```
/// use core::num::NonZeroU16;
/// use pinch_proto::hub::Shards;
///
/// let shards = Shards::new(NonZeroU16::new(4).ok_or("0")?, [7; 16]);
/// let shard = shards.of("pinch:alice@relay.example.com");
/// assert!(shard.index() < 4);
/// assert_eq!(shards.of("pinch:alice@RELAY.example.com"), shard);
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shards {
    count: NonZeroU16,
    seed: [u8; 16],
    seeded: Seeded,
}

impl Shards {
    /// Maximum number of shards of a relay.
    pub const MAX: NonZeroU16 = NonZeroU16::MIN.saturating_add(63);

    /// Checks that a relay may have `count` shards.
    ///
    /// # Errors
    /// [`ConfigError::TooManyShards`]: there are more than [`MAX`](Self::MAX).
    pub const fn check(count: NonZeroU16) -> Result<(), ConfigError> {
        let (shards, limit) = (count.get(), Self::MAX.get());
        if shards > limit {
            return Err(ConfigError::TooManyShards { shards, limit });
        }
        Ok(())
    }

    /// Spreads addresses over `count` shards by their hash under `seed`, which should be
    /// unpredictable: then nobody can choose addresses that share a shard. More than
    /// [`MAX`](Self::MAX) count as that.
    #[must_use]
    pub fn new(count: NonZeroU16, seed: [u8; 16]) -> Self {
        Self {
            count: count.min(Self::MAX),
            seed,
            seeded: Seeded::new(seed),
        }
    }

    /// Returns the number of shards.
    #[must_use]
    pub const fn count(&self) -> NonZeroU16 {
        self.count
    }

    /// Returns the shards, in order.
    pub fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.count.get()).map(ShardId)
    }

    /// Returns the shard in which `address` lives, whatever the case of its host. A text that is no
    /// address has one as well.
    #[must_use]
    pub fn of(&self, address: &str) -> ShardId {
        if self.count.get() == 1 {
            return ShardId(0);
        }
        let address = Address::normalized(address);
        self.of_hash(self.seeded.hash(address.as_bytes()))
    }

    /// Returns the lower half of the hash of `address`, by which a shard finds who is connected.
    #[must_use]
    pub fn hash(&self, address: &str) -> u32 {
        let address = Address::normalized(address);
        self.seeded.hash(address.as_bytes()).lower()
    }

    /// The same, for the hash of an address.
    pub(super) fn of_hash(&self, hash: AddressHash) -> ShardId {
        let shard = (hash.upper() * u64::from(self.count.get())) >> 32;
        ShardId(u16::try_from(shard).unwrap_or_default())
    }

    /// Divides what a store held when it was opened: a part for each shard, in order.
    #[must_use]
    pub fn split(&self, restored: Restored) -> Vec<Restored> {
        let last_seq = restored.last_seq;
        let part = |_| Restored {
            last_seq,
            ..Restored::default()
        };
        let mut parts: Vec<_> = self.all().map(part).collect();
        for block in restored.blocks {
            if let Some(part) = parts.get_mut(self.of(block.0.as_str()).index()) {
                part.blocks.push(block);
            }
        }
        for owner in restored.owners {
            if let Some(part) = parts.get_mut(self.of(owner.0.as_str()).index()) {
                part.owners.push(owner);
            }
        }
        parts
    }

    pub(super) const fn seed(&self) -> [u8; 16] {
        self.seed
    }

    /// Takes out of `restored` what does not belong to `shard`.
    pub(super) fn retain(&self, shard: ShardId, restored: &mut Restored) {
        let is_own = |address: &Address| self.of(address.as_str()) == shard;
        restored.blocks.retain(|(owner, _)| is_own(owner));
        restored.owners.retain(|(owner, _)| is_own(owner));
    }
}

/// The place of one hub in its relay.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The shards of the relay. All its hubs have the same.
    pub shards: Shards,
    /// Which one this is.
    pub id: ShardId,
    /// A number above that of every earlier hub in this place that others may remember: where
    /// shards begin and end together, 0.
    pub instance: u64,
    /// How long an item waits for a verdict before it is sent again. `None` where the bus between
    /// the shards neither loses nor duplicates anything: then nothing is kept for that.
    pub resend_after: Option<Duration>,
}

impl Shard {
    /// A place in a relay whose shards begin and end together, and whose bus loses nothing.
    #[must_use]
    pub const fn new(shards: Shards, id: ShardId) -> Self {
        Self {
            shards,
            id,
            instance: 0,
            resend_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use super::*;

    fn shards(count: u16) -> Shards {
        Shards::new(NonZeroU16::new(count).unwrap(), [7; 16])
    }

    #[test]
    fn addresses_are_spread_evenly_and_a_single_shard_has_all() {
        for count in [1, 2, 3, 16] {
            let shards = shards(count);
            let mut sizes = vec![0_u32; count.into()];
            for number in 0..16_000 {
                sizes[shards.of(&format!("pinch:agent{number}@r")).index()] += 1;
            }
            let even = 16_000 / u32::from(count);
            assert!(
                sizes.iter().all(|size| size.abs_diff(even) < even / 5),
                "{sizes:?}"
            );
        }
    }

    #[test]
    fn what_was_restored_is_divided_and_nothing_is_lost() {
        let address = |number| Address::parse(&format!("pinch:agent{number}@r")).unwrap();
        let restored = Restored {
            last_seq: None,
            blocks: (0..100)
                .map(|number| (address(number), address(0)))
                .collect(),
            owners: (0..100)
                .map(|number| (address(number), crate::UnixMillis(0)))
                .collect(),
        };
        let shards = shards(3);
        let parts = shards.split(restored.clone());
        for (shard, part) in shards.all().zip(&parts) {
            let mut retained = restored.clone();
            shards.retain(shard, &mut retained);
            assert_eq!(*part, retained);
        }
        assert_eq!(
            parts.iter().map(|part| part.blocks.len()).sum::<usize>(),
            100
        );
        assert_eq!(
            parts.iter().map(|part| part.owners.len()).sum::<usize>(),
            100
        );
    }
}
