//! Agents that are there and do nothing but answer pings: what joining costs a relay, and what
//! keeping them costs it.

use core::time::Duration;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::clients::Clients;
use super::connection::Event;
use super::identity::{Identity, identities};
use super::joining::{Joins, join_all};
use super::tally::Tally;
use super::target::{Auth, Target, at_least_one};
use super::template::{Stamp, Template};
use super::{LoadError, descriptors, duration};
use crate::process::Sample;

/// How many envelopes are on their way at once, and how long that takes at least: a thousand per
/// second. What idle connections cost is asked, and not what a flood does to a relay.
const IN_FLIGHT: usize = 16;
const BATCH: Duration = Duration::from_millis(16);

/// When none arrives for so long, none will.
const PATIENCE: u64 = 10_000_000_000;

const TICK: Duration = Duration::from_millis(20);

/// Agents that only answer pings.
#[derive(Args, Clone, Debug)]
pub struct Idle {
    /// The relay
    #[command(flatten)]
    pub target: Target,
    /// How many agents
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    pub conns: usize,
    /// Seconds that the relay has to come to rest before its memory is looked at
    #[arg(long, default_value = "2", value_parser = duration)]
    pub settle: Duration,
    /// Seconds that they stay
    #[arg(long, default_value = "30", value_parser = duration)]
    pub hold: Duration,
    /// Before they stay, each of them receives one envelope with so many bytes of ciphertext
    #[arg(long)]
    pub envelope: Option<usize>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct IdleReport {
    /// `idle`.
    pub scenario: &'static str,
    /// Where the relay was.
    pub url: String,
    /// How the agents joined.
    pub auth: Auth,
    /// How joining went.
    pub joins: Joins,
    /// CPU seconds of the relay for a thousand joins, if known.
    pub server_cpu_seconds_per_1000_joins: Option<f64>,
    /// Bytes of `RssAnon` for each agent that has joined and been pinged, if known.
    pub anonymous_bytes_joined: Option<f64>,
    /// The same after each has received an envelope, if known and asked for.
    pub anonymous_bytes_after_envelope: Option<f64>,
    /// The same after the time that they stayed, if known.
    pub anonymous_bytes_after_hold: Option<f64>,
    /// The relay's share of one core while they stayed, if known.
    pub server_cpu_percent_while_idle: Option<f64>,
    /// Bytes of the whole envelope that each received.
    pub envelope_bytes: Option<usize>,
    /// How many of those envelopes did not arrive as they were sent.
    pub envelopes_lost: usize,
    /// How many pings were answered.
    pub pings: u64,
    /// Connections that ended, by what ended them.
    pub disconnects: Tally,
}

/// Lets the agents join and stay, and measures.
///
/// # Errors
/// [`LoadError`] says why nothing could be measured.
pub fn run(options: &Idle) -> Result<IdleReport, LoadError> {
    let target = &options.target;
    let endpoint = target.endpoint()?;
    descriptors(options.conns + 1)?;
    // The last one sends.
    let agents = identities(options.conns + 1, &target.host)?;
    let mut clients = Clients::new(endpoint, target.spin)?;
    let mut idle = Waiting::default();

    let before = target.sample();
    let joins = join_all(&mut clients, &agents, target.concurrency)?;
    if joins.joined < agents.len() {
        return Err(LoadError::NotAllJoined(joins.failed));
    }
    let at_join = target.sample();
    idle.hold(&mut clients, options.settle)?;
    let rested = target.sample();

    let mut after_envelope = None;
    if let Some(size) = options.envelope {
        idle.send_to_each(&mut clients, &agents, size)?;
        idle.hold(&mut clients, options.settle)?;
        after_envelope = Some(target.sample());
    }
    let begin = target.sample();
    idle.hold(&mut clients, options.hold)?;
    let held = target.sample();
    let pings = clients.pings();
    clients.leave(|_, _| {})?;

    let each = |bytes: Option<f64>| bytes.map(|bytes| bytes / agents.len() as f64);
    let after_envelope = after_envelope.and_then(|after: Sample| after.growth_since(&before));
    Ok(IdleReport {
        scenario: "idle",
        url: target.url.clone(),
        auth: target.auth,
        server_cpu_seconds_per_1000_joins: each(at_join.cpu_seconds_since(&before))
            .map(|seconds| seconds * 1e3),
        joins,
        anonymous_bytes_joined: each(rested.growth_since(&before)),
        anonymous_bytes_after_envelope: each(after_envelope),
        anonymous_bytes_after_hold: each(held.growth_since(&before)),
        server_cpu_percent_while_idle: held.cpu_percent_since(&begin),
        envelope_bytes: idle.envelope_bytes,
        envelopes_lost: idle.lost,
        pings,
        disconnects: idle.disconnects,
    })
}

#[derive(Default)]
struct Waiting {
    envelope_bytes: Option<usize>,
    lost: usize,
    disconnects: Tally,
}

impl Waiting {
    /// Sends one envelope to each agent but the last, which sends them.
    fn send_to_each(
        &mut self,
        clients: &mut Clients,
        agents: &[Identity],
        size: usize,
    ) -> Result<(), LoadError> {
        let Some((sender, receivers)) = agents.split_last() else {
            return Ok(());
        };
        let number = receivers.len();
        let stamp = Stamp {
            sent_at: 0,
            number: 0,
        };
        let mut templates = Vec::with_capacity(IN_FLIGHT);
        let mut frame = Vec::new();
        for (batch, first) in receivers.chunks(IN_FLIGHT).zip((0..).step_by(IN_FLIGHT)) {
            let begin = Instant::now();
            templates.clear();
            for receiver in batch {
                let template = Template::new(sender, receiver, size, clients.mask(number))?;
                frame.clear();
                template.put(&mut frame, stamp);
                clients.send(number, &frame);
                self.envelope_bytes = Some(template.envelope_len());
                templates.push(Some(template));
            }
            self.await_batch(clients, first, &mut templates)?;
            self.hold(clients, BATCH.saturating_sub(begin.elapsed()))?;
        }
        Ok(())
    }

    /// Waits until every agent from `first` on has received its envelope.
    fn await_batch(
        &mut self,
        clients: &mut Clients,
        first: usize,
        templates: &mut [Option<Template>],
    ) -> Result<(), LoadError> {
        let mut last_arrival = clients.now();
        let mut left = templates.len();
        while left > 0 && clients.now() < last_arrival + PATIENCE {
            clients.poll(TICK, |number, event| match event {
                Event::Received { envelope, at } => {
                    let place = number.checked_sub(first);
                    let slot = place.and_then(|place| templates.get_mut(place));
                    let Some(slot) = slot else { return };
                    let ours = |template: &mut Template| template.stamp_of(envelope).is_some();
                    if slot.take_if(ours).is_some() {
                        left -= 1;
                        last_arrival = at;
                    }
                }
                event @ (Event::Joined | Event::Drained | Event::Ended(_)) => self.note(&event),
            })?;
        }
        self.lost += left;
        Ok(())
    }

    /// Lets everybody stay for `duration`.
    fn hold(&mut self, clients: &mut Clients, duration: Duration) -> Result<(), LoadError> {
        let begin = Instant::now();
        while let Some(left) = duration.checked_sub(begin.elapsed()) {
            clients.poll(left, |_, event| self.note(&event))?;
        }
        Ok(())
    }

    fn note(&mut self, event: &Event<'_>) {
        if let Event::Ended(ending) = event {
            self.disconnects.add(ending);
        }
    }
}
