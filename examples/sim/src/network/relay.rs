//! A relay: its hubs, its store, and what its driver does.

use core::mem;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use pinch_proto::hub::{
    Admission, Config, ConnId, Hub, HubStats, Input, JoinOptions, Output, Parcel, Shard, ShardId,
    Shards, Turn, Wakeup,
};
use pinch_proto::queue::{MemoryQueue, Outcome, Ticket};
use pinch_proto::{Frame, Time, UnixMillis};

use super::link::{Direction, Link, LinkId, Packet};
use super::world::{BEGIN, Event, Task, World};

/// One hub of a relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubId {
    relay: u32,
    shard: ShardId,
}

/// A hub that runs.
pub(super) struct Station {
    pub(super) hub: Hub,
    /// The links of its connections, by [`ConnId::index`].
    links: Vec<Option<LinkId>>,
    /// The first moment for which a wake-up is planned.
    planned: Time,
    has_shut_down: bool,
}

/// What is on its way from one shard to another.
#[derive(Default)]
struct Lane {
    parcels: VecDeque<Vec<Parcel>>,
    /// When the last of it arrives.
    last: Time,
}

/// A relay.
pub(super) struct Relay {
    config: Config,
    pub(super) shards: Shards,
    resend_after: Option<Duration>,
    /// None while it does not run.
    pub(super) stations: Vec<Station>,
    bus: BTreeMap<(ShardId, ShardId), Lane>,
    /// How many times it has started.
    pub(super) life: u32,
    pub(super) store: MemoryQueue,
    /// What the store will say, the next first.
    pub(super) answers: VecDeque<(ShardId, Ticket, Outcome)>,
    /// When the store says the last of it.
    last_answer: Time,
    /// How far its clock has jumped ahead of the world's.
    pub(super) ahead: Duration,
    /// How long it stays away once it has shut down.
    pub(super) downtime: Duration,
    /// What the hub has said in one turn; kept for its memory.
    outputs: Vec<Output>,
    /// The frames of one turn, likewise.
    frames: Vec<Frame>,
}

/// A moment that does not come.
const NEVER: Time = Time::from_nanos(u64::MAX);

impl Relay {
    pub(super) fn new(config: Config, shards: Shards, resend_after: Option<Duration>) -> Self {
        let mut relay = Self {
            config,
            shards,
            resend_after,
            stations: Vec::new(),
            bus: BTreeMap::new(),
            life: 0,
            store: MemoryQueue::new(),
            answers: VecDeque::new(),
            last_answer: Time::ZERO,
            ahead: Duration::ZERO,
            downtime: Duration::ZERO,
            outputs: Vec::new(),
            frames: Vec::new(),
        };
        relay.start(Time::ZERO);
        relay
    }

    fn start(&mut self, now: Time) {
        let now = now + self.ahead;
        let passed = i64::try_from(now.since(Time::ZERO).as_millis()).unwrap_or(i64::MAX);
        let unix = UnixMillis(BEGIN.0.saturating_add(passed));
        let parts = self.shards.split(self.store.restored());
        let station = |(id, part)| {
            let place = Shard {
                resend_after: self.resend_after,
                ..Shard::new(self.shards.clone(), id)
            };
            let hub = Hub::new_shard(self.config.clone(), place, now, unix);
            Station {
                hub: hub.with_restored(part),
                links: Vec::new(),
                planned: NEVER,
                has_shut_down: false,
            }
        };
        self.stations = self.shards.all().zip(parts).map(station).collect();
        self.life += 1;
    }

    pub(super) fn is_running(&self) -> bool {
        !self.stations.is_empty()
    }

    /// What all its hubs have done and hold.
    pub(super) fn stats(&self) -> HubStats {
        let mut sum = HubStats::default();
        for station in &self.stations {
            sum += station.hub.stats();
        }
        sum
    }

    fn station(&mut self, shard: ShardId) -> Option<&mut Station> {
        self.stations.get_mut(shard.index())
    }
}

impl Station {
    fn link(&self, conn: ConnId) -> LinkId {
        let link = self.links.get(conn.index()).copied().flatten();
        link.expect("a connection has a link")
    }
}

/// Adds all outputs of a turn to `outputs`, and returns its wakeup.
fn drain(mut turn: Turn<'_>, mut outputs: Vec<Output>) -> (Vec<Output>, Option<Wakeup>) {
    outputs.extend(core::iter::from_fn(|| turn.poll_output()));
    (outputs, turn.finish())
}

impl World {
    /// The hub to which an agent belongs.
    pub(super) fn hub_of(&self, agent: u32) -> HubId {
        let relay = self.relay_of(agent);
        let address = &self.agents[agent as usize].address;
        let shard = self.relays[relay as usize].shards.of(address.as_str());
        HubId { relay, shard }
    }

    /// The hubs of a relay.
    pub(super) fn hubs_of(&self, relay: u32) -> impl Iterator<Item = HubId> + use<> {
        let shards = self.relays[relay as usize].shards.all();
        shards.map(move |shard| HubId { relay, shard })
    }

    pub(super) fn relay_input(&mut self, hub: HubId, input: Input) {
        self.relay_turn(hub, None, Some(input));
    }

    pub(super) fn relay_timeout(&mut self, hub: HubId) {
        self.relay_turn(hub, None, None);
    }

    /// One turn of a hub. What it registers belongs to the link `joining`.
    fn relay_turn(&mut self, id: HubId, joining: Option<LinkId>, input: Option<Input>) {
        let relay = &mut self.relays[id.relay as usize];
        let now = self.now + relay.ahead;
        let outputs = mem::take(&mut relay.outputs);
        let Some(Station { hub, .. }) = relay.station(id.shard) else {
            return;
        };
        let turn = match input {
            Some(input) => hub.handle_input(input, now),
            None => hub.handle_timeout(now),
        };
        let (mut outputs, wakeup) = drain(turn, outputs);
        self.plan(id, wakeup);
        for output in outputs.drain(..) {
            self.relay_output(id, joining, output);
        }
        self.relays[id.relay as usize].outputs = outputs;
    }

    /// Plans a wake-up of a hub, if that is sooner than the one that is planned.
    fn plan(&mut self, id: HubId, wakeup: Option<Wakeup>) {
        let relay = &mut self.relays[id.relay as usize];
        let ahead = relay.ahead;
        if let Some(wakeup) = wakeup
            && let Some(station) = relay.station(id.shard)
        {
            let at = Time::ZERO + wakeup.at.since(Time::ZERO + ahead);
            let at = at.max(self.now);
            if at < station.planned {
                station.planned = at;
                self.schedule.push(at, Event::RelayWakes(id));
            }
        }
    }

    fn relay_output(&mut self, hub: HubId, joining: Option<LinkId>, output: Output) {
        let relay = &mut self.relays[hub.relay as usize];
        let Some(station) = relay.stations.get_mut(hub.shard.index()) else {
            return;
        };
        match output {
            Output::Registered { conn, .. } => {
                let id = joining.expect("somebody is joining");
                if station.links.len() <= conn.index() {
                    station.links.resize(conn.index() + 1, None);
                }
                station.links[conn.index()] = Some(id);
                self.links[id].conn = Some(conn);
                self.tasks.push_back(Task::RelayWrites(id));
            }
            Output::Refused { refusal, .. } => {
                let id = joining.expect("somebody is joining");
                self.send(id, Direction::Down, Packet::Close(refusal.close()));
                self.relay_lets_go(id);
            }
            Output::Wake { conn } => {
                let link = station.link(conn);
                self.tasks.push_back(Task::RelayWrites(link));
            }
            Output::Closed { conn, .. } => {
                let link = station.links[conn.index()].take();
                self.relay_lets_go(link.expect("a connection has a link"));
            }
            Output::Store(request) => {
                let outcome = relay.store.execute(request.operation);
                relay
                    .answers
                    .push_back((hub.shard, request.ticket, outcome));
                let (least, most) = self.conditions.store_ms;
                let takes = Duration::from_millis(self.random.u64(least..=most));
                let at = relay.last_answer.max(self.now + takes);
                relay.last_answer = at;
                let life = relay.life;
                self.schedule.push(at, Event::Answers(hub.relay, life));
            }
            Output::Forward { shard, parcels } => self.carry(hub, shard, parcels),
            Output::ShutDown => {
                station.has_shut_down = true;
                if relay.stations.iter().all(|station| station.has_shut_down) {
                    self.relay_ends(hub.relay);
                }
            }
        }
    }

    /// The relay closes its end of a link.
    fn relay_lets_go(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.is_held_by_relay = false;
            link.conn = None;
            self.send(id, Direction::Down, Packet::End);
            self.forget_if_free(id);
        }
    }

    /// Puts parcels on their way to another shard. A bad bus loses some, and repeats others.
    fn carry(&mut self, from: HubId, to: ShardId, parcels: Vec<Parcel>) {
        let percent = self.conditions.bus_loses;
        let mut carried = Vec::new();
        for parcel in parcels {
            let fate = if percent > 0 {
                self.random.u8(..100)
            } else {
                100
            };
            if fate >= percent {
                carried.push(parcel.clone());
            }
            if fate < 2 * percent && fate >= percent {
                carried.push(parcel);
            }
        }
        let (least, most) = self.conditions.bus_ms;
        let takes = Duration::from_millis(self.random.u64(least..=most));
        let relay = &mut self.relays[from.relay as usize];
        let lane = relay.bus.entry((from.shard, to)).or_default();
        lane.parcels.push_back(carried);
        lane.last = lane.last.max(self.now + takes);
        let event = Event::Parcels(from, to, relay.life);
        self.schedule.push(lane.last, event);
    }

    pub(super) fn parcels_arrive(&mut self, from: HubId, to: ShardId, life: u32) {
        let HubId {
            relay: index,
            shard,
        } = from;
        let relay = &mut self.relays[index as usize];
        if relay.life == life
            && let Some(lane) = relay.bus.get_mut(&(shard, to))
            && let Some(parcels) = lane.parcels.pop_front()
        {
            let (relay, input) = (index, Input::Forwarded { shard, parcels });
            let hub = HubId { relay, shard: to };
            self.tasks.push_back(Task::Relay(hub, input));
        }
    }

    pub(super) fn relay_wakes(&mut self, hub: HubId) {
        let station = self.relays[hub.relay as usize].station(hub.shard);
        let Some(Station { planned, .. }) = station else {
            return;
        };
        if *planned > self.now {
            // It was planned before an earlier one, and is planned anew by that.
            return;
        }
        *planned = NEVER;
        self.tasks.push_back(Task::RelayTimeout(hub));
    }

    pub(super) fn store_answers(&mut self, relay: u32, life: u32) {
        let running = &mut self.relays[relay as usize];
        if running.life == life
            && let Some((shard, ticket, outcome)) = running.answers.pop_front()
        {
            let answer = Input::Stored { ticket, outcome };
            let hub = HubId { relay, shard };
            self.tasks.push_back(Task::Relay(hub, answer));
        }
    }

    /// Lets a relay write to a link, if there is room.
    pub(super) fn relay_writes(&mut self, id: LinkId) {
        let capacity = self.conditions.link_bytes;
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let (Some(conn), agent) = (link.conn, link.agent) else {
            return;
        };
        let bytes = link.down.room(capacity);
        link.down.is_blocked = bytes == 0;
        let index = self.hub_of(agent);
        if bytes == 0 {
            let progressed = false;
            return self.relay_input(index, Input::Blocked { conn, progressed });
        }
        let relay = &mut self.relays[index.relay as usize];
        let now = self.now + relay.ahead;
        let (mut frames, outputs) = (mem::take(&mut relay.frames), mem::take(&mut relay.outputs));
        let Some(Station { hub, .. }) = relay.station(index.shard) else {
            return;
        };
        let turn = hub.poll_transmit(conn, bytes, now, |frame| frames.push(frame));
        let (mut outputs, wakeup) = drain(turn, outputs);
        self.plan(index, wakeup);
        let has_written = !frames.is_empty();
        for frame in frames.drain(..) {
            if let Frame::Message(message) = &frame {
                self.ledger.leave_relay(message);
            }
            let closes = matches!(frame, Frame::Close(_));
            self.send(id, Direction::Down, frame.into());
            if closes {
                self.relay_closes(id);
            }
        }
        for output in outputs.drain(..) {
            self.relay_output(index, None, output);
        }
        if has_written {
            self.tasks.push_back(Task::RelayWrites(id));
        }
        let relay = &mut self.relays[index.relay as usize];
        (relay.frames, relay.outputs) = (frames, outputs);
    }

    /// The relay has sent a close frame. If it answers the agent's, the agent's end of stream
    /// completes the close handshake.
    fn relay_closes(&mut self, id: LinkId) {
        let link = &mut self.links[id];
        link.is_closed_by_relay = true;
        if link.is_closed_by_agent {
            self.send(id, Direction::Down, Packet::End);
        }
    }

    /// What has arrived from an agent.
    pub(super) fn relay_reads(&mut self, id: LinkId, packet: Packet) {
        let link = &self.links[id];
        let relay = self.hub_of(link.agent);
        let Some(conn) = link.conn else {
            return;
        };
        let is_closed_by_relay = link.is_closed_by_relay;
        let mut tell = |input| self.tasks.push_back(Task::Relay(relay, input));
        match packet {
            Packet::Message(message) => {
                self.ledger.arrive_at_relay(&message);
                tell(Input::Received {
                    conn,
                    message: message.into(),
                });
            }
            Packet::Pong(payload) => tell(Input::Pong { conn, payload }),
            Packet::Ping(payload) => tell(Input::Ping { conn, payload }),
            Packet::Close(close) => {
                let close = Some(close);
                tell(Input::PeerClosed { conn, close });
                if is_closed_by_relay {
                    let clean = true;
                    tell(Input::Closed { conn, clean });
                } else {
                    self.links[id].is_closed_by_agent = true;
                }
            }
            Packet::End => {
                let clean = link.is_closed_by_agent && is_closed_by_relay;
                tell(Input::Closed { conn, clean });
            }
        }
    }

    /// Somebody asks to be connected. Says whether there is a relay that could.
    pub(super) fn relay_accepts(&mut self, agent: u32) -> Option<LinkId> {
        let index = self.hub_of(agent);
        if !self.relays[index.relay as usize].is_running() {
            return None;
        }
        let (least, most) = self.conditions.latency_ms;
        let id = self.links.insert(Link {
            agent,
            conn: None,
            up: Default::default(),
            down: Default::default(),
            latency: self.random.u64(least * 1_000_000..=most * 1_000_000),
            is_held_by_agent: true,
            is_held_by_relay: true,
            is_dead: false,
            is_closed_by_agent: false,
            is_closed_by_relay: false,
        });
        let register = Input::Register {
            address: self.agents[agent as usize].address.clone(),
            admission: Admission::Named,
            options: JoinOptions {
                deduplicates: self.deduplicates(),
                ..JoinOptions::default()
            },
        };
        let relay = &mut self.relays[index.relay as usize];
        let all = relay.stats();
        if let Some(Station { hub, .. }) = relay.station(index.shard) {
            let own = hub.stats();
            let others = all.connections + all.closing - own.connections - own.closing;
            hub.set_other_connections(usize::try_from(others).expect("few connections"));
        }
        self.relay_turn(index, Some(id), Some(register));
        Some(id)
    }

    fn relay_ends(&mut self, index: u32) {
        let relay = &mut self.relays[index as usize];
        self.counts.returned += relay.stats().returned;
        relay.stations.clear();
        relay.bus.clear();
        relay.answers.clear();
        let at = self.now + relay.downtime;
        self.schedule.push(at, Event::Starts(index));
    }

    /// The process of a relay ends without having been asked: the system closes its sockets, and
    /// what the store has confirmed is all that is left.
    pub(super) fn relay_dies(&mut self, index: u32) {
        let stations = self.relays[index as usize].stations.iter();
        let links: Vec<_> = stations
            .flat_map(|station| &station.links)
            .copied()
            .collect();
        for id in links.into_iter().flatten() {
            self.relay_lets_go(id);
        }
        self.relay_ends(index);
    }

    pub(super) fn relay_starts(&mut self, index: u32) {
        let now = self.now;
        let relay = &mut self.relays[index as usize];
        relay.start(now);
        let hubs = self.hubs_of(index);
        self.tasks.extend(hubs.map(Task::RelayTimeout));
    }

    /// Forgets a link of which nobody holds an end any more.
    pub(super) fn forget_if_free(&mut self, id: LinkId) {
        let is_free = |link: &Link| !link.is_held_by_agent && !link.is_held_by_relay;
        if self.links.get(id).is_some_and(is_free) {
            self.links.remove(id);
        }
    }
}
