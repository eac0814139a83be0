//! Token buckets: how fast a connection may send, how often an address may join, and the memory of both
//! that outlives a reconnect.
//!
//! A bucket is a single moment: when it will be full again. Taking a token moves that moment one
//! token's time into the future (the generic cell rate algorithm); nothing has to be refilled. The
//! bucket of a connection that ended is parked under its address until it is full, so that leaving
//! and joining again does not refill it. Parked buckets are bounded in number.

use core::time::Duration;

use hashbrown::HashMap;

use super::deadlines::DeadlineList;
use super::seeded::Seeded;
use super::slab::{Key, Slab};
use crate::time::saturating_nanos;
use crate::{Address, Time};

/// How many envelopes a connection may send, or how often an address may join: `per_second` in the
/// long run, `burst` at once.
///
/// ```
/// use pinch_proto::hub::RateLimit;
///
/// let limit = RateLimit::new(2.0, 10)?;
/// assert_eq!(limit.to_string(), "2 per second, 10 at once");
/// # Ok::<(), pinch_proto::hub::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    per_second: f64,
    burst: u32,
    /// The time that one token takes to come back, in nanoseconds.
    token: u64,
}

impl RateLimit {
    /// One message per second, ten at once: the default of the protocol (section 4).
    pub const DEFAULT: Self = Self {
        per_second: 1.0,
        burst: 10,
        token: 1_000_000_000,
    };

    /// The default for the joins of one source address: see [`Limits`](crate::peers::Limits).
    pub(crate) const JOINS: Self = Self {
        per_second: 20.0,
        burst: 1024,
        token: 50_000_000,
    };

    /// Two joins per second, 60 at once: the default of [`Config::join_limit`](super::Config::join_limit).
    pub const DEFAULT_JOINS: Self = Self {
        per_second: 2.0,
        burst: 60,
        token: 500_000_000,
    };

    /// 100 control frames and short fragments per second, 1,000 at once: the default of
    /// [`Config::control_limit`](super::Config::control_limit).
    pub const DEFAULT_CONTROL: Self = Self {
        per_second: 100.0,
        burst: 1000,
        token: 10_000_000,
    };

    /// A limit of `per_second`, and `burst` at once.
    ///
    /// # Errors
    /// `per_second` must lie between 0.000001 and 1,000,000,000, and `burst` must not be 0.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, super::ConfigError> {
        if !(1e-6..=1e9).contains(&per_second) {
            return Err(super::ConfigError::RateOutOfRange { per_second });
        }
        if burst == 0 {
            return Err(super::ConfigError::Zero {
                setting: "rate limit burst",
            });
        }
        Ok(Self {
            per_second,
            burst,
            token: saturating_nanos(Duration::from_secs_f64(1.0 / per_second)),
        })
    }

    /// The time that an empty bucket takes to be full.
    pub(crate) fn fill(self) -> Duration {
        Duration::from_nanos(self.fill_nanos())
    }

    fn fill_nanos(self) -> u64 {
        self.token.saturating_mul(self.burst.into())
    }
}

impl core::fmt::Display for RateLimit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} per second, {} at once", self.per_second, self.burst)
    }
}

/// What one address has left of its [`RateLimit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenBucket {
    full_at: Time,
}

impl TokenBucket {
    pub(crate) const FULL: Self = Self {
        full_at: Time::ZERO,
    };

    /// Takes a token, or says how long until there is one.
    pub(crate) fn take(&mut self, limit: RateLimit, now: Time) -> Result<(), Duration> {
        self.take_many(limit, 1, now)
    }

    /// Takes `count` tokens, or none and says how long until there are as many.
    pub(super) fn take_many(
        &mut self,
        limit: RateLimit,
        count: u32,
        now: Time,
    ) -> Result<(), Duration> {
        let tokens = limit.token.saturating_mul(count.into());
        let full_at = self.full_at.max(now).after(tokens);
        let debt = full_at.as_nanos() - now.as_nanos();
        match debt.checked_sub(limit.fill_nanos()) {
            None | Some(0) => {
                self.full_at = full_at;
                Ok(())
            }
            Some(wait) => Err(Duration::from_nanos(wait)),
        }
    }

    pub(crate) fn is_full(self, now: Time) -> bool {
        self.full_at <= now
    }
}

/// `wait` in whole milliseconds, rounded up: after that time there is a token.
pub(super) fn retry_after_ms(wait: Duration) -> i64 {
    i64::try_from(saturating_nanos(wait).div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

#[derive(Debug)]
struct Parked {
    address: Address,
    bucket: TokenBucket,
}

/// Buckets of addresses that have not got all their tokens back: those of envelopes while their address
/// is not connected, and those of joins.
#[derive(Debug)]
pub(super) struct ParkedBuckets {
    keys: HashMap<Address, Key, Seeded>,
    parked: Slab<Parked>,
    /// When a bucket is full whatever was left in it, and can be forgotten.
    full: DeadlineList,
    limit: usize,
}

impl ParkedBuckets {
    pub(super) fn new(fill: Duration, limit: usize, seeded: Seeded) -> Self {
        Self {
            keys: HashMap::with_hasher(seeded),
            parked: Slab::new(),
            full: DeadlineList::new(fill),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    pub(super) const fn next_due(&self) -> Option<Time> {
        self.full.next_due()
    }

    /// Keeps `bucket` until it is full; at the limit, the one that was parked first gives way.
    pub(super) fn park(&mut self, address: Address, bucket: TokenBucket, now: Time) {
        self.take(&address);
        if bucket.is_full(now) {
            return;
        }
        if self.parked.len() >= self.limit
            && let Some(oldest) = self.full.oldest()
        {
            self.forget(oldest);
        }
        if self.parked.has_room() {
            let key = self.parked.insert(Parked {
                address: address.clone(),
                bucket,
            });
            self.keys.insert(address, key);
            self.full.arm(key.index, now);
        }
    }

    /// The bucket with which `address` starts: what it had left, or a full one.
    pub(super) fn take(&mut self, address: &Address) -> TokenBucket {
        if self.keys.is_empty() {
            return TokenBucket::FULL;
        }
        let Some(key) = self.keys.remove(address) else {
            return TokenBucket::FULL;
        };
        self.full.disarm(key.index);
        self.parked
            .remove(key)
            .map_or(TokenBucket::FULL, |parked| parked.bucket)
    }

    /// Forgets one bucket that is full at `now`; false if there is none.
    pub(super) fn forget_full(&mut self, now: Time) -> bool {
        let Some(index) = self.full.pop_due(now) else {
            return false;
        };
        self.forget(index);
        true
    }

    fn forget(&mut self, index: u32) {
        self.full.disarm(index);
        if let Some(parked) = self
            .parked
            .key_at(index)
            .and_then(|key| self.parked.remove(key))
        {
            self.keys.remove(&parked.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_then_the_sustained_rate_and_the_true_wait() {
        let limit = RateLimit::new(2.0, 3).unwrap();
        let mut bucket = TokenBucket::FULL;
        for _ in 0..3 {
            assert_eq!(bucket.take(limit, at(1000)), Ok(()));
        }
        assert_eq!(
            bucket.take(limit, at(1000)),
            Err(Duration::from_millis(500))
        );
        assert_eq!(bucket.take(limit, at(1499)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(limit, at(1500)), Ok(()));
        assert_eq!(
            bucket.take(limit, at(1500)),
            Err(Duration::from_millis(500))
        );
        assert!(!bucket.is_full(at(2999)));
        assert!(bucket.is_full(at(3000)));
    }

    #[test]
    fn a_refusal_costs_no_token() {
        let limit = RateLimit::new(1.0, 1).unwrap();
        let mut bucket = TokenBucket::FULL;
        assert_eq!(bucket.take(limit, at(0)), Ok(()));
        for millis in 1..1000 {
            assert!(bucket.take(limit, at(millis)).is_err());
        }
        assert_eq!(bucket.take(limit, at(1000)), Ok(()));
    }

    #[test]
    fn the_wait_is_rounded_up_so_that_waiting_it_suffices() {
        assert_eq!(retry_after_ms(Duration::from_nanos(1)), 1);
        assert_eq!(retry_after_ms(Duration::from_millis(7)), 7);
        assert_eq!(retry_after_ms(Duration::MAX), 18_446_744_073_710);
    }

    #[test]
    fn parked_buckets_are_bounded_and_forgotten_when_full() {
        let limit = RateLimit::new(1.0, 10).unwrap();
        let mut parked = ParkedBuckets::new(limit.fill(), 2, Seeded::new([7; 16]));
        let names =
            ["pinch:a@r", "pinch:b@r", "pinch:c@r"].map(|name| Address::parse(name).unwrap());
        let mut used = TokenBucket::FULL;
        used.take(limit, at(0)).unwrap();
        for name in &names {
            parked.park(name.clone(), used, at(0));
        }
        assert_eq!(parked.len(), 2);
        assert_eq!(parked.take(&names[0]), TokenBucket::FULL);
        assert_eq!(parked.take(&names[1]), used);
        assert_eq!(parked.len(), 1);
        assert_eq!(parked.next_due(), Some(at(10_000)));
        assert!(!parked.forget_full(at(9_999)));
        assert!(parked.forget_full(at(10_000)));
        assert!(!parked.forget_full(at(10_000)));
        assert_eq!((parked.len(), parked.next_due()), (0, None));
        assert_eq!(parked.keys.len(), 0);
    }

    #[test]
    fn a_full_bucket_is_not_parked() {
        let mut parked = ParkedBuckets::new(Duration::from_secs(10), 2, Seeded::new([7; 16]));
        parked.park(
            Address::parse("pinch:a@r").unwrap(),
            TokenBucket::FULL,
            at(0),
        );
        assert_eq!(parked.len(), 0);
    }
}
