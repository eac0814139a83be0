//! The bus between the shards of a story: what goes from one to another comes in its order, but
//! between pairs of shards there is none. A bad bus keeps no order at all, loses and repeats.

use std::collections::{BTreeMap, VecDeque};

use pinch_proto::hub::{Input, Parcel, ShardId};

use super::run::Run;
use super::step::Carry;
use super::turn::Broken;

/// What is on its way: from one shard to another.
#[derive(Debug, Default)]
pub(super) struct Bus(BTreeMap<(ShardId, ShardId), VecDeque<Parcel>>);

impl Bus {
    pub(super) fn push(&mut self, from: ShardId, to: ShardId, parcel: Parcel) {
        self.0.entry((from, to)).or_default().push_back(parcel);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The n-th pair between which something is, counted around.
    fn pair(&self, nth: u8) -> Option<(ShardId, ShardId)> {
        let nth = usize::from(nth).checked_rem(self.0.len())?;
        self.0.keys().nth(nth).copied()
    }

    /// Takes up to `count` parcels.
    fn take(&mut self, pair: (ShardId, ShardId), count: usize) -> Vec<Parcel> {
        let Some(parcels) = self.0.get_mut(&pair) else {
            return vec![];
        };
        let taken = parcels.drain(..count.min(parcels.len())).collect();
        if parcels.is_empty() {
            self.0.remove(&pair);
        }
        taken
    }
}

impl Run {
    pub(super) fn carry(&mut self, carry: Carry) -> Result<(), Box<Broken>> {
        let (nth, count) = match carry {
            Carry::Deliver(nth, count) => (nth, count.into()),
            Carry::Lose(nth) | Carry::Repeat(nth) | Carry::Delay(nth) => (nth, 1),
        };
        let Some(pair) = self.bus.pair(nth) else {
            return Ok(());
        };
        if !self.settings.bus_loses && !matches!(carry, Carry::Deliver(..)) {
            return Ok(());
        }
        let (from, to) = pair;
        let parcels = self.bus.take(pair, count);
        match carry {
            Carry::Deliver(..) => return self.arrive(from, to, parcels),
            Carry::Lose(_) => {}
            Carry::Repeat(_) => {
                let again = parcels.clone();
                self.arrive(from, to, again)?;
                for parcel in parcels {
                    self.bus.push(from, to, parcel);
                }
            }
            Carry::Delay(_) => {
                for parcel in parcels {
                    self.bus.push(from, to, parcel);
                }
            }
        }
        Ok(())
    }

    /// Parcels come all at once.
    fn arrive(
        &mut self,
        from: ShardId,
        to: ShardId,
        parcels: Vec<Parcel>,
    ) -> Result<(), Box<Broken>> {
        self.go_to(to);
        let shard = from;
        self.give(&Input::Forwarded { shard, parcels })
    }

    /// The bus delivers everything, and what that leads to.
    pub(super) fn settle_bus(&mut self) -> Result<(), Box<Broken>> {
        while let Some((from, to)) = self.bus.pair(0) {
            let parcels = self.bus.take((from, to), 3);
            self.arrive(from, to, parcels)?;
        }
        Ok(())
    }
}
