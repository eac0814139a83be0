//! Pairs of agents that keep a number of envelopes in flight, and the account of them.

use core::time::Duration;
use std::io;

use hdrhistogram::Histogram;
use pinch_proto::EnvelopeView;
use pinch_proto::wire::MessageType;
use serde::Serialize;

use super::clients::Clients;
use super::connection::Event;
use super::flow::Flow;
use super::tally::Tally;

const TICK: Duration = Duration::from_millis(20);
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// When nothing of a flow arrives for so long, what it has in flight no longer fills its window.
const STALL: u64 = NANOS_PER_SECOND;

/// When nothing arrives for so long in the end, nothing more will.
const SILENCE: u64 = 2 * NANOS_PER_SECOND;

/// Latencies beyond this count as this: an hour.
const LONGEST: u64 = 3600 * NANOS_PER_SECOND;

/// What has become of the envelopes of a whole run, and what else was heard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Account {
    /// Envelopes that were sent.
    pub sent: u64,
    /// Envelopes that arrived, each counted once.
    pub arrived: u64,
    /// Envelopes that neither arrived nor were refused.
    pub lost: u64,
    /// Arrivals of what had arrived before.
    pub duplicated: u64,
    /// Arrivals behind something that was sent later.
    pub reordered: u64,
    /// Arrivals that are not byte for byte what was sent.
    pub altered: u64,
    /// Refusals with `QUEUE_FULL`.
    pub queue_full: u64,
    /// Refusals with `RATE_LIMITED`.
    pub rate_limited: u64,
    /// Other envelopes of the relay.
    pub unexpected: u64,
    /// How often a flow gave up waiting for what it had in flight.
    pub stalls: u64,
    /// Connections that ended, by what ended them.
    pub disconnects: Tally,
}

impl Account {
    /// Whether every envelope arrived once, in order and as it was sent, and nothing else happened.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let faults = self.lost + self.duplicated + self.reordered + self.altered;
        let refusals = self.queue_full + self.rate_limited + self.unexpected;
        faults + refusals == 0 && self.disconnects.total() == 0
    }
}

/// What arrived while the clock ran.
#[derive(Debug)]
pub(super) struct Measured {
    begin: u64,
    pub(super) seconds: f64,
    pub(super) messages: u64,
    /// In nanoseconds.
    pub(super) latency: Histogram<u64>,
}

/// Flow `n` is from agent `2n` to agent `2n + 1`.
#[derive(Debug)]
pub(super) struct Traffic {
    flows: Vec<Flow>,
    /// The flows that may have room in their windows.
    ready: Vec<usize>,
    heard: Account,
    measured: Option<Measured>,
    last_arrival: u64,
    scratch: Vec<u8>,
}

impl Traffic {
    pub(super) fn new(flows: Vec<Flow>) -> Self {
        Self {
            ready: (0..flows.len()).collect(),
            flows,
            heard: Account::default(),
            measured: None,
            last_arrival: 0,
            scratch: Vec::new(),
        }
    }

    /// Sends nothing for `duration`.
    pub(super) fn rest(&mut self, clients: &mut Clients, duration: Duration) -> io::Result<()> {
        let end = clients.now() + nanos(duration);
        while let Some(left) = end.checked_sub(clients.now()).filter(|left| *left > 0) {
            let left = Duration::from_nanos(left);
            clients.poll(left, |agent, event| self.take(agent, event))?;
        }
        Ok(())
    }

    /// Keeps the windows full for `duration`.
    pub(super) fn run(&mut self, clients: &mut Clients, duration: Duration) -> io::Result<()> {
        let end = clients.now() + nanos(duration);
        let mut next_check = 0;
        loop {
            for flow in core::mem::take(&mut self.ready) {
                self.flows[flow].fill(clients, &mut self.scratch);
            }
            clients.poll(TICK, |agent, event| self.take(agent, event))?;
            let now = clients.now();
            if now >= next_check {
                self.release_stalled(now);
                next_check = now + STALL / 10;
            }
            if now >= end {
                return Ok(());
            }
        }
    }

    /// Does the same, and measures.
    pub(super) fn measure(
        &mut self,
        clients: &mut Clients,
        duration: Duration,
    ) -> io::Result<Measured> {
        let begin = clients.now();
        self.measured = Some(Measured {
            begin,
            seconds: 0.0,
            messages: 0,
            latency: Histogram::new_with_max(LONGEST, 3).expect("sound bounds"),
        });
        self.run(clients, duration)?;
        let mut measured = self.measured.take().expect("it was just put there");
        measured.seconds = Duration::from_nanos(clients.now() - begin).as_secs_f64();
        Ok(measured)
    }

    /// Sends nothing more, and waits for what is on its way.
    pub(super) fn drain(&mut self, clients: &mut Clients) -> io::Result<()> {
        self.last_arrival = clients.now();
        while self.is_waiting() && clients.now() < self.last_arrival + SILENCE {
            clients.poll(TICK, |agent, event| self.take(agent, event))?;
        }
        Ok(())
    }

    /// Ends all connections. What comes to a recipient until then, and has come before, is a
    /// duplicate. What senders hear is no account of anything: who leaves before it has confirmed
    /// what it got, makes the relay tell them that it may not have arrived.
    pub(super) fn leave(&mut self, clients: &mut Clients) -> io::Result<()> {
        clients.leave(|agent, event| {
            if let Event::Received { envelope, at } = event
                && is_recipient(agent)
            {
                self.received(agent, envelope, at);
            }
        })
    }

    fn is_waiting(&self) -> bool {
        let account = self.account();
        account.arrived + account.queue_full + account.rate_limited < account.sent
    }

    /// How the run has gone.
    pub(super) fn account(&self) -> Account {
        let sum = |of: fn(&Flow) -> u64| self.flows.iter().map(of).sum::<u64>();
        let mut account = self.heard.clone();
        account.sent = sum(Flow::sent);
        account.arrived = sum(|flow| flow.arrivals.arrived());
        account.duplicated = sum(|flow| flow.arrivals.duplicated());
        account.reordered = sum(|flow| flow.arrivals.reordered());
        let answered = account.arrived + account.queue_full + account.rate_limited;
        account.lost = account.sent.saturating_sub(answered);
        account
    }

    fn take(&mut self, agent: usize, event: Event<'_>) {
        match event {
            Event::Received { envelope, at } => self.received(agent, envelope, at),
            Event::Drained => self.ready.push(agent / 2),
            Event::Ended(ending) => {
                self.heard.disconnects.add(&ending);
                self.flows[agent / 2].open = false;
            }
            Event::Joined => {}
        }
    }

    #[inline]
    fn received(&mut self, agent: usize, envelope: &[u8], at: u64) {
        let index = agent / 2;
        let flow = &mut self.flows[index];
        let stamp = if is_recipient(agent) {
            flow.recognise(envelope)
        } else {
            None
        };
        let Some(stamp) = stamp else {
            return self.other(envelope);
        };
        self.last_arrival = at;
        if self.ready.last() != Some(&index) {
            self.ready.push(index);
        }
        if flow.arrived(stamp, at)
            && let Some(measured) = &mut self.measured
        {
            measured.messages += 1;
            // What was sent before has waited while nothing was measured.
            if stamp.sent_at >= measured.begin {
                let latency = at.saturating_sub(stamp.sent_at);
                measured.latency.saturating_record(latency);
            }
        }
    }

    /// What is not one of our envelopes.
    fn other(&mut self, envelope: &[u8]) {
        let view = EnvelopeView::parse(envelope);
        let count = match view.ok().and_then(|view| view.message_type()) {
            Some(MessageType::QueueFull) => &mut self.heard.queue_full,
            Some(MessageType::RateLimited) => &mut self.heard.rate_limited,
            Some(kind) if kind.is_relay_only() => &mut self.heard.unexpected,
            Some(_) | None => &mut self.heard.altered,
        };
        *count += 1;
    }

    fn release_stalled(&mut self, now: u64) {
        for (index, flow) in self.flows.iter_mut().enumerate() {
            if flow.release_stalled(now, STALL) {
                self.heard.stalls += 1;
                self.ready.push(index);
            }
        }
    }
}

const fn is_recipient(agent: usize) -> bool {
    agent % 2 == 1
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
