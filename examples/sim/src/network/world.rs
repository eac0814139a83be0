//! The world: everything that there is, and time, which passes from event to event.

use core::fmt;
use core::num::NonZeroU16;
use core::ops::Range;
use core::time::Duration;
use std::collections::VecDeque;

use fastrand::Rng;
use pinch_proto::hub::{Config, ShardId, Shards};
use pinch_proto::{Address, Host, Time, UnixMillis, client, hub};
use slotmap::SlotMap;

use super::agent::Agent;
use super::habits::{Habit, Habits};
use super::ledger::Ledger;
use super::link::{Direction, Link, LinkId, Packet};
use super::relay::{HubId, Relay};
use super::schedule::Schedule;

/// What the wall clocks show when a world begins.
pub(super) const BEGIN: UnixMillis = UnixMillis(1_700_000_000_000);

/// What the network is like.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Conditions {
    /// How long a packet takes from an agent to its relay, or back: each link has its own latency in
    /// this range, in milliseconds.
    pub latency_ms: (u64, u64),
    /// How much longer than that it takes at most, in milliseconds.
    pub jitter_ms: u64,
    /// How many bytes a link holds in each direction until its reader reads: both socket buffers.
    pub link_bytes: usize,
    /// How long a store takes for an answer, in milliseconds.
    pub store_ms: (u64, u64),
    /// How many shards each relay has.
    pub shards: NonZeroU16,
    /// How long the bus between shards takes, in milliseconds.
    pub bus_ms: (u64, u64),
    /// How many percent of what it carries the bus loses, and how many it repeats.
    pub bus_loses: u8,
}

impl Default for Conditions {
    /// The internet: 5 to 150 ms, 20 ms more at times, and 128 KiB of socket buffers.
    fn default() -> Self {
        Self {
            latency_ms: (5, 150),
            jitter_ms: 20,
            link_bytes: 128 * 1024,
            store_ms: (1, 10),
            shards: NonZeroU16::MIN,
            bus_ms: (0, 2),
            bus_loses: 0,
        }
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events of any kind.
    pub events: u64,
    /// Joins of agents, in all.
    pub joins: u64,
    /// Links that ended without an agent or a relay wanting that.
    pub breaks: u64,
    /// Envelopes that agents have written.
    pub written: u64,
    /// Envelopes that relays could neither deliver nor keep when their senders had left already.
    /// Those that run will add theirs when they end.
    pub returned: u64,
}

/// Something that is planned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A relay wants to be called.
    RelayWakes(HubId),
    /// Parcels of a hub arrive at another one of its relay.
    Parcels(HubId, ShardId, u32),
    /// An agent wants to be called.
    AgentWakes(u32),
    /// Something arrives at an end of a link.
    Arrives(LinkId, Direction),
    /// A try of an agent has reached its relay.
    Dials(u32, u32),
    /// A try of an agent has failed.
    IsRefused(u32, u32),
    /// A try of an agent has led to a link.
    Connects(u32, u32, LinkId),
    /// A store answers.
    Answers(u32, u32),
    /// A relay starts again.
    Starts(u32),
    /// An agent does what it is used to.
    Acts(u32, Habit),
}

/// Something to be done at this very moment.
#[derive(Debug)]
pub(super) enum Task {
    Relay(HubId, hub::Input),
    RelayTimeout(HubId),
    /// Lets a relay write, as far as there is room.
    RelayWrites(LinkId),
    Agent(u32, client::Input),
    AgentTimeout(u32),
    AgentWrites(u32),
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("age", &self.age())
            .field("relays", &self.relays.len())
            .field("agents", &self.agents.len())
            .field("links", &self.links.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Agents, relays, and what lies between them. See the [module](super).
pub struct World {
    seed: u64,
    pub(super) now: Time,
    pub(super) random: Rng,
    pub(super) conditions: Conditions,
    pub(super) client: client::Config,
    pub(super) schedule: Schedule<Event>,
    pub(super) tasks: VecDeque<Task>,
    pub(super) relays: Vec<Relay>,
    pub(super) agents: Vec<Agent>,
    pub(super) links: SlotMap<LinkId, Link>,
    pub(super) ledger: Ledger,
    pub(super) counts: Counts,
    pub(super) habits: Option<Habits>,
}

impl World {
    /// A world with one relay, which has a queue and no rate limit, and is otherwise set as relays
    /// are.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::under(seed, Conditions::default())
    }

    /// The same under other conditions.
    #[must_use]
    pub fn under(seed: u64, conditions: Conditions) -> Self {
        Self::with(seed, conditions, &[hub_config()])
    }

    /// A world with a relay for each of `relays`, whose settings have names for addresses. Agents
    /// belong to them in turn.
    ///
    /// # Panics
    /// The settings of a relay contradict each other.
    #[must_use]
    pub fn with(seed: u64, conditions: Conditions, relays: &[Config]) -> Self {
        let mut random = Rng::with_seed(seed);
        let relay = |config: &Config| {
            let config = config.clone().addressing(hub::Addressing::Names).build();
            let seed = random.u128(..).to_be_bytes();
            let resend_after = (conditions.bus_loses > 0).then_some(Duration::from_millis(50));
            Relay::new(
                config.expect("settings of a relay"),
                Shards::new(conditions.shards, seed),
                resend_after,
            )
        };
        let relays = relays.iter().map(relay).collect();
        // Nobody waits for long in a world whose relays come back.
        let client = client::Config::new().max_tries(None).build();
        Self {
            seed,
            now: Time::ZERO,
            random,
            conditions,
            client: client.expect("settings of a client"),
            schedule: Schedule::new(),
            tasks: VecDeque::new(),
            relays,
            agents: Vec::new(),
            links: SlotMap::with_key(),
            ledger: Ledger::default(),
            counts: Counts::default(),
            habits: None,
        }
    }

    /// Adds agents, none of which has started. They have the numbers that are returned.
    ///
    /// # Panics
    /// There are 2³² of them.
    pub fn add_agents(&mut self, count: u32) -> Range<u32> {
        let first = self.agent_count();
        for number in first..first + count {
            let name = format!("pinch:agent{number}@relay");
            let address = Address::parse(&name).expect("an address");
            self.agents.push(Agent::new(address));
        }
        self.ledger.add_agents(count);
        first..first + count
    }

    pub(super) fn agent_count(&self) -> u32 {
        u32::try_from(self.agents.len()).expect("fewer agents than that")
    }

    /// The relay of an agent.
    pub(super) fn relay_of(&self, agent: u32) -> u32 {
        agent % self.relay_count()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some((at, event)) = self.schedule.pop(until) {
            self.now = self.now.max(at);
            self.counts.events += 1;
            self.happen(event);
            self.work();
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::RelayWakes(relay) => self.relay_wakes(relay),
            Event::AgentWakes(agent) => self.agent_wakes(agent),
            Event::Arrives(link, direction) => self.arrive(link, direction),
            Event::Dials(agent, try_) => self.dialed(agent, try_),
            Event::IsRefused(agent, try_) => self.dial_refused(agent, try_),
            Event::Connects(agent, try_, link) => self.connected(agent, try_, link),
            Event::Answers(relay, life) => self.store_answers(relay, life),
            Event::Parcels(from, to, life) => self.parcels_arrive(from, to, life),
            Event::Starts(relay) => self.relay_starts(relay),
            Event::Acts(agent, habit) => self.act(agent, habit),
        }
    }

    /// Does what there is to do at this moment.
    pub(super) fn work(&mut self) {
        while let Some(task) = self.tasks.pop_front() {
            match task {
                Task::Relay(relay, input) => self.relay_input(relay, input),
                Task::RelayTimeout(relay) => self.relay_timeout(relay),
                Task::RelayWrites(link) => self.relay_writes(link),
                Task::Agent(agent, input) => self.agent_input(agent, input),
                Task::AgentTimeout(agent) => self.agent_timeout(agent),
                Task::AgentWrites(agent) => self.agent_writes(agent),
            }
        }
    }

    /// Puts a packet on its way.
    pub(super) fn send(&mut self, id: LinkId, direction: Direction, packet: Packet) {
        let jitter = self.random.u64(0..=self.conditions.jitter_ms) * 1_000_000;
        let now = self.now;
        if let Some(link) = self.links.get_mut(id) {
            let at = now + Duration::from_nanos(link.latency + jitter);
            link.pipe(direction).push(at, packet);
            self.plan_arrival(id, direction);
        }
    }

    /// Plans the next arrival, if there is one, and none is planned.
    pub(super) fn plan_arrival(&mut self, id: LinkId, direction: Direction) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let agent = &self.agents[link.agent as usize];
        let stands_still = agent.is_partitioned || (direction == Direction::Down && agent.is_deaf);
        let is_dead = link.is_dead;
        let pipe = link.pipe(direction);
        if !is_dead
            && !stands_still
            && !pipe.is_planned
            && let Some(at) = pipe.next_arrival()
        {
            pipe.is_planned = true;
            self.schedule.push(at, Event::Arrives(id, direction));
        }
    }

    fn arrive(&mut self, id: LinkId, direction: Direction) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        link.pipe(direction).is_planned = false;
        let agent = &self.agents[link.agent as usize];
        if link.is_dead || agent.is_partitioned || (direction == Direction::Down && agent.is_deaf) {
            return;
        }
        let now = self.now;
        while let Some(link) = self.links.get_mut(id)
            && let Some(packet) = link.pipe(direction).pop(now)
        {
            match direction {
                Direction::Up => self.relay_reads(id, packet),
                Direction::Down => self.agent_reads(id, packet),
            }
            self.work();
        }
        self.make_room(id, direction);
        self.plan_arrival(id, direction);
    }

    /// Lets whoever waits for room write on.
    fn make_room(&mut self, id: LinkId, direction: Direction) {
        let capacity = self.conditions.link_bytes;
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let agent = link.agent;
        let pipe = link.pipe(direction);
        if !pipe.is_blocked || pipe.room(capacity) == 0 {
            return;
        }
        pipe.is_blocked = false;
        self.tasks.push_back(match direction {
            Direction::Up => Task::AgentWrites(agent),
            Direction::Down => Task::RelayWrites(id),
        });
        self.work();
    }

    /// The envelopes of this world.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// How many relays there are. They are numbered from 0 on.
    ///
    /// # Panics
    /// There are 2³² of them.
    #[must_use]
    pub fn relay_count(&self) -> u32 {
        u32::try_from(self.relays.len()).expect("few relays")
    }

    /// How long this world has lasted.
    #[must_use]
    pub const fn age(&self) -> Duration {
        self.now.since(Time::ZERO)
    }

    /// The statistics of a relay that runs.
    #[must_use]
    pub fn stats(&self, relay: u32) -> Option<hub::HubStats> {
        let relay = &self.relays[relay as usize];
        relay.is_running().then(|| relay.stats())
    }

    /// How many envelopes the store of a relay keeps.
    #[must_use]
    pub fn stored(&self, relay: u32) -> usize {
        self.relays[relay as usize].store.len()
    }
}

/// A relay with a queue and without a rate limit.
pub(super) fn hub_config() -> Config {
    let host = Host::parse("relay").expect("a host");
    Config::new(host)
        .rate_limit(None)
        .join_limit(None)
        .queue(hub::QueueConfig::new())
}
