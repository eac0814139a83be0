//! The report for people.

use core::fmt::{self, Write};

use super::{Fates, SiegeReport};

const MIB: f64 = 1024.0 * 1024.0;

/// Appends the report.
///
/// # Errors
/// As `out`.
pub fn describe(report: &SiegeReport, out: &mut impl Write) -> fmt::Result {
    writeln!(
        out,
        "a siege of {:.0} s by {} attackers\n",
        report.seconds, report.attackers
    )?;
    for (attack, deed) in &report.attacks {
        writeln!(
            out,
            "{:<10} {:>5} attackers, {} joins, sent {}, received {}, rejected {}",
            format!("{attack:?}").to_lowercase(),
            deed.attackers,
            deed.joins,
            deed.sent,
            deed.received,
            deed.rejected
        )?;
        writeln!(out, "           ended: {}", deed.endings)?;
    }
    writeln!(out)?;
    fates("honest pairs", &report.honest, out)?;
    let Fates {
        p50_ms,
        p99_ms,
        max_ms,
        late_p99_ms,
        ..
    } = report.honest;
    writeln!(
        out,
        "  p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms (target 20), max {max_ms:.1} ms; sent late p99 {late_p99_ms:.1} ms"
    )?;
    fates("for the victim", &report.victim, out)?;

    let relay = &report.relay;
    writeln!(out, "\nmemory that the limits allow")?;
    for bound in &report.bounds {
        let mib = bound.bytes as f64 / MIB;
        writeln!(out, "  {mib:>7.1} MiB  {}", bound.what)?;
    }
    let sum = report.bound() as f64 / MIB;
    let peak = relay.peak_bytes.map(|bytes| bytes as f64 / MIB);
    if let (Some(peak), Some(ratio)) = (peak, report.memory_ratio()) {
        writeln!(
            out,
            "  {sum:>7.1} MiB  in all; the relay had up to {peak:.1} MiB: {ratio:.2} (target 1.3)"
        )?;
    }
    if let Some(cpu) = relay.cpu_seconds {
        writeln!(out, "relay, CPU time {cpu:.1} s")?;
    }
    writeln!(
        out,
        "relay, /health: answered {}, unanswered {}, slowest {:.0} ms, up to {} connections, states {:?}",
        relay.answered,
        relay.unanswered,
        relay.slowest_answer_ms,
        relay.most_connections,
        relay.states
    )?;
    writeln!(out, "its last answer: {}", relay.health)?;
    let verdict = if report.is_sound() {
        "nothing was lost"
    } else {
        "NOT as it should be"
    };
    writeln!(out, "\n{verdict}")
}

fn fates(name: &str, fates: &Fates, out: &mut impl Write) -> fmt::Result {
    writeln!(
        out,
        "{name}: sent {}, arrived {}, rejected {}, lost {}, duplicated {}, reordered {}; disconnects: {}",
        fates.sent,
        fates.arrived,
        fates.rejected,
        fates.lost,
        fates.duplicated,
        fates.reordered,
        fates.disconnects
    )
}
