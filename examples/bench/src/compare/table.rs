//! The results as tables in Markdown, which people can read as they are.

use std::io::{self, Write};

use super::load::{BURST, CONVERSATION, LARGE_MESSAGES, SHAPES, Shape};
use super::results::{Comparison, Measured};
use crate::figures::{decimal, grouped};
use crate::load::Account;

#[cfg(test)]
mod tests;

/// What stands where nothing is known.
const UNKNOWN: &str = "–";

/// What is told of traffic.
#[derive(Clone, Copy)]
enum Figure {
    Rate,
    Cpu,
    Latency(&'static str),
}

impl Figure {
    fn of(self, relay: &Measured, shape: Shape) -> Option<f64> {
        relay.throughput(shape, |report| match self {
            Self::Rate => Some(report.messages_per_second),
            Self::Cpu => report.server_cpu_seconds_per_million,
            Self::Latency(quantile) => report.latency_us.get(quantile).copied(),
        })
    }
}

/// Writes everything that there is to say.
pub(super) fn write(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}, {}", comparison.date, comparison.machine)?;
    writeln!(
        out,
        "`{}`: {}; × is the ratio to the floor",
        comparison.command,
        comparison.extent()
    )?;
    for shape in SHAPES {
        write_shape(comparison, shape, out)?;
    }
    write_idle(comparison, out)?;
    write_summary(comparison, out)?;
    writeln!(out, "\n{}", faults(comparison))
}

/// Writes what the relays are held to: a line each.
fn write_summary(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    const SHAPES: [Shape; 3] = [BURST, CONVERSATION, LARGE_MESSAGES];
    let floor = comparison.floor();
    let rows = comparison.relays.iter().map(|relay| {
        let ratio = |shape| Some(Figure::Cpu.of(relay, shape)? / Figure::Cpu.of(floor?, shape)?);
        let mut row = vec![relay.name.clone()];
        row.extend(SHAPES.map(|shape| or_unknown(ratio(shape), ratio_text)));
        row.push(or_unknown(
            relay.idle(|report| report.anonymous_bytes_joined),
            grouped,
        ));
        row.push(or_unknown(
            relay.idle(|report| report.anonymous_bytes_after_envelope),
            grouped,
        ));
        row
    });
    let mut header = vec!["CPU per message, × floor"];
    header.extend(SHAPES.map(|shape| shape.name));
    header.extend(["bytes, idle", "bytes, after 64 KiB"]);
    write_table(&header, &rows.collect::<Vec<_>>(), out)
}

fn write_shape(comparison: &Comparison, shape: Shape, out: &mut impl Write) -> io::Result<()> {
    let floor = comparison.floor();
    let rows = comparison.relays.iter().map(|relay| {
        let of = |figure: Figure| figure.of(relay, shape);
        let ratio = |figure: Figure| Some(of(figure)? / figure.of(floor?, shape)?);
        vec![
            relay.name.clone(),
            or_unknown(of(Figure::Rate), grouped),
            or_unknown(ratio(Figure::Rate), ratio_text),
            or_unknown(of(Figure::Cpu), decimal),
            or_unknown(ratio(Figure::Cpu), ratio_text),
            or_unknown(of(Figure::Latency("p50")), decimal),
            or_unknown(of(Figure::Latency("p99")), decimal),
        ]
    });
    let header = [
        shape.what,
        "messages/s",
        "×",
        "CPU s per million",
        "×",
        "p50 µs",
        "p99 µs",
    ];
    write_table(&header, &rows.collect::<Vec<_>>(), out)
}

fn write_idle(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let rows = comparison.relays.iter().map(|relay| {
        vec![
            relay.name.clone(),
            or_unknown(relay.idle(|report| report.anonymous_bytes_joined), grouped),
            or_unknown(
                relay.idle(|report| report.anonymous_bytes_after_envelope),
                grouped,
            ),
            or_unknown(
                relay.idle(|report| report.server_cpu_seconds_per_1000_joins),
                decimal,
            ),
            or_unknown(relay.idle(|report| Some(report.joins.per_second)), grouped),
        ]
    });
    let header = [
        &format!(
            "{} idle connections",
            grouped(comparison.connections as f64)
        ),
        "RssAnon each",
        "after 64 KiB to each",
        "CPU s per 1,000 joins",
        "joins/s",
    ];
    write_table(&header, &rows.collect::<Vec<_>>(), out)
}

fn or_unknown(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

fn ratio_text(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// The first column is text, the others are numbers.
fn write_table(header: &[&str], rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|text| text.chars().count()).collect();
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    writeln!(out)?;
    write_row(header, &widths, out)?;
    for (column, width) in widths.iter().enumerate() {
        let (dashes, colon) = if column == 0 {
            (width + 2, "")
        } else {
            (width + 1, ":")
        };
        write!(out, "|{}{colon}", "-".repeat(dashes))?;
    }
    writeln!(out, "|")?;
    for row in rows {
        write_row(row, &widths, out)?;
    }
    Ok(())
}

fn write_row(row: &[impl AsRef<str>], widths: &[usize], out: &mut impl Write) -> io::Result<()> {
    for (column, (text, width)) in row.iter().zip(widths).enumerate() {
        let text = text.as_ref();
        if column == 0 {
            write!(out, "| {text:<width$} ")?;
        } else {
            write!(out, "| {text:>width$} ")?;
        }
    }
    writeln!(out, "|")
}

/// Whether every envelope arrived as it should, and of which relays it did not.
fn faults(comparison: &Comparison) -> String {
    let relays = comparison.relays.iter();
    let mut faulty: Vec<String> = relays.clone().filter_map(faults_of).collect();
    let sent: u64 = relays
        .flat_map(Measured::accounts)
        .map(|account| account.sent)
        .sum();
    let sent = grouped(sent as f64);
    if faulty.is_empty() {
        return format!(
            "Of {sent} envelopes, none was lost, duplicated, reordered, altered or refused."
        );
    }
    faulty.insert(
        0,
        format!("Of {sent} envelopes, not all arrived once, in order and as sent:"),
    );
    faulty.join("\n- ")
}

fn faults_of(relay: &Measured) -> Option<String> {
    if relay.is_clean() {
        return None;
    }
    let (lost_idle, dropped_idle) = (relay.lost_idle(), relay.dropped_idle());
    let sum = |of: fn(&Account) -> u64| relay.accounts().map(of).sum::<u64>();
    let disconnects: usize = relay
        .accounts()
        .map(|account| account.disconnects.total())
        .sum();
    Some(format!(
        "{}: lost {}, duplicated {}, reordered {}, altered {}, unexpected {}, refused {}, disconnects {}, failures: {}",
        relay.name,
        sum(|account| account.lost) + lost_idle as u64,
        sum(|account| account.duplicated),
        sum(|account| account.reordered),
        sum(|account| account.altered),
        sum(|account| account.unexpected),
        sum(|account| account.queue_full + account.rate_limited),
        disconnects + dropped_idle,
        if relay.failures.is_empty() {
            "none".to_owned()
        } else {
            relay.failures.join("; ")
        },
    ))
}
