//! Honest agents: pairs that write to each other, and one that writes to the victim.

use core::time::Duration;

use hdrhistogram::Histogram;
use pinch_proto::wire::MessageType;
use pinch_proto::{EnvelopeView, Host};
use serde::Serialize;

use super::SiegeError;
use super::attackers::Plan;
use crate::load::Tally;
use crate::load::arrivals::Arrivals;
use crate::load::clients::Clients;
use crate::load::connection::Event;
use crate::load::identity::{Identity, identities};
use crate::load::target::Endpoint;
use crate::load::template::{Stamp, Template};

const SECOND: u64 = 1_000_000_000;

/// How often each agent writes: within the default rate of one per second.
const INTERVAL: u64 = SECOND + SECOND / 10;

/// How many envelopes the victim is sent: its queue is full, and each sender has a share.
const FOR_VICTIM: u64 = 5;

/// Bytes of ciphertext.
const SIZE: usize = 256;

const TICK: Duration = Duration::from_millis(20);

/// How long the last envelopes may take.
const PATIENCE: u64 = 15 * SECOND;

/// Times beyond this count as this: an hour.
const LONGEST: u64 = 3600 * SECOND;

/// How long an agent that was cut waits before it joins again.
const BACKOFF: u64 = SECOND;

/// What became of envelopes between honest agents.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fates {
    /// How many were sent.
    pub sent: u64,
    /// How many have arrived.
    pub arrived: u64,
    /// How many were rejected, and their senders told.
    pub rejected: u64,
    /// How many neither arrived nor were rejected.
    pub lost: u64,
    /// How many came twice.
    pub duplicated: u64,
    /// How many came behind a later one.
    pub reordered: u64,
    /// The median of their times in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of their times in milliseconds.
    pub p99_ms: f64,
    /// The longest of their times in milliseconds.
    pub max_ms: f64,
    /// The 99th percentile of how late envelopes were sent, in milliseconds: how long this process
    /// waited for a processor.
    pub late_p99_ms: f64,
    /// Connections that ended, by what ended them.
    pub disconnects: Tally,
}

impl Fates {
    /// Whether none was lost.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.disconnects.total() == 0
    }
}

struct Agent {
    identity: Identity,
    /// Its number among the clients, while it has one.
    connection: Option<usize>,
    joined: bool,
    join_at: u64,
    /// The one to whom it writes.
    peer: usize,
    template: Option<Template>,
    next: u64,
    interval: u64,
    sent: u64,
    /// At most so many are sent.
    limit: u64,
    rejected: u64,
    /// Of what it sends.
    arrivals: Arrivals,
    latencies: Histogram<u64>,
    /// How late it has sent.
    lateness: Histogram<u64>,
    disconnects: Tally,
    /// Joins when it is told to.
    is_away: bool,
}

pub(super) struct Honest {
    clients: Clients,
    agents: Vec<Agent>,
    /// Whose each connection is.
    owners: Vec<usize>,
}

impl Honest {
    /// Lets all agents but the victim join. The victim is the last of them, and who writes to it the
    /// last but one.
    pub(super) fn join(
        endpoint: Endpoint,
        host: &Host,
        pairs: usize,
        plan: &Plan,
    ) -> Result<Self, SiegeError> {
        let clients = Clients::new(endpoint, false)?;
        let mut identities =
            identities(2 * pairs + 1, host).map_err(crate::load::LoadError::from)?;
        identities.push(plan.victim.clone());
        let count = identities.len();
        let agents = identities
            .into_iter()
            .enumerate()
            .map(|(at, identity)| Agent {
                identity,
                connection: None,
                joined: false,
                join_at: 0,
                peer: at ^ 1,
                template: None,
                // Not all at once.
                next: at as u64 * INTERVAL / count as u64,
                interval: INTERVAL,
                sent: 0,
                limit: u64::MAX,
                rejected: 0,
                arrivals: Arrivals::default(),
                latencies: latencies(),
                lateness: latencies(),
                disconnects: Tally::default(),
                is_away: at + 1 == count,
            });
        let mut honest = Self {
            clients,
            agents: agents.collect(),
            owners: Vec::new(),
        };
        honest.agents[count - 2].limit = FOR_VICTIM;
        honest.agents[count - 1].limit = 0;
        for at in 0..count {
            let agent = &honest.agents[at];
            let peer = &honest.agents[agent.peer];
            let template = Template::new(&agent.identity, &peer.identity, SIZE, [7; 4]);
            honest.agents[at].template = Some(template.map_err(crate::load::LoadError::from)?);
        }
        let begin = honest.clients.now();
        while !honest
            .agents
            .iter()
            .all(|agent| agent.joined || agent.is_away)
            && honest.clients.now() < begin + PATIENCE
        {
            honest.step(false)?;
        }
        Ok(honest)
    }

    /// Lets them write for `duration`, then waits for what is on its way, and lets the victim fetch
    /// what it was sent. Returns how long that took, in seconds.
    pub(super) fn live(&mut self, duration: Duration) -> Result<f64, SiegeError> {
        let begin = self.clients.now();
        let span = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let last = self.agents.len() - 1;
        self.agents[last - 1].interval = INTERVAL.max(span / FOR_VICTIM);
        for agent in &mut self.agents {
            agent.next += begin;
        }
        while self.clients.now() < begin + span {
            self.step(true)?;
        }
        self.agents[last].is_away = false;
        let end = self.clients.now();
        while self.is_waiting() && self.clients.now() < end + PATIENCE {
            self.step(false)?;
        }
        // What comes now comes twice.
        let end = self.clients.now();
        while self.clients.now() < end + SECOND / 2 {
            self.step(false)?;
        }
        let took = Duration::from_nanos(self.clients.now() - begin);
        self.clients.leave(|_, _| {})?;
        Ok(took.as_secs_f64())
    }

    fn is_waiting(&self) -> bool {
        let settled = |agent: &Agent| agent.arrivals.arrived() + agent.rejected >= agent.sent;
        !self.agents.iter().all(settled)
    }

    fn step(&mut self, writes: bool) -> Result<(), SiegeError> {
        let now = self.clients.now();
        for at in 0..self.agents.len() {
            let agent = &mut self.agents[at];
            if agent.connection.is_none() && !agent.is_away && now >= agent.join_at {
                agent.connection = Some(self.clients.join(&agent.identity)?);
                self.owners.push(at);
            }
            let due = writes && agent.joined && now >= agent.next && agent.sent < agent.limit;
            if let (true, Some(connection), Some(template)) =
                (due, agent.connection, &agent.template)
            {
                let stamp = Stamp {
                    sent_at: now,
                    number: agent.sent,
                };
                let mut frame = Vec::new();
                template.put(&mut frame, stamp);
                self.clients.send(connection, &frame);
                agent.sent += 1;
                agent.lateness.saturating_record((now - agent.next).max(1));
                agent.next = now + agent.interval;
            }
        }
        let Self {
            clients,
            agents,
            owners,
        } = self;
        let writing = agents.iter().filter(|agent| agent.sent < agent.limit);
        let due = writing.map(|agent| agent.next).min().unwrap_or(now);
        let wait = Duration::from_nanos(due.saturating_sub(now)).clamp(Duration::ZERO, TICK);
        clients.poll(wait.max(Duration::from_millis(1)), |connection, event| {
            take(agents, owners[connection], event, now);
        })?;
        Ok(())
    }

    /// What became of the envelopes of the pairs.
    pub(super) fn pairs(&self) -> Fates {
        fates(&self.agents[..self.agents.len() - 2])
    }

    /// What became of the envelopes for the victim.
    pub(super) fn victim(&self) -> Fates {
        fates(&self.agents[self.agents.len() - 2..])
    }
}

fn take(agents: &mut [Agent], owner: usize, event: Event<'_>, now: u64) {
    match event {
        Event::Joined => agents[owner].joined = true,
        Event::Drained => {}
        Event::Ended(ending) => {
            let agent = &mut agents[owner];
            agent.disconnects.add(&ending);
            agent.connection = None;
            agent.joined = false;
            agent.join_at = now + BACKOFF;
        }
        Event::Received { envelope, at } => {
            let peer = agents[owner].peer;
            let sender = &mut agents[peer];
            let stamp = sender
                .template
                .as_ref()
                .and_then(|template| template.stamp_of(envelope));
            if let Some(stamp) = stamp.filter(|stamp| stamp.number < sender.sent) {
                if sender.arrivals.record(stamp.number) {
                    let nanos = at.saturating_sub(stamp.sent_at).max(1);
                    sender.latencies.saturating_record(nanos);
                }
                return;
            }
            let view = EnvelopeView::parse(envelope).ok();
            let kind = view.and_then(|view| view.message_type());
            if let Some(MessageType::QueueFull | MessageType::RateLimited) = kind {
                agents[owner].rejected += 1;
            }
        }
    }
}

/// No times yet.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST, 3).expect("sound bounds")
}

fn fates(agents: &[Agent]) -> Fates {
    let (mut all, mut late) = (latencies(), latencies());
    let mut fates = Fates::default();
    for agent in agents {
        fates.sent += agent.sent;
        fates.arrived += agent.arrivals.arrived();
        fates.rejected += agent.rejected;
        fates.duplicated += agent.arrivals.duplicated();
        fates.reordered += agent.arrivals.reordered();
        fates.disconnects.add_all(&agent.disconnects);
        all.add(&agent.latencies).expect("the same bounds");
        late.add(&agent.lateness).expect("the same bounds");
    }
    let settled = fates.arrived + fates.rejected;
    fates.lost = fates.sent.saturating_sub(settled);
    let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
    (fates.p50_ms, fates.p99_ms, fates.max_ms) = (at(0.5), at(0.99), all.max() as f64 / 1e6);
    fates.late_p99_ms = late.value_at_quantile(0.99) as f64 / 1e6;
    fates
}
