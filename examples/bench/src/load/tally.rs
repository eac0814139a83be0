//! How often each thing happened.

use core::fmt;
use std::collections::BTreeMap;

use serde::Serialize;

/// Things by their names, and how often each happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Tally(BTreeMap<String, usize>);

impl Tally {
    pub(crate) fn add(&mut self, what: &impl fmt::Display) {
        *self.0.entry(what.to_string()).or_default() += 1;
    }

    /// Adds what is in another.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what.clone()).or_default() += times;
        }
    }

    /// How many things happened.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, (what, times)) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{times} × {what}")?;
        }
        Ok(())
    }
}
