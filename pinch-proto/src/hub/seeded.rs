//! Hashing for maps whose keys are chosen by peers: SipHash under a seed that peers don't know.
//!
//! Two hubs with the same seed behave alike, and nobody who does not know the seed can choose
//! addresses that collide.

use core::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Builds hashers that share one seed.
#[derive(Clone, Debug)]
pub(crate) struct Seeded(SipHasher13);

impl Seeded {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&seed))
    }
}

impl BuildHasher for Seeded {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}
