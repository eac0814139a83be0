//! What goes wrong in a world, or is done on purpose.

use core::time::Duration;

use pinch_proto::{client, hub};

use super::link::Direction;
use super::world::{Task, World};

impl World {
    /// Has agents leave in order: they flush, and close their connections.
    pub fn leave(&mut self, agents: impl IntoIterator<Item = u32>) {
        for agent in agents {
            self.tasks
                .push_back(Task::Agent(agent, client::Input::Close));
            self.work();
        }
    }

    /// An agent's machine loses its power: nobody is told, and what it knew is gone.
    pub fn crash(&mut self, agent: u32) {
        self.cut(agent);
        if let Some(id) = self.agents[agent as usize].link.take()
            && let Some(link) = self.links.get_mut(id)
        {
            link.is_held_by_agent = false;
            self.forget_if_free(id);
        }
        self.agent_ends(agent);
    }

    /// The connection of an agent is forgotten by something on its way, such as a NAT: nothing
    /// arrives any more, and nobody is told.
    pub fn cut(&mut self, agent: u32) {
        let link = self.agents[agent as usize].link;
        if let Some(link) = link.and_then(|id| self.links.get_mut(id)) {
            link.is_dead = true;
        }
    }

    /// The connection of an agent is reset: both sides hear that at once, and what was underway is
    /// gone.
    pub fn reset(&mut self, agent: u32) {
        let relay = self.hub_of(agent);
        let Some(id) = self.agents[agent as usize].link else {
            return;
        };
        self.cut(agent);
        let conn = self.links.get(id).and_then(|link| link.conn);
        if let Some(conn) = conn {
            let clean = false;
            let closed = hub::Input::Closed { conn, clean };
            self.tasks.push_back(Task::Relay(relay, closed));
        }
        self.agent_lets_go(agent);
        let why = "connection reset".into();
        let lost = client::Input::Disconnected { why };
        self.tasks.push_back(Task::Agent(agent, lost));
        self.work();
    }

    /// An agent reads nothing from now on; its socket fills.
    pub fn stop_reading(&mut self, agent: u32) {
        self.agents[agent as usize].is_deaf = true;
    }

    /// It reads again.
    pub fn read_on(&mut self, agent: u32) {
        self.agents[agent as usize].is_deaf = false;
        self.resume(agent);
    }

    /// Nothing comes through any more between these agents and their relay, in either direction. What
    /// is underway waits, as TCP sends it again and again.
    pub fn partition(&mut self, agents: impl IntoIterator<Item = u32>) {
        for agent in agents {
            self.agents[agent as usize].is_partitioned = true;
        }
    }

    /// Everything comes through again.
    pub fn heal(&mut self) {
        for agent in 0..self.agent_count() {
            if self.agents[agent as usize].is_partitioned {
                self.agents[agent as usize].is_partitioned = false;
                self.resume(agent);
            }
        }
    }

    fn resume(&mut self, agent: u32) {
        // Links that the agent has given up have their end waiting in them, too.
        let of_agent = |id: &super::link::LinkId| self.links[*id].agent == agent;
        let ids: Vec<_> = self.links.keys().filter(of_agent).collect();
        for id in ids {
            self.plan_arrival(id, Direction::Up);
            self.plan_arrival(id, Direction::Down);
        }
    }

    /// A relay is told to end, and starts again a while after it has.
    pub fn restart_relay(&mut self, relay: u32, downtime: Duration) {
        self.relays[relay as usize].downtime = downtime;
        let hubs = self.hubs_of(relay);
        let shut_down = |hub| Task::Relay(hub, hub::Input::Shutdown);
        self.tasks.extend(hubs.map(shut_down));
        self.work();
    }

    /// The process of a relay is killed, and starts again after a while. Nobody has promised anything
    /// about what was in its memory.
    pub fn kill_relay(&mut self, relay: u32, downtime: Duration) {
        self.relays[relay as usize].downtime = downtime;
        self.relay_dies(relay);
        self.ledger.excuse_all();
        self.work();
    }

    /// The clock of a relay jumps ahead, as after a machine has slept.
    pub fn jump_relay_clock(&mut self, relay: u32, by: Duration) {
        self.relays[relay as usize].ahead += by;
        let hubs = self.hubs_of(relay);
        self.tasks.extend(hubs.map(Task::RelayTimeout));
        self.work();
    }

    /// The clock of an agent jumps ahead.
    pub fn jump_agent_clock(&mut self, agent: u32, by: Duration) {
        self.agents[agent as usize].ahead += by;
        self.tasks.push_back(Task::AgentTimeout(agent));
        self.work();
    }

    /// Nobody does anything of their own accord any more, everything comes through, and everybody is
    /// there: until everything has arrived and is confirmed, or for an hour.
    pub fn calm_down(&mut self) {
        self.habits = None;
        self.heal();
        for agent in 0..self.agent_count() {
            self.read_on(agent);
        }
        for _ in 0..60 {
            self.start(0..self.agent_count());
            self.run_for(Duration::from_secs(60));
            if self.is_calm() {
                return;
            }
        }
    }

    /// Whether everybody is connected, and nothing waits for anybody.
    fn is_calm(&self) -> bool {
        let agents = self.agents.len() as u64;
        let mut connections = 0;
        for relay in &self.relays {
            if !relay.is_running() {
                return false;
            }
            let stats = relay.stats();
            connections += stats.connections;
            let waiting =
                stats.queued + stats.in_flight + stats.store_unanswered + stats.unanswered;
            if waiting > 0 || !relay.store.is_empty() {
                return false;
            }
        }
        connections == agents
    }

    /// Everybody leaves. What the world holds then should be nothing: this says what it is.
    pub fn empty(&mut self) -> Vec<String> {
        self.leave(0..self.agent_count());
        self.run_for(Duration::from_secs(120));
        let mut left = Vec::new();
        let mut note = |what: &str, count: u64| {
            if count > 0 {
                left.push(format!("{count} {what}"));
            }
        };
        note("links", self.links.len() as u64);
        note(
            "agents",
            self.agents
                .iter()
                .filter(|agent| agent.client.is_some())
                .count() as u64,
        );
        for relay in &self.relays {
            if !relay.is_running() {
                note("relays that do not run", 1);
                continue;
            }
            let stats = relay.stats();
            note("connections", stats.connections + stats.closing);
            note("envelopes in outboxes", stats.queued + stats.in_flight);
            note(
                "bytes in outboxes",
                stats.queued_bytes + stats.in_flight_bytes,
            );
            note("items for other shards", stats.unanswered);
            // Now and then it is asked to forget what has expired: maybe at this very moment.
            let answers = relay.answers.len() as u64;
            note(
                "requests that the store has answered",
                (stats.store_unanswered + stats.storing).saturating_sub(answers),
            );
            note("envelopes in the store", relay.store.len() as u64);
        }
        left
    }
}
