//! Hashing for maps whose keys are chosen by peers: SipHash under a seed that peers don't know.
//!
//! Two hubs with the same seed behave alike, and nobody who does not know the seed can choose
//! addresses that collide.

use core::hash::{BuildHasher, Hasher as _};

use siphasher::sip::SipHasher13;

/// Builds hashers that share one seed.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(SipHasher13);

impl Seeded {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&seed))
    }
}

impl Seeded {
    /// The hash of an address.
    pub(super) fn hash(&self, address: &[u8]) -> AddressHash {
        let mut hasher = self.0;
        hasher.write(address);
        AddressHash(hasher.finish())
    }
}

/// The hash of an address. The lower half is for the routing table, the upper one for shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressHash(u64);

impl AddressHash {
    #[allow(clippy::cast_possible_truncation, reason = "it is the lower half")]
    pub(super) const fn lower(self) -> u32 {
        self.0 as u32
    }

    pub(super) const fn upper(self) -> u64 {
        self.0 >> 32
    }
}

impl BuildHasher for Seeded {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}
