//! An agent: its client, and what its driver and its user do.

use core::mem;
use core::time::Duration;

use bytes::Bytes;
use pinch_proto::client::{Client, Event as Told, Identity, Input, Output};
use pinch_proto::{Address, Frame, Time, UnixMillis};

use super::ledger::{EnvelopeId, Fate, Said, encode, understand};
use super::link::{Direction, LinkId, Packet};
use super::world::{BEGIN, Event, Task, World};

/// An agent.
pub(super) struct Agent {
    pub(super) address: Address,
    /// `None` while it does not run.
    pub(super) client: Option<Box<Client>>,
    pub(super) link: Option<LinkId>,
    /// Which try to connect the last one was.
    tries: u32,
    /// The numbers of what this client was given, the first of them unconfirmed.
    unconfirmed: Vec<u32>,
    /// How many envelopes this client had confirmed before those.
    confirmed: u64,
    /// The first moment for which a wake-up is planned.
    planned: Time,
    /// How far its clock has jumped ahead of the world's.
    pub(super) ahead: Duration,
    /// It has sent a close frame.
    has_closed: bool,
    /// It reads nothing.
    pub(super) is_deaf: bool,
    /// Nothing comes through, in either direction.
    pub(super) is_partitioned: bool,
}

const NEVER: Time = Time::from_nanos(u64::MAX);

impl Agent {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            client: None,
            link: None,
            tries: 0,
            unconfirmed: Vec::new(),
            confirmed: 0,
            planned: NEVER,
            ahead: Duration::ZERO,
            has_closed: false,
            is_deaf: false,
            is_partitioned: false,
        }
    }
}

impl World {
    /// Starts agents that do not run: each with a client that knows nothing of a former one.
    pub fn start(&mut self, agents: impl IntoIterator<Item = u32>) {
        for number in agents {
            let agent = &mut self.agents[number as usize];
            if agent.client.is_some() {
                continue;
            }
            let now = self.now + agent.ahead;
            let passed = i64::try_from(now.since(Time::ZERO).as_millis()).unwrap_or(i64::MAX);
            let unix = UnixMillis(BEGIN.0.saturating_add(passed));
            let identity = Identity::Name(agent.address.clone());
            let seed = self.random.u128(..).to_be_bytes();
            let client = Client::new(self.client.clone(), identity, seed, now, unix);
            agent.client = Some(Box::new(client));
            agent.confirmed = 0;
            agent.has_closed = false;
            self.tasks.push_back(Task::AgentTimeout(number));
            self.work();
        }
    }

    /// Has an agent write `len` bytes to another, if it runs and its client takes them. Says whether
    /// it did.
    pub fn write(&mut self, from: u32, to: u32, len: usize) -> bool {
        let address = self.agents[to as usize].address.clone();
        let agent = &mut self.agents[from as usize];
        let Some(client) = &mut agent.client else {
            return false;
        };
        // What an envelope has besides its text.
        if !client.has_room_for(len + 200) {
            return false;
        }
        let id = self.ledger.write(from, to);
        let envelope = encode(id, &agent.address, &address, len);
        let now = self.now + agent.ahead;
        let Ok(mut turn) = client.submit(envelope, now) else {
            // It is leaving.
            self.ledger.settle(from, [id.number], Fate::Unsent);
            return false;
        };
        let outputs: Vec<_> = core::iter::from_fn(|| turn.poll_output()).collect();
        let wakeup = turn.finish();
        agent.unconfirmed.push(id.number);
        self.counts.written += 1;
        self.agent_outputs(from, outputs, wakeup.map(|wakeup| wakeup.at));
        self.work();
        true
    }

    pub(super) fn agent_input(&mut self, number: u32, input: Input) {
        self.agent_turn(number, Some(input));
    }

    pub(super) fn agent_timeout(&mut self, number: u32) {
        self.agent_turn(number, None);
    }

    fn agent_turn(&mut self, number: u32, input: Option<Input>) {
        let agent = &mut self.agents[number as usize];
        let now = self.now + agent.ahead;
        let Some(client) = &mut agent.client else {
            return;
        };
        let mut turn = match input {
            Some(input) => client.handle_input(input, now),
            None => client.handle_timeout(now),
        };
        let outputs: Vec<_> = core::iter::from_fn(|| turn.poll_output()).collect();
        let wakeup = turn.finish();
        self.agent_outputs(number, outputs, wakeup.map(|wakeup| wakeup.at));
    }

    fn agent_outputs(&mut self, number: u32, outputs: Vec<Output>, wakeup: Option<Time>) {
        let agent = &mut self.agents[number as usize];
        if let Some(wakeup) = wakeup {
            let at = Time::ZERO + wakeup.since(Time::ZERO + agent.ahead);
            let at = at.max(self.now);
            if at < agent.planned {
                agent.planned = at;
                self.schedule.push(at, Event::AgentWakes(number));
            }
        }
        let mut has_written = false;
        for output in outputs {
            match output {
                Output::Dial => self.agent_dials(number),
                Output::Wake => self.tasks.push_back(Task::AgentWrites(number)),
                Output::Transmit(frame) => {
                    has_written = true;
                    let closes = matches!(frame, Frame::Close(_));
                    self.agents[number as usize].has_closed |= closes;
                    if let Some(link) = self.agents[number as usize].link {
                        self.send(link, Direction::Up, frame.into());
                    }
                }
                Output::Hangup => self.agent_lets_go(number),
                Output::Confirmed { total } => {
                    let agent = &mut self.agents[number as usize];
                    let count = usize::try_from(total - agent.confirmed).expect("a small number");
                    agent.unconfirmed.drain(..count);
                    agent.confirmed = total;
                }
                Output::Event(told) => self.agent_is_told(number, told),
            }
        }
        if has_written {
            self.tasks.push_back(Task::AgentWrites(number));
        }
    }

    fn agent_is_told(&mut self, number: u32, told: Told) {
        match told {
            Told::Joined { .. } => self.counts.joins += 1,
            Told::Received(envelope) => match understand(&envelope) {
                Said::Message(id) => self.ledger.deliver(id, number),
                Said::Refusal(EnvelopeId { sender, number }) => {
                    self.ledger.settle(sender, [number], Fate::Refused);
                }
                Said::Status => {}
            },
            Told::Disconnected { .. } => self.counts.breaks += 1,
            Told::GaveUp { .. } | Told::Closed { .. } => self.agent_ends(number),
            other => panic!("an event that nobody here knows: {other:?}"),
        }
    }

    /// The client of an agent is no more, and what it has not confirmed may be lost.
    pub(super) fn agent_ends(&mut self, number: u32) {
        let agent = &mut self.agents[number as usize];
        agent.client = None;
        self.ledger.forget(number);
        let unconfirmed = mem::take(&mut agent.unconfirmed);
        self.ledger.settle(number, unconfirmed, Fate::Unsent);
    }

    fn agent_dials(&mut self, number: u32) {
        let agent = &mut self.agents[number as usize];
        agent.tries += 1;
        if !agent.is_partitioned {
            let dials = Event::Dials(number, agent.tries);
            let (least, most) = self.conditions.latency_ms;
            let takes = Duration::from_millis(self.random.u64(least..=most));
            self.schedule.push(self.now + takes, dials);
        }
    }

    /// A try arrives at the relay, which is there or not.
    pub(super) fn dialed(&mut self, number: u32, try_: u32) {
        let agent = &self.agents[number as usize];
        if agent.is_partitioned {
            return;
        }
        let Some(id) = self.relay_accepts(number) else {
            let (least, _) = self.conditions.latency_ms;
            let at = self.now + Duration::from_millis(least);
            self.schedule.push(at, Event::IsRefused(number, try_));
            return;
        };
        let link = &mut self.links[id];
        let at = self.now + Duration::from_nanos(link.latency);
        link.down.hold_until(at);
        self.schedule.push(at, Event::Connects(number, try_, id));
    }

    pub(super) fn dial_refused(&mut self, number: u32, try_: u32) {
        if self.is_trying(number, try_) {
            let why = "connection refused".into();
            self.tasks
                .push_back(Task::Agent(number, Input::Disconnected { why }));
        }
    }

    pub(super) fn connected(&mut self, number: u32, try_: u32, id: LinkId) {
        if self.is_trying(number, try_) {
            self.agents[number as usize].link = Some(id);
            self.tasks.push_back(Task::Agent(number, Input::Connected));
            self.tasks.push_back(Task::AgentWrites(number));
        } else {
            self.agent_end_of(id);
        }
    }

    fn is_trying(&self, number: u32, try_: u32) -> bool {
        let agent = &self.agents[number as usize];
        agent.client.is_some() && agent.link.is_none() && agent.tries == try_
    }

    /// The agent drops its link, or stops trying to get one.
    pub(super) fn agent_lets_go(&mut self, number: u32) {
        let agent = &mut self.agents[number as usize];
        agent.tries += 1;
        if let Some(id) = agent.link.take() {
            self.agent_end_of(id);
        }
    }

    fn agent_end_of(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id) {
            link.is_held_by_agent = false;
            self.send(id, Direction::Up, Packet::End);
            self.forget_if_free(id);
        }
    }

    pub(super) fn agent_wakes(&mut self, number: u32) {
        let planned = &mut self.agents[number as usize].planned;
        if *planned > self.now {
            // It was planned before an earlier one, and is planned anew by that.
            return;
        }
        *planned = NEVER;
        self.tasks.push_back(Task::AgentTimeout(number));
    }

    /// Lets an agent write to its link, if there is room.
    pub(super) fn agent_writes(&mut self, number: u32) {
        let capacity = self.conditions.link_bytes;
        let link = self.agents[number as usize].link;
        let Some(link) = link.and_then(|id| self.links.get_mut(id)) else {
            return;
        };
        let bytes = link.up.room(capacity);
        link.up.is_blocked = bytes == 0;
        if bytes > 0 {
            self.agent_input(number, Input::Writable { bytes });
        }
    }

    /// What has arrived from the relay.
    pub(super) fn agent_reads(&mut self, id: LinkId, packet: Packet) {
        let number = self.links[id].agent;
        if self.agents[number as usize].link != Some(id) {
            return;
        }
        let mut tell = |input| self.tasks.push_back(Task::Agent(number, input));
        match packet {
            Packet::Message(message) => tell(Input::Received(message)),
            Packet::Pong(payload) => tell(Input::Pong { payload }),
            Packet::Ping(payload) => {
                if self.agents[number as usize].has_closed && !self.deduplicates() {
                    return;
                }
                let mut tell = |input| self.tasks.push_back(Task::Agent(number, input));
                let sign_of_life = Bytes::new();
                tell(Input::Pong {
                    payload: sign_of_life,
                });
                self.send(id, Direction::Up, Packet::Pong(payload));
            }
            Packet::Close(close) => {
                tell(Input::PeerClosed(close.clone()));
                self.send(id, Direction::Up, Packet::Close(close));
            }
            Packet::End => {
                self.agent_lets_go(number);
                let why = "the end of the stream".into();
                self.tasks
                    .push_back(Task::Agent(number, Input::Disconnected { why }));
            }
        }
    }
}
