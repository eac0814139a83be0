//! When to try again: exponential backoff with full jitter, and the random numbers for it.
//!
//! What counts as a failure, and what is done about it, is decided elsewhere.

use core::time::Duration;

use crate::time::saturating_nanos;

/// How often the relay was dialled in a row, and how long to wait before the next time.
#[derive(Debug)]
pub(super) struct Backoff {
    base: u64,
    cap: u64,
    max_tries: Option<u32>,
    tries: u32,
    random: SplitMix64,
}

impl Backoff {
    pub(super) fn new(base: Duration, cap: Duration, max_tries: Option<u32>, seed: u64) -> Self {
        Self {
            base: saturating_nanos(base),
            cap: saturating_nanos(cap),
            max_tries,
            tries: 0,
            random: SplitMix64(seed),
        }
    }

    /// One more try begins.
    pub(super) fn count_try(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// A join has lasted: what failed before it is forgotten.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// How long to wait now that a link has failed; `None` if that was the last try.
    pub(super) fn next_delay(&mut self) -> Option<Duration> {
        if self.max_tries.is_some_and(|max| self.tries >= max) {
            return None;
        }
        let factor = 2_u64.saturating_pow(self.tries.saturating_sub(1));
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        Some(Duration::from_nanos(self.random.up_to(ceiling)))
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): a counter and a mixing function. Good enough to keep
/// clients apart, and good for nothing that must not be guessed.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `max`, both included; each (almost) as likely as any other.
    fn up_to(&mut self, max: u64) -> u64 {
        let scaled = u128::from(self.next()) * (u128::from(max) + 1);
        u64::try_from(scaled >> 64).unwrap_or(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_the_published_numbers() {
        let mut random = SplitMix64(1_234_567);
        let numbers = [(); 3].map(|()| random.next());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn up_to_reaches_both_ends_and_never_more() {
        let mut random = SplitMix64(1);
        let mut seen = [0; 3];
        for _ in 0..300 {
            seen[usize::try_from(random.up_to(2)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|&times| times > 60), "{seen:?}");
        assert_eq!(random.up_to(0), 0);
        random.up_to(u64::MAX);
    }
}
