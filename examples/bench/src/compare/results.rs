//! What was measured, of all relays and in all rounds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::contender::{Contender, Kind};
use super::load::Shape;
use crate::load::Account;
use crate::load::idle::IdleReport;
use crate::load::throughput::ThroughputReport;

/// Everything, ready to be written.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The day.
    pub date: String,
    /// The machine.
    pub machine: String,
    /// What was run.
    pub command: String,
    /// How many rounds there were.
    pub rounds: u8,
    /// How long each measurement was.
    pub seconds: f64,
    /// How many connections were idle.
    pub connections: usize,
    /// The relays, the floor first.
    pub relays: Vec<Measured>,
    /// Those that are not here.
    pub skipped: Vec<Skipped>,
}

impl Comparison {
    /// How much was measured, in words.
    #[must_use]
    pub fn extent(&self) -> String {
        let seconds = self.seconds;
        match self.rounds {
            1 => format!("one round of {seconds} s"),
            rounds => format!("medians of {rounds} rounds of {seconds} s"),
        }
    }

    /// Whether every relay has relayed everything as it should.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.relays.iter().all(Measured::is_clean)
    }

    /// The yardstick.
    #[must_use]
    pub fn floor(&self) -> Option<&Measured> {
        self.relays.iter().find(|relay| relay.kind == Kind::Floor)
    }
}

/// A relay that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// Which.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Skipped {
    pub(super) fn new(name: &str, why: String) -> Self {
        let name = name.to_owned();
        Self { name, why }
    }
}

/// What was measured of one relay.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// What it is to us.
    pub kind: Kind,
    /// Reports of each load, in the order of the rounds.
    pub throughput: BTreeMap<&'static str, Vec<ThroughputReport>>,
    /// The same of the idle connections.
    pub idle: Vec<IdleReport>,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Measured {
    pub(super) fn new(contender: &Contender) -> Self {
        Self::named(&contender.name, contender.kind)
    }

    /// A relay of which nothing is known yet.
    #[must_use]
    pub fn named(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            throughput: BTreeMap::new(),
            idle: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn add_throughput(&mut self, shape: Shape, report: ThroughputReport) {
        self.throughput.entry(shape.name).or_default().push(report);
    }

    /// The median of a figure under a load, over those rounds in which it is known.
    pub(crate) fn throughput(
        &self,
        shape: Shape,
        figure: impl Fn(&ThroughputReport) -> Option<f64>,
    ) -> Option<f64> {
        let rounds = self.throughput.get(shape.name)?;
        median(rounds.iter().filter_map(figure).collect())
    }

    /// The same for a figure of the idle connections.
    pub(crate) fn idle(&self, figure: impl Fn(&IdleReport) -> Option<f64>) -> Option<f64> {
        median(self.idle.iter().filter_map(figure).collect())
    }

    /// Whether every envelope arrived as it should, and nobody was dropped.
    pub(crate) fn is_clean(&self) -> bool {
        self.accounts().all(Account::is_clean)
            && self.lost_idle() + self.dropped_idle() == 0
            && self.failures.is_empty()
    }

    /// Of those who were idle, how many did not get their envelope.
    pub(crate) fn lost_idle(&self) -> usize {
        self.idle.iter().map(|report| report.envelopes_lost).sum()
    }

    /// How many of them were dropped.
    pub(crate) fn dropped_idle(&self) -> usize {
        let reports = self.idle.iter();
        reports.map(|report| report.disconnects.total()).sum()
    }

    /// The accounts of all loads and rounds.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        let reports = self.throughput.values().flatten();
        reports.map(|report| &report.account)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[middle - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
