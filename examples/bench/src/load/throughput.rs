//! How many envelopes a relay relays, what each costs it, and how long each takes.

use core::time::Duration;
use std::collections::BTreeMap;

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::clients::Clients;
use super::flow::Flow;
use super::identity::{Identity, identities};
use super::joining::{Joins, join_all};
use super::target::{Auth, Target, at_least_one};
use super::template::Template;
use super::traffic::{Account, Traffic};
use super::{LoadError, descriptors, duration};
use crate::process::Sample;

/// How long a relay may do what follows a join.
const SETTLE: Duration = Duration::from_millis(300);

/// Pairs of agents; each sender keeps a number of envelopes in flight.
#[derive(Args, Clone, Debug)]
pub struct Throughput {
    /// The relay
    #[command(flatten)]
    pub target: Target,
    /// How many pairs of agents
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub pairs: usize,
    /// Bytes of ciphertext in an envelope
    #[arg(long, default_value_t = 256)]
    pub size: usize,
    /// Envelopes that each sender keeps in flight
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub window: usize,
    /// Seconds that are measured
    #[arg(long, default_value = "10", value_parser = duration)]
    pub secs: Duration,
    /// Seconds of the same load before that
    #[arg(long, default_value = "1", value_parser = duration)]
    pub warmup: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct ThroughputReport {
    /// `throughput`.
    pub scenario: &'static str,
    /// Where the relay was.
    pub url: String,
    /// How the agents joined.
    pub auth: Auth,
    /// How many pairs there were.
    pub pairs: usize,
    /// Bytes of ciphertext in an envelope.
    pub size: usize,
    /// Envelopes that each sender kept in flight.
    pub window: usize,
    /// Bytes of a whole envelope.
    pub envelope_bytes: usize,
    /// How joining went.
    pub joins: Joins,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Envelopes that arrived in that time.
    pub messages: u64,
    /// Of them per second.
    pub messages_per_second: f64,
    /// Microseconds from framing an envelope to the read that brought it: quantiles, the mean and
    /// the longest.
    pub latency_us: BTreeMap<&'static str, f64>,
    /// CPU seconds of the relay for a million of them, if known.
    pub server_cpu_seconds_per_million: Option<f64>,
    /// The relay's share of one core, if known.
    pub server_cpu_percent: Option<f64>,
    /// The share of one core of this process, if known.
    pub client_cpu_percent: Option<f64>,
    /// `RssAnon` of the relay in the end, if known.
    pub server_anonymous_bytes: Option<u64>,
    /// Everything that was sent, the warm-up too.
    pub account: Account,
}

/// Puts the load on the relay, and measures.
///
/// # Errors
/// [`LoadError`] says why nothing could be measured.
pub fn run(options: &Throughput) -> Result<ThroughputReport, LoadError> {
    let target = &options.target;
    let endpoint = target.endpoint()?;
    descriptors(2 * options.pairs)?;
    let agents = identities(2 * options.pairs, &target.host)?;
    let mut clients = Clients::new(endpoint, target.spin)?;
    let joins = join_all(&mut clients, &agents, target.concurrency)?;
    if joins.joined < agents.len() {
        return Err(LoadError::NotAllJoined(joins.failed));
    }
    let flows = flows(options, &agents, &clients)?;
    let envelope_bytes = flows.first().map_or(0, Flow::envelope_len);
    let mut traffic = Traffic::new(flows);
    traffic.rest(&mut clients, SETTLE)?;

    traffic.run(&mut clients, options.warmup)?;
    let before = (target.sample(), Sample::of_self());
    let measured = traffic.measure(&mut clients, options.secs)?;
    let after = (target.sample(), Sample::of_self());
    traffic.drain(&mut clients)?;
    traffic.leave(&mut clients)?;

    let cpu = after.0.cpu_seconds_since(&before.0);
    Ok(ThroughputReport {
        scenario: "throughput",
        url: target.url.clone(),
        auth: target.auth,
        pairs: options.pairs,
        size: options.size,
        window: options.window,
        envelope_bytes,
        joins,
        seconds: measured.seconds,
        messages: measured.messages,
        messages_per_second: measured.messages as f64 / measured.seconds,
        latency_us: quantiles(&measured.latency),
        server_cpu_seconds_per_million: cpu
            .filter(|_| measured.messages > 0)
            .map(|seconds| seconds * 1e6 / measured.messages as f64),
        server_cpu_percent: after.0.cpu_percent_since(&before.0),
        client_cpu_percent: after.1.cpu_percent_since(&before.1),
        server_anonymous_bytes: after.0.anonymous_bytes(),
        account: traffic.account(),
    })
}

fn flows(
    options: &Throughput,
    agents: &[Identity],
    clients: &Clients,
) -> Result<Vec<Flow>, LoadError> {
    let pairs = agents.chunks_exact(2).enumerate();
    pairs
        .map(|(index, pair)| {
            let sender = 2 * index;
            let mask = clients.mask(sender);
            let template = Template::new(&pair[0], &pair[1], options.size, mask)?;
            Ok(Flow::new(sender, template, options.window, clients.now()))
        })
        .collect()
}

fn quantiles(nanos: &Histogram<u64>) -> BTreeMap<&'static str, f64> {
    let at = |quantile| nanos.value_at_quantile(quantile) as f64 / 1e3;
    BTreeMap::from([
        ("p50", at(0.5)),
        ("p90", at(0.9)),
        ("p99", at(0.99)),
        ("p99_9", at(0.999)),
        ("max", nanos.max() as f64 / 1e3),
        ("mean", nanos.mean() / 1e3),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut nanos = Histogram::new(3).unwrap();
        for value in 1..=1000 {
            nanos.record(value * 1000).unwrap();
        }
        let quantiles = quantiles(&nanos);
        for (name, expected) in [("p50", 500.0), ("p90", 900.0), ("p99", 990.0), ("max", 1e3)] {
            let found = quantiles[name];
            assert!((found / expected - 1.0).abs() < 0.002, "{name}: {found}");
        }
        assert!((quantiles["mean"] / 500.5 - 1.0).abs() < 0.002);
        assert!(quantiles["p99_9"] > quantiles["p99"]);
    }
}
