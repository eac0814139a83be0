//! What the connections of a hub share: settings, clock, deadlines, the books of the queue, and what
//! there is to say.
//!
//! Its functions that concern a connection get it as `&mut Connection`: it was looked up once, by
//! whoever knows its name.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashSet;

use super::blocks::Blocks;
use super::connection::{Connection, Socket, Window};
use super::deadlines::{Deadlines, Timer};
use super::forwarding::Links;
use super::io::{Output, Wakeup, WakeupReason};
use super::outbox::{BufferPool, OutboxLimits};
use super::rate::{ParkedBuckets, RateLimit};
use super::seeded::Seeded;
use super::shards::Shard;
use super::shares::Shares;
use super::stats::HubStats;
use super::tickets::Tickets;
use super::{Config, Delivery};
use crate::attended::{AttendedClock, AttendedTime};
use crate::queue::Seq;
use crate::{Address, Frame, Time, UnixMillis};

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: Config,
    pub(super) seeded: Seeded,
    pub(super) outbox_limits: OutboxLimits,
    pub(super) window: Window,
    pub(super) clock: Clock,
    pub(super) deadlines: Deadlines,
    pub(super) parked: ParkedBuckets,
    /// How often addresses may join still.
    pub(super) joins: ParkedBuckets,
    pub(super) blocks: Blocks,
    /// Owners of block lists of which the store does not know yet when they were seen.
    pub(super) unknown_owners: Vec<Address>,
    pub(super) outputs: VecDeque<Output>,
    wakeup: CachedWakeup,
    pub(super) pool: BufferPool,
    pub(super) next_ping: u64,
    /// The place of the next envelope that is accepted.
    pub(super) next_seq: Seq,
    pub(super) tickets: Tickets,
    /// What of the limits of the queue is in use.
    pub(super) shares: Shares,
    /// The room that is set aside for what is being read from the store.
    pub(super) reading_bytes: u64,
    /// Bytes that drivers hold for messages which have begun.
    pub(super) begun_bytes: u64,
    /// Addresses that left while their queue was being read. It is not read again before the answer.
    pub(super) abandoned_reads: HashSet<Address, Seeded>,
    /// When the store is to forget what has expired, unless it is doing so.
    pub(super) next_expiry: Option<Time>,
    pub(super) links: Links,
    pub(super) shutdown: Shutdown,
    /// Number of connections of the other shards.
    pub(super) other_connections: usize,
    pub(super) stats: HubStats,
}

/// A wakeup, and what it was made of besides the deadlines of connections: it is asked for after every
/// call, and few change it.
#[derive(Debug, Default)]
struct CachedWakeup {
    at: Time,
    others: [Option<Time>; 4],
    next: Option<Wakeup>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    No,
    Draining,
    Done,
}

/// The clocks of a hub.
#[derive(Debug)]
pub(super) struct Clock {
    /// The latest time that was handed in.
    pub(super) now: Time,
    /// The time by which connections are ended, and the store is late.
    pub(super) attended: AttendedClock,
    /// What the wall clock shows, so to speak, at [`Time::ZERO`].
    unix_at_zero: i64,
    /// The same by the clock that the hub began with.
    first_unix_at_zero: i64,
}

impl Clock {
    /// What the wall clock shows at `now`.
    pub(super) fn set_wall(&mut self, unix: UnixMillis, now: Time) {
        self.unix_at_zero = unix.0.saturating_sub(millis(now));
    }

    /// The time by which a timer runs.
    pub(super) const fn now_of(&self, timer: Timer) -> Time {
        if timer.is_attended() {
            self.attended.now().time()
        } else {
            self.now
        }
    }

    pub(super) fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_at_zero.saturating_add(millis(self.now)))
    }

    /// The moment by which what is stored has expired: that of the clock which is behind.
    pub(super) fn expiry_unix(&self) -> UnixMillis {
        let unix_at_zero = self.unix_at_zero.min(self.first_unix_at_zero);
        UnixMillis(unix_at_zero.saturating_add(millis(self.now)))
    }
}

/// The milliseconds since the epoch of the monotonic clock.
fn millis(time: Time) -> i64 {
    i64::try_from(time.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

impl Core {
    pub(super) fn new(
        config: Config,
        place: Shard,
        seeded: Seeded,
        now: Time,
        unix: UnixMillis,
    ) -> Self {
        let seed = place.shards.seed();
        let config = config.of_shard(place.shards.count());
        let attended = AttendedClock::new(config.shortest_timeout());
        let answer_timeout = config.queue.unwrap_or_default().answer_timeout;
        let buckets = |limit: Option<RateLimit>| {
            let fill = limit.map_or(Duration::ZERO, RateLimit::fill);
            ParkedBuckets::new(fill, config.max_parked_buckets, seeded.clone())
        };
        let unix_at_zero = unix.0.saturating_sub(millis(now));
        Self {
            outbox_limits: OutboxLimits {
                data_bytes: config.outbox_bytes,
                data_count: config.outbox_count,
                control_bytes: config.refusal_bytes,
            },
            window: Window {
                delivery: config.delivery,
                bytes: config.unconfirmed_bytes,
                count: config.unconfirmed_count,
            },
            deadlines: Deadlines::new(&config, &place, &attended),
            parked: buckets(config.rate_limit),
            joins: buckets(config.join_limit),
            blocks: Blocks::new(config.max_blocks_per_agent, config.max_blocks, seed),
            unknown_owners: Vec::new(),
            outputs: VecDeque::new(),
            wakeup: CachedWakeup::default(),
            pool: BufferPool::default(),
            next_ping: 1,
            next_seq: Seq(0),
            tickets: Tickets::new(answer_timeout + attended.grace(), seeded.clone()),
            shares: Shares::new(
                seeded.clone(),
                place.shards.count().get().into(),
                config.max_parked_buckets,
            ),
            reading_bytes: 0,
            begun_bytes: 0,
            abandoned_reads: HashSet::with_hasher(seeded.clone()),
            next_expiry: config.queue.map(|queue| now + queue.expiry_interval),
            links: Links::new(place, config.link_bytes),
            shutdown: Shutdown::No,
            other_connections: 0,
            stats: HubStats::default(),
            clock: Clock {
                now,
                attended,
                unix_at_zero,
                first_unix_at_zero: unix_at_zero,
            },
            seeded,
            config,
        }
    }

    pub(super) fn advance(&mut self, now: Time) {
        let clock = &mut self.clock;
        if now < clock.now {
            self.stats.clock_regressions += 1;
        } else {
            clock.attended.advance(clock.now, now);
            clock.now = now;
        }
    }

    pub(super) const fn now(&self) -> Time {
        self.clock.now
    }

    /// The attended time.
    pub(super) const fn attended(&self) -> AttendedTime {
        self.clock.attended.now()
    }

    pub(super) fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// What has been done and is held, but for the numbers of connections.
    pub(super) fn stats(&self) -> HubStats {
        HubStats {
            parked_buckets: self.parked.len() as u64,
            join_buckets: self.joins.len() as u64,
            shares: self.shares.len() as u64,
            blocks: self.blocks.len() as u64,
            block_owners: self.blocks.owners() as u64,
            store_unanswered: self.tickets.len() as u64,
            held_bytes: self.counted_bytes() + self.links.bytes().min(self.links.limit()) as u64,
            unstored_bytes: self.unstored_bytes(),
            unanswered: self.links.unanswered() as u64,
            memory_bytes: (self.config.total_outbox_bytes + self.links.limit()) as u64,
            begun_bytes: self.begun_bytes,
            ..self.stats
        }
    }

    /// Starts a timer of a slot anew.
    pub(super) fn arm(&mut self, timer: Timer, slot: u32) {
        self.deadlines.arm(timer, slot, &self.clock);
    }

    /// Starts a timer of a slot, unless it runs.
    pub(super) fn arm_if_idle(&mut self, timer: Timer, slot: u32) {
        if !self.deadlines.is_armed(timer, slot) {
            self.arm(timer, slot);
        }
    }

    pub(super) fn pop_due(&mut self, timer: Timer) -> Option<u32> {
        self.deadlines.pop_due(timer, &self.clock)
    }

    /// Forgets a bucket that is full; false if there is none.
    pub(super) fn forget_full_bucket(&mut self) -> bool {
        let now = self.now();
        self.parked.forget_full(now) || self.joins.forget_full(now)
    }

    /// When the driver is to come back, and what for.
    pub(super) fn next_wakeup(&mut self) -> Option<Wakeup> {
        let now = self.now();
        if !self.outputs.is_empty() {
            return Some(Wakeup {
                at: now,
                reason: WakeupReason::Backlog,
            });
        }
        let others = [
            self.tickets.next_due().map(AttendedTime::time),
            self.next_expiry,
            self.parked.next_due(),
            self.joins.next_due(),
        ];
        if core::mem::take(&mut self.deadlines.have_changed)
            || (self.wakeup.at, self.wakeup.others) != (now, others)
        {
            let next = self.find_wakeup(others);
            self.wakeup = CachedWakeup {
                at: now,
                others,
                next,
            };
        }
        self.wakeup.next
    }

    fn find_wakeup(&self, [store, expiry, parked, joins]: [Option<Time>; 4]) -> Option<Wakeup> {
        let now = self.now();
        let attended = |due| self.clock.attended.wakeup(AttendedTime::at(due), now);
        let mut earliest: Option<Wakeup> = None;
        // Of several at the same time, the first names it.
        let mut consider = |at: Option<Time>, reason| {
            if let Some(at) = at
                && earliest.is_none_or(|earliest| at < earliest.at)
            {
                earliest = Some(Wakeup { at, reason });
            }
        };
        let plain = |timer| self.deadlines.next_due(timer);
        let next = |timer| plain(timer).map(attended);
        consider(plain(Timer::Ping), WakeupReason::Ping);
        consider(next(Timer::Pong), WakeupReason::Pong);
        consider(plain(Timer::Join), WakeupReason::Join);
        consider(plain(Timer::AckProbe), WakeupReason::AckProbe);
        consider(next(Timer::Stall), WakeupReason::Stall);
        consider(next(Timer::Ack), WakeupReason::Ack);
        consider(next(Timer::Message), WakeupReason::Message);
        consider(next(Timer::Reply), WakeupReason::Reply);
        consider(plain(Timer::Read), WakeupReason::Read);
        consider(store.map(attended), WakeupReason::Store);
        consider(plain(Timer::Resend), WakeupReason::Verdict);
        consider(expiry, WakeupReason::Expiry);
        consider(next(Timer::Close), WakeupReason::Close);
        consider(parked, WakeupReason::Bucket);
        consider(joins, WakeupReason::Bucket);
        let mut wakeup = earliest?;
        if wakeup.at <= now {
            // What one turn left undone is due now.
            let (at, reason) = (now, WakeupReason::Backlog);
            wakeup = Wakeup { at, reason };
        }
        Some(wakeup)
    }

    /// Wakes a connection's task if it sleeps while something waits for it.
    pub(super) fn wake(&mut self, connection: &mut Connection) {
        if connection.socket == Socket::Asleep && connection.has_frame(self.window) {
            connection.socket = Socket::Awake;
            let conn = connection.id;
            self.say(Output::Wake { conn });
        }
    }

    /// Queues a frame of the relay itself.
    pub(super) fn send_control(&mut self, connection: &mut Connection, frame: Frame) {
        connection.outbox.push_control(frame, &mut self.pool);
        self.wake(connection);
    }

    /// How many bytes may be in use while connections that hold something get more.
    pub(super) const fn shared_memory(&self) -> usize {
        self.memory_limit(1)
    }

    /// How many bytes may be in use before nothing more is held for a connection for which the hub
    /// holds `held` already: a quarter is for those for which it holds nothing.
    pub(super) const fn memory_limit(&self, held: usize) -> usize {
        let all = self.config.total_outbox_bytes;
        all - if held > 0 { all / 4 } else { 0 }
    }

    /// How many bytes more the hub may hold for a connection for which it holds `held` already.
    pub(super) fn memory_left(&self, held: usize) -> usize {
        let used = self.counted_bytes() + self.unstored_bytes();
        let used = usize::try_from(used).unwrap_or(usize::MAX);
        self.memory_limit(held).saturating_sub(used)
    }

    /// The bytes that count towards [`Config::total_outbox_bytes`].
    fn counted_bytes(&self) -> u64 {
        let stats = &self.stats;
        let kept = match self.config.delivery {
            Delivery::AtLeastOnce => stats.queued + stats.in_flight,
            Delivery::AtMostOnce => stats.queued,
        };
        let overhead = kept * super::ENVELOPE_OVERHEAD as u64;
        stats.queued_bytes + stats.in_flight_bytes + overhead + self.reading_bytes
    }

    /// The bytes beyond [`QueueConfig::unanswered_bytes`](super::QueueConfig::unanswered_bytes) that
    /// the store has not answered for: what connections that were closed have given back.
    pub(super) fn unstored_bytes(&self) -> u64 {
        let limit = self.config.queue.map_or(0, |queue| queue.unanswered_bytes);
        self.tickets.bytes().saturating_sub(limit) as u64
    }
}
