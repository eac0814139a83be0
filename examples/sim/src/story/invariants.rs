//! What must be so after every turn, and at the end, whatever the story.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use pinch_proto::hub::{ConnId, Delivery, Hub, HubStats, ShardId, Shards};
use pinch_proto::queue::Operation;

use super::cast::Agent;
use super::prose;
use super::run::{Run, Station};
use super::settings::Queue;
use super::turn::{Broken, Said, drain};

impl Run {
    /// What must be so after a turn: the hub and the model are in the same state as far as anybody sees,
    /// and a few things that need no model to be said.
    pub(super) fn check(&mut self) -> Result<(), Box<Broken>> {
        self.compare_state()?;
        self.check_rules().map_err(|what| self.broken(what))?;
        self.check_spurious_timeout()
    }

    /// The hub and the model have said the same.
    pub(super) fn compare(&self, said: &Said, expected: &Said) -> Result<(), Box<Broken>> {
        if said == expected {
            return Ok(());
        }
        let names = self.names();
        let outputs = said.outputs.iter().zip(&expected.outputs);
        let at = outputs.take_while(|(one, other)| one == other).count();
        Err(self.broken(format!(
            "The outputs differ.\nhub:   {}\nmodel: {}\nthe first that differ: {:?} and {:?}",
            prose::said(said, &names),
            prose::said(expected, &names),
            said.outputs.get(at),
            expected.outputs.get(at),
        )))
    }

    fn compare_state(&self) -> Result<(), Box<Broken>> {
        let (wakeup, expected) = (self.here.wakeup, self.here.model.wakeup());
        if wakeup != expected {
            let what = format!("The wakeups differ.\nhub:   {wakeup:?}\nmodel: {expected:?}");
            return Err(self.broken(what));
        }
        let (stats, expected) = (self.here.hub.stats(), self.here.model.stats());
        if stats != expected {
            return Err(self.broken(differing_stats(&stats, &expected)));
        }
        let by_address = |agent: &Agent| {
            let address = agent.address();
            self.here.hub.lookup(address.as_str()) != self.here.model.lookup(address.as_str())
        };
        if let Some(agent) = Agent::ALL.iter().find(|agent| by_address(agent)) {
            return Err(self.broken(format!("They differ in who is connected as {agent}.")));
        }
        let by_name = |conn| {
            self.here.hub.holds(conn) != self.here.model.holds(conn)
                || self.here.hub.is_open(conn) != self.here.model.is_open(conn)
                || self.here.hub.is_paused(conn) != self.here.model.is_paused(conn)
        };
        if let Some(person) = self.here.people.iter().find(|person| by_name(person.conn)) {
            let conn = person.conn;
            return Err(self.broken(format!("They differ in whether {conn:?} is there.")));
        }
        Ok(())
    }

    /// What needs no model to be said.
    fn check_rules(&mut self) -> Result<(), String> {
        let stats = self.here.hub.stats();
        check_equations(&stats)?;
        self.check_queue()?;
        let settings = self.settings.of_shard();
        let memory = settings.total_outbox_bytes + settings.link_bytes;
        let limits = [
            ("held bytes", stats.held_bytes, memory),
            (
                "parked buckets",
                stats.parked_buckets,
                settings.max_parked_buckets,
            ),
            (
                "join buckets",
                stats.join_buckets,
                settings.max_parked_buckets,
            ),
        ];
        for (name, value, limit) in limits {
            if value > limit as u64 {
                return Err(format!("{value} {name}, where {limit} may be: {stats:?}"));
            }
        }
        for person in &self.here.people {
            if self.here.hub.holds(person.conn) == person.ended {
                return Err(format!("{:?} has ended, or has it?", person.conn));
            }
            if !person.ended {
                self.check_limits(person.conn)?;
            }
        }
        for agent in Agent::ALL {
            if self.shards.of(agent.address().as_str()) != self.at {
                continue;
            }
            let of_agent = self
                .here
                .people
                .iter()
                .filter(|person| person.agent == agent);
            let (sends, receives): (Vec<_>, Vec<_>) = of_agent
                .filter(|person| self.here.hub.is_open(person.conn))
                .partition(|person| person.send_only);
            if receives.len() > 1 || sends.len() > 8 {
                return Err(format!("{agent} has too many connections"));
            }
            self.check_nothing_is_stranded(agent)?;
        }
        Ok(())
    }

    /// What is kept for one connection is bounded, in bytes and in number.
    fn check_limits(&self, conn: ConnId) -> Result<(), String> {
        let (model, settings) = (&self.here.model, &self.settings);
        let size = |messages: &mut dyn Iterator<Item = &Bytes>| {
            messages.fold((0, 0), |(count, bytes), message| {
                (count + 1, bytes + message.len())
            })
        };
        let waiting = size(&mut model.waiting(conn));
        let given = size(&mut model.unconfirmed(conn));
        // Two go beyond: one envelope goes out whatever its size, and a goodbye does not wait until what
        // is before it is confirmed.
        let mut most_given = (
            settings.unconfirmed_count,
            settings.unconfirmed_bytes - 1 + settings.envelope_bytes,
        );
        if !model.is_open(conn) {
            most_given.0 += settings.outbox_count;
            most_given.1 += settings.outbox_bytes;
        }
        let limits = [
            ("waiting envelopes", waiting.0, settings.outbox_count),
            ("waiting bytes", waiting.1, settings.outbox_bytes),
            ("unconfirmed envelopes", given.0, most_given.0),
            ("unconfirmed bytes", given.1, most_given.1),
        ];
        let exceeded = limits.iter().find(|(_, value, limit)| value > limit);
        exceeded.map_or(Ok(()), |(name, value, limit)| {
            Err(format!("{conn:?} has {value} {name}, where {limit} may be"))
        })
    }

    /// The store never holds more than its limits say, whatever comes back to it. (Where nobody confirms
    /// anything, what expires in the store while it is being handed out may make room once too often.)
    fn check_queue(&self) -> Result<(), String> {
        let at_most_once = self.settings.delivery == Delivery::AtMostOnce;
        let queue = self.settings.queue;
        let Some(queue) = queue.filter(|queue| !at_most_once || queue.ttl == Queue::TTL[0]) else {
            return Ok(());
        };
        let (stored, limits) = (&self.shelf.queue, queue.limits());
        // Each shard may reserve as much of a sender of which it knows nothing; and all of them together
        // once more than there may be, with old reports.
        let (shards, most) = if self.ledger.has_shards {
            (4, 2)
        } else {
            (1, 1)
        };
        let mut all = vec![("in all", stored.bytes(), most * limits.total_bytes)];
        for agent in Agent::ALL {
            let address = agent.address();
            let sent = stored.sender_bytes(address.as_str());
            let waits = stored.entries(address.as_str()).count() as u64;
            all.push(("bytes of one sender", sent, shards * limits.sender_bytes));
            all.push(("envelopes for one", waits, limits.recipient_count));
        }
        let exceeded = all.iter().find(|(_, value, limit)| value > limit);
        exceeded.map_or(Ok(()), |(name, value, limit)| {
            Err(format!(
                "the store has {value} {name}, where {limit} may be"
            ))
        })
    }

    /// Who is connected has nothing in the store that nobody will read.
    fn check_nothing_is_stranded(&mut self, agent: Agent) -> Result<(), String> {
        let address = agent.address();
        let Some(conn) = self.here.hub.lookup(address.as_str()) else {
            return Ok(());
        };
        if self.here.model.is_idle_behind_a_backlog(conn) {
            return Err(format!("{agent} is idle, and nobody reads its queue"));
        }
        if self.here.model.has_backlog(conn) {
            return Ok(());
        }
        let comes_late = self.shelf.asked.iter().any(|(_, request)| {
            let Operation::Append(append) = &request.operation else {
                return false;
            };
            append.recipient == address && !append.discard
        });
        if comes_late {
            return Err(format!(
                "something is appended for {agent}, who reads nothing any more"
            ));
        }
        let unix = self.unix(self.here.latest);
        let waiting = self.shelf.unexpired(address, unix);
        if waiting.is_empty() {
            return Ok(());
        }
        let in_memory: BTreeSet<_> = self.here.model.waiting(conn).collect();
        let given = self.ledger.given_to(conn);
        let is_read = |message: &Bytes| given.contains(message) || in_memory.contains(message);
        let unread = waiting.iter().find(|entry| !is_read(&entry.message));
        unread.map_or(Ok(()), |entry| {
            let seq = entry.seq.0;
            Err(format!(
                "number {seq} is in the store, and {agent} does not read it"
            ))
        })
    }

    /// A timeout before anything is due changes nothing.
    fn check_spurious_timeout(&mut self) -> Result<(), Box<Broken>> {
        let (wakeup, stats) = (self.here.wakeup, self.here.hub.stats());
        if wakeup.is_some_and(|wakeup| wakeup.at <= self.here.latest) {
            return Ok(());
        }
        let (outputs, after) = drain(self.here.hub.handle_timeout(self.here.latest));
        if !outputs.is_empty() || after != wakeup || self.here.hub.stats() != stats {
            let frames = vec![];
            let said = prose::said(&Said { frames, outputs }, &self.names());
            return Err(self.broken(format!("A timeout that is called too early says: {said}")));
        }
        Ok(())
    }

    /// The same inputs give the same outputs, whatever the seed, as long as agents live where they did.
    pub(super) fn check_replay(&self) -> Result<(), Box<Broken>> {
        let spread = if self.settings.shards > 1 {
            self.shards.clone()
        } else {
            self.settings.spread([9; 16])
        };
        let mut stations = self.stations();
        stations.try_for_each(|(shard, station)| self.check_replay_of(shard, station, &spread))
    }

    fn check_replay_of(
        &self,
        shard: ShardId,
        station: &Station,
        spread: &Shards,
    ) -> Result<(), Box<Broken>> {
        let (now, unix, restored) = self.beginning();
        let place = self.settings.place(spread, shard);
        let hub = Hub::new_shard(self.settings.config(), place, now, unix);
        let mut hub = hub.with_restored(restored);
        // What a driver forgot for a moment came with a later turn.
        let mut owed = VecDeque::new();
        for turn in self.turns().filter(|turn| turn.shard == shard) {
            let mut frames = vec![];
            hub.set_other_connections(turn.others);
            let call = turn.call.clone();
            let (outputs, _) = drain(call.make(&mut hub, turn.now, &mut frames));
            owed.extend(outputs);
            let outputs = &turn.said.outputs;
            let said = owed.drain(..outputs.len().min(owed.len()));
            if !said.eq(outputs.iter().cloned()) || frames != turn.said.frames {
                let said = prose::said(&turn.said, &self.names());
                return Err(self.broken(format!("Told once more, the hub does not say: {said}")));
            }
        }
        if !owed.is_empty() {
            return Err(self.broken("Told once more, the hub says more."));
        }
        if hub.stats() != station.hub.stats() {
            return Err(self.broken("Told once more, the hub has other stats."));
        }
        Ok(())
    }
}

/// What [`HubStats`] promises.
fn check_equations(stats: &HubStats) -> Result<(), String> {
    let messages =
        stats.accepted + stats.consumed + stats.blocked + stats.refused() + stats.violations;
    let ended = stats.delivered + stats.returned + stats.unconfirmed + stats.stored + stats.kept;
    let envelopes = ended + stats.queued + stats.in_flight + stats.storing;
    let connections = stats.connections + stats.closing + stats.closed;
    let equations = [
        (
            "messages",
            stats.received + stats.arrived,
            messages + stats.forwarded,
        ),
        ("envelopes", stats.accepted + stats.read, envelopes),
        ("connections", stats.registered, connections),
    ];
    for (name, left, right) in equations {
        if left != right {
            return Err(format!(
                "The {name} do not add up, {left} and {right}: {stats:?}"
            ));
        }
    }
    Ok(())
}

/// The stats that differ, by their names.
fn differing_stats(hub: &HubStats, model: &HubStats) -> String {
    let (hub, model) = (format!("{hub:#?}"), format!("{model:#?}"));
    let mut text = String::from("The stats differ.");
    for (hub, model) in hub
        .lines()
        .zip(model.lines())
        .filter(|(hub, model)| hub != model)
    {
        text += &format!("\nhub: {}   model: {}", hub.trim(), model.trim());
    }
    text
}
