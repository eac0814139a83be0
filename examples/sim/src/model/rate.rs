//! How much of its rate limit an address has left.
//!
//! A bucket is filled with time: an envelope costs the time in which one may be sent, and a full
//! bucket has enough for a burst. The bucket of an address that has left is kept until it would be
//! full even if it had been empty.

use core::time::Duration;

use pinch_proto::hub::{CloseCause, ConnId};
use pinch_proto::wire::{MessageType, Payload, RateLimited};
use pinch_proto::{Address, EnvelopeView, Time};

use super::Model;
use super::connection::Connection;
use crate::story::Rate;

/// What an address has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: Duration,
    /// When this was so.
    at: Time,
}

/// A bucket whose address has left.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    address: Address,
    bucket: Bucket,
    pub(super) until: Time,
}

impl Rate {
    fn cost(self) -> Duration {
        Duration::from_secs_f64(1.0 / f64::from(self.per_second))
    }

    fn full(self) -> Duration {
        self.cost() * self.burst
    }
}

impl Bucket {
    fn refilled(self, rate: Rate, now: Time) -> Self {
        let left = rate.full().min(self.left + now.since(self.at));
        Self { left, at: now }
    }
}

impl Model {
    /// Lets an address pay for a join, or says how long it has to wait. What it has left is kept as if it
    /// had left.
    pub(super) fn pays_for_join(&mut self, address: &Address) -> Result<(), Duration> {
        let (now, Some(rate)) = (self.now, self.settings.join_limit()) else {
            return Ok(());
        };
        let is_it = |parked: &Parked| parked.address == *address;
        let kept = self.joins.iter().position(is_it);
        let kept = kept.map(|position| self.joins.remove(position).bucket.refilled(rate, now));
        let left = kept.map_or(rate.full(), |bucket| bucket.left);
        let paid = left.checked_sub(rate.cost());
        if self.joins.len() == self.settings.max_parked_buckets {
            self.joins.remove(0);
        }
        let left_now = paid.unwrap_or(left);
        self.joins.push(Parked {
            address: address.clone(),
            bucket: Bucket {
                left: left_now,
                at: now,
            },
            until: now + rate.full(),
        });
        paid.map(drop).ok_or_else(|| rate.cost() - left)
    }

    /// Lets a peer pay for control frames and short fragments. One that cannot is closed.
    pub(super) fn pays_for_control(&mut self, conn: ConnId, count: u32) -> bool {
        let (now, rate) = (self.now, self.settings.control_limit());
        let (Some(rate), Some(connection)) = (rate, self.get_mut(conn)) else {
            return true;
        };
        let bucket = connection.control_bucket;
        let left = bucket.map_or(rate.full(), |bucket| bucket.refilled(rate, now).left);
        if count == 0 {
            return true;
        }
        let Some(left) = left.checked_sub(rate.cost() * count) else {
            self.happened.control_floods += 1;
            self.close(conn, CloseCause::ControlFlood);
            return false;
        };
        connection.control_bucket = Some(Bucket { left, at: now });
        true
    }

    /// Lets a sender pay for an envelope, or tells it how long it has to wait.
    pub(super) fn pays(&mut self, sender: ConnId, view: &EnvelopeView<'_>) -> bool {
        let (now, rate) = (self.now, self.settings.rate_limit);
        let (Some(rate), Some(connection)) = (rate, self.get_mut(sender)) else {
            return true;
        };
        let confirms = view.message_type() == Some(MessageType::DeliveryConfirm);
        if confirms && connection.credits > 0 {
            connection.credits -= 1;
            return true;
        }
        let address = connection.address.clone();
        let Some(connection) = self.bucket_holder(&address) else {
            return true;
        };
        let bucket = connection.bucket.map(|bucket| bucket.refilled(rate, now));
        let left = bucket.map_or(rate.full(), |bucket| bucket.left);
        let Some(left) = left.checked_sub(rate.cost()) else {
            let wait = rate.cost() - left;
            let wait = wait.as_nanos().div_ceil(1_000_000);
            let Rate { per_second, burst } = rate;
            self.happened.refused_rate += 1;
            let payload = Payload::RateLimited(RateLimited {
                retry_after_ms: i64::try_from(wait).expect("a short wait"),
                reason: format!("rate limit of {per_second} per second, {burst} at once"),
            });
            self.tell(sender, payload, view);
            return false;
        };
        connection.bucket = Some(Bucket { left, at: now });
        true
    }

    /// The connection that has the bucket of an address: all that are open share it.
    fn bucket_holder(&mut self, address: &Address) -> Option<&mut Connection> {
        let is_it =
            |connection: &&mut Connection| connection.is_open() && connection.address == *address;
        self.connections.iter_mut().find(is_it)
    }

    /// The bucket of a connection that has begun to end goes to another one of its address, or is
    /// parked.
    pub(super) fn pass_bucket_on(&mut self, address: &Address, bucket: Option<Bucket>) {
        match self.bucket_holder(address) {
            Some(heir) => heir.bucket = bucket.or(heir.bucket),
            None => self.park(address, bucket),
        }
    }

    /// Keeps the bucket of an address that leaves, unless it is full. There is room for so many; the
    /// one that was parked first gives way.
    pub(super) fn park(&mut self, address: &Address, bucket: Option<Bucket>) {
        let (now, Some(rate)) = (self.now, self.settings.rate_limit) else {
            return;
        };
        let bucket = bucket.map(|bucket| bucket.refilled(rate, now));
        let Some(bucket) = bucket.filter(|bucket| bucket.left < rate.full()) else {
            return;
        };
        if self.parked.len() == self.settings.max_parked_buckets {
            self.parked.remove(0);
        }
        self.parked.push(Parked {
            address: address.clone(),
            bucket,
            until: now + rate.full(),
        });
    }

    /// What an address has left that joins; `None` for a full bucket.
    pub(super) fn unpark(&mut self, address: &Address) -> Option<Bucket> {
        let is_it = |parked: &Parked| parked.address == *address;
        let position = self.parked.iter().position(is_it)?;
        Some(self.parked.remove(position).bucket)
    }

    /// Forgets a bucket that is full whatever was in it; false if there is none.
    pub(super) fn forget_bucket(&mut self) -> bool {
        let now = self.now;
        let is_due = |parked: &Parked| parked.until <= now;
        for all in [&mut self.parked, &mut self.joins] {
            if let Some(position) = all.iter().position(is_due) {
                all.remove(position);
                return true;
            }
        }
        false
    }
}
