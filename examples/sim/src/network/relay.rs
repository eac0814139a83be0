//! A relay: its hub, its store, and what its driver does.

use core::mem;
use core::time::Duration;
use std::collections::VecDeque;

use pinch_proto::hub::{Admission, Config, ConnId, Hub, Input, JoinOptions, Output, Turn, Wakeup};
use pinch_proto::queue::{MemoryQueue, Outcome, Ticket};
use pinch_proto::{Frame, Time, UnixMillis};

use super::link::{Direction, Link, LinkId, Packet};
use super::world::{BEGIN, Event, Task, World};

/// A relay.
pub(super) struct Relay {
    config: Config,
    seed: [u8; 16],
    /// `None` while it does not run.
    pub(super) hub: Option<Hub>,
    /// How many times it has started.
    pub(super) life: u32,
    pub(super) store: MemoryQueue,
    /// What the store will say, the next first.
    pub(super) answers: VecDeque<(Ticket, Outcome)>,
    /// When the store says the last of it.
    last_answer: Time,
    /// The links of its connections, by [`ConnId::index`].
    links: Vec<Option<LinkId>>,
    /// The first moment for which a wake-up is planned.
    planned: Time,
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
    pub(super) fn new(config: Config, seed: [u8; 16]) -> Self {
        let mut relay = Self {
            config,
            seed,
            hub: None,
            life: 0,
            store: MemoryQueue::new(),
            answers: VecDeque::new(),
            last_answer: Time::ZERO,
            links: Vec::new(),
            planned: NEVER,
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
        let hub = Hub::new(self.config.clone(), self.seed, now, unix);
        self.hub = Some(hub.with_restored(self.store.restored()));
        self.life += 1;
    }

    fn link(&self, conn: ConnId) -> Option<LinkId> {
        self.links.get(conn.index()).copied().flatten()
    }
}

/// Adds all outputs of a turn to `outputs`, and returns its wakeup.
fn drain(mut turn: Turn<'_>, mut outputs: Vec<Output>) -> (Vec<Output>, Option<Wakeup>) {
    outputs.extend(core::iter::from_fn(|| turn.poll_output()));
    (outputs, turn.finish())
}

impl World {
    pub(super) fn relay_input(&mut self, relay: u32, input: Input) {
        self.relay_turn(relay, None, Some(input));
    }

    pub(super) fn relay_timeout(&mut self, relay: u32) {
        self.relay_turn(relay, None, None);
    }

    /// One turn of a hub. What it registers belongs to the link `joining`.
    fn relay_turn(&mut self, index: u32, joining: Option<LinkId>, input: Option<Input>) {
        let relay = &mut self.relays[index as usize];
        let now = self.now + relay.ahead;
        let Some(hub) = &mut relay.hub else {
            return;
        };
        let turn = match input {
            Some(input) => hub.handle_input(input, now),
            None => hub.handle_timeout(now),
        };
        let (mut outputs, wakeup) = drain(turn, mem::take(&mut relay.outputs));
        self.plan(index, wakeup);
        for output in outputs.drain(..) {
            self.relay_output(index, joining, output);
        }
        self.relays[index as usize].outputs = outputs;
    }

    /// Plans a wake-up of a relay, if that is sooner than the one that is planned.
    fn plan(&mut self, index: u32, wakeup: Option<Wakeup>) {
        let relay = &mut self.relays[index as usize];
        if let Some(wakeup) = wakeup {
            let at = Time::ZERO + wakeup.at.since(Time::ZERO + relay.ahead);
            let at = at.max(self.now);
            if at < relay.planned {
                relay.planned = at;
                self.schedule.push(at, Event::RelayWakes(index));
            }
        }
    }

    fn relay_output(&mut self, index: u32, joining: Option<LinkId>, output: Output) {
        let relay = &mut self.relays[index as usize];
        match output {
            Output::Registered { conn, .. } => {
                let id = joining.expect("somebody is joining");
                if relay.links.len() <= conn.index() {
                    relay.links.resize(conn.index() + 1, None);
                }
                relay.links[conn.index()] = Some(id);
                self.links[id].conn = Some(conn);
                self.tasks.push_back(Task::RelayWrites(id));
            }
            Output::Refused { refusal, .. } => {
                let id = joining.expect("somebody is joining");
                self.send(id, Direction::Down, Packet::Close(refusal.close()));
                self.relay_lets_go(id);
            }
            Output::Wake { conn } => {
                let link = relay.link(conn).expect("a connection has a link");
                self.tasks.push_back(Task::RelayWrites(link));
            }
            Output::Closed { conn, .. } => {
                let link = relay.links[conn.index()].take();
                self.relay_lets_go(link.expect("a connection has a link"));
            }
            Output::Store(request) => {
                let outcome = relay.store.execute(request.operation);
                relay.answers.push_back((request.ticket, outcome));
                let (least, most) = self.conditions.store_ms;
                let takes = Duration::from_millis(self.random.u64(least..=most));
                let at = relay.last_answer.max(self.now + takes);
                relay.last_answer = at;
                let life = relay.life;
                self.schedule.push(at, Event::Answers(index, life));
            }
            Output::Forward { .. } => unreachable!("the relay has one shard"),
            Output::ShutDown => self.relay_ends(index),
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

    pub(super) fn relay_wakes(&mut self, relay: u32) {
        let planned = &mut self.relays[relay as usize].planned;
        if *planned > self.now {
            // It was planned before an earlier one, and is planned anew by that.
            return;
        }
        *planned = NEVER;
        self.tasks.push_back(Task::RelayTimeout(relay));
    }

    pub(super) fn store_answers(&mut self, index: u32, life: u32) {
        let relay = &mut self.relays[index as usize];
        if relay.life == life
            && let Some((ticket, outcome)) = relay.answers.pop_front()
        {
            let answer = Input::Stored { ticket, outcome };
            self.tasks.push_back(Task::Relay(index, answer));
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
        let index = self.relay_of(agent);
        if bytes == 0 {
            let progressed = false;
            return self.relay_input(index, Input::Blocked { conn, progressed });
        }
        let relay = &mut self.relays[index as usize];
        let now = self.now + relay.ahead;
        let Some(hub) = &mut relay.hub else {
            return;
        };
        let mut frames = mem::take(&mut relay.frames);
        let turn = hub.poll_transmit(conn, bytes, now, |frame| frames.push(frame));
        let (mut outputs, wakeup) = drain(turn, mem::take(&mut relay.outputs));
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
        let relay = &mut self.relays[index as usize];
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
        let relay = self.relay_of(link.agent);
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
        let index = self.relay_of(agent);
        self.relays[index as usize].hub.as_ref()?;
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
        self.relay_turn(index, Some(id), Some(register));
        Some(id)
    }

    fn relay_ends(&mut self, index: u32) {
        let relay = &mut self.relays[index as usize];
        if let Some(hub) = relay.hub.take() {
            self.counts.returned += hub.stats().returned;
        }
        relay.answers.clear();
        let at = self.now + relay.downtime;
        self.schedule.push(at, Event::Starts(index));
    }

    /// The process of a relay ends without having been asked: the system closes its sockets, and
    /// what the store has confirmed is all that is left.
    pub(super) fn relay_dies(&mut self, index: u32) {
        let links = mem::take(&mut self.relays[index as usize].links);
        for id in links.into_iter().flatten() {
            self.relay_lets_go(id);
        }
        self.relay_ends(index);
    }

    pub(super) fn relay_starts(&mut self, index: u32) {
        let now = self.now;
        let relay = &mut self.relays[index as usize];
        relay.start(now);
        self.tasks.push_back(Task::RelayTimeout(index));
    }

    /// Forgets a link of which nobody holds an end any more.
    pub(super) fn forget_if_free(&mut self, id: LinkId) {
        let is_free = |link: &Link| !link.is_held_by_agent && !link.is_held_by_relay;
        if self.links.get(id).is_some_and(is_free) {
            self.links.remove(id);
        }
    }
}
