//! Which envelopes of a flow have arrived: what is missing, what came twice, and what came late.

use std::collections::BTreeSet;

/// The arrivals of one flow, whose envelopes are numbered from 0 on.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// One more than the highest number that has come.
    frontier: u64,
    /// The numbers below the frontier that have not come.
    missing: BTreeSet<u64>,
    duplicated: u64,
    reordered: u64,
}

impl Arrivals {
    /// Takes note of `number`; returns whether it came for the first time.
    pub(crate) fn record(&mut self, number: u64) -> bool {
        if number >= self.frontier {
            self.missing.extend(self.frontier..number);
            self.frontier = number + 1;
            return true;
        }
        let late = self.missing.remove(&number);
        if late {
            self.reordered += 1;
        } else {
            self.duplicated += 1;
        }
        late
    }

    /// One more than the highest number that has come.
    pub(crate) const fn frontier(&self) -> u64 {
        self.frontier
    }

    /// How many have come, each counted once.
    pub(crate) fn arrived(&self) -> u64 {
        self.frontier - self.missing.len() as u64
    }

    /// How many came although they had come before.
    pub(crate) const fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// How many came behind a higher number.
    pub(crate) const fn reordered(&self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_what_is_late_and_what_comes_twice() {
        let mut arrivals = Arrivals::default();
        let first: Vec<bool> = [0, 1, 5, 3, 3, 5, 6, 2].map(|n| arrivals.record(n)).into();
        assert_eq!(first, [true, true, true, true, false, false, true, true]);
        assert_eq!(arrivals.frontier(), 7);
        assert_eq!(arrivals.arrived(), 6); // 4 is missing
        assert_eq!((arrivals.duplicated(), arrivals.reordered()), (2, 2));
    }

    #[test]
    fn in_order_nothing_is_kept() {
        let mut arrivals = Arrivals::default();
        assert!((0..1000).all(|number| arrivals.record(number)));
        assert_eq!(arrivals.arrived(), 1000);
        assert!(arrivals.missing.is_empty());
        assert_eq!((arrivals.duplicated(), arrivals.reordered()), (0, 0));
    }
}
