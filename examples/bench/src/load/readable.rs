//! Reports for people; programs read the same as JSON.

use core::fmt::{self, Write};

use super::idle::IdleReport;
use super::throughput::ThroughputReport;
use super::traffic::Account;

/// What stands where nothing is known.
const UNKNOWN: &str = "unknown (told by Linux, with --pid)";

fn known(value: Option<f64>, decimals: usize, unit: &str) -> String {
    value.map_or_else(
        || UNKNOWN.to_owned(),
        |value| format!("{value:.decimals$} {unit}"),
    )
}

/// The report of a throughput, line by line.
///
/// # Errors
/// `out` cannot be written.
pub fn describe_throughput(report: &ThroughputReport, out: &mut impl Write) -> fmt::Result {
    writeln!(
        out,
        "{} pairs, envelopes of {} bytes, {} in flight each, {:.1} s",
        report.pairs, report.envelope_bytes, report.window, report.seconds
    )?;
    writeln!(out, "messages/s      {:.0}", report.messages_per_second)?;
    let latency = |name| report.latency_us.get(name).copied().unwrap_or_default();
    let [p50, p99, p99_9, max] = ["p50", "p99", "p99_9", "max"].map(latency);
    writeln!(
        out,
        "latency         p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p99_9:.1} µs, longest {max:.1} µs"
    )?;
    let per_million = known(report.server_cpu_seconds_per_million, 3, "s per million");
    writeln!(out, "relay, CPU      {per_million}")?;
    let share = known(report.server_cpu_percent, 0, "% of a core");
    writeln!(out, "relay, busy     {share}")?;
    let share = known(report.client_cpu_percent, 0, "% of a core");
    writeln!(out, "generator, busy {share}")?;
    describe_account(&report.account, out)
}

fn describe_account(account: &Account, out: &mut impl Write) -> fmt::Result {
    writeln!(
        out,
        "sent {}, arrived {}, lost {}, duplicated {}, reordered {}, altered {}",
        account.sent,
        account.arrived,
        account.lost,
        account.duplicated,
        account.reordered,
        account.altered
    )?;
    writeln!(
        out,
        "QUEUE_FULL {}, RATE_LIMITED {}, unexpected {}, stalls {}, disconnects: {}",
        account.queue_full,
        account.rate_limited,
        account.unexpected,
        account.stalls,
        account.disconnects
    )
}

/// The report of idle agents, line by line.
///
/// # Errors
/// `out` cannot be written.
pub fn describe_idle(report: &IdleReport, out: &mut impl Write) -> fmt::Result {
    let joins = &report.joins;
    writeln!(
        out,
        "{} agents joined in {:.2} s, {:.0} per second",
        joins.joined, joins.seconds, joins.per_second
    )?;
    let cpu = known(report.server_cpu_seconds_per_1000_joins, 3, "s");
    writeln!(out, "relay, CPU for 1,000 joins           {cpu}")?;
    let bytes = |value| known(value, 0, "bytes of RssAnon");
    let joined = bytes(report.anonymous_bytes_joined);
    writeln!(out, "relay, per agent that has joined     {joined}")?;
    if let Some(envelope) = report.envelope_bytes {
        let after = bytes(report.anonymous_bytes_after_envelope);
        writeln!(out, "after an envelope of {envelope:>6} bytes    {after}")?;
    }
    let held = bytes(report.anonymous_bytes_after_hold);
    writeln!(out, "after all have stayed                {held}")?;
    let busy = known(report.server_cpu_percent_while_idle, 2, "% of a core");
    writeln!(out, "relay, busy while they stayed        {busy}")?;
    writeln!(
        out,
        "pings answered {}, envelopes lost {}, disconnects: {}",
        report.pings, report.envelopes_lost, report.disconnects
    )
}
