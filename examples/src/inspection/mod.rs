//! `queue inspect`: for whom how many envelopes wait in the queue of a relay, and since when. What
//! is in them stays between the agents.

use core::time::Duration;
use std::io::{self, Write};
use std::process::ExitCode;

use bytesize::ByteSize;
use jiff::Timestamp;
use pinch_proto::UnixMillis;
use pinch_store_redb::{Inspection, OpenError, RedbStore, Waiting};
use serde::Serialize;
use thiserror::Error;

use crate::options::InspectOptions;
use crate::terminal::{json, plain};

/// Why there is nothing to see.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The queue cannot be opened.
    #[error("{0} [--db PATH, PINCH_RELAY_DB]")]
    Queue(#[from] OpenError),
    /// What is in it cannot be said.
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

/// Prints what waits in a queue. Gives the exit code of the program.
#[must_use]
pub fn main(options: &InspectOptions) -> ExitCode {
    match inspect(options, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn inspect(options: &InspectOptions, out: &mut impl Write) -> Result<(), Failure> {
    let inspection = RedbStore::inspect(&options.path)?;
    if options.json {
        writeln!(
            out,
            "{}",
            json(&Report::of(&inspection)).map_err(io::Error::from)?
        )?;
    } else {
        write_table(&inspection, Timestamp::now(), out)?;
    }
    Ok(out.flush()?)
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    count: u64,
    bytes: u64,
    blocks: u64,
    recipients: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    recipient: &'a str,
    count: u64,
    bytes: u64,
    oldest: String,
    newest: String,
}

impl<'a> Report<'a> {
    fn of(inspection: &'a Inspection) -> Self {
        let row = |waiting: &'a Waiting| Row {
            recipient: waiting.recipient.as_str(),
            count: waiting.count,
            bytes: waiting.bytes,
            oldest: timestamp(waiting.oldest).to_string(),
            newest: timestamp(waiting.newest).to_string(),
        };
        Self {
            count: inspection.count,
            bytes: inspection.bytes,
            blocks: inspection.blocks,
            recipients: inspection.recipients.iter().map(row).collect(),
        }
    }
}

fn write_table(inspection: &Inspection, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let Inspection { recipients, .. } = inspection;
    if !recipients.is_empty() {
        let header = ["RECIPIENT", "ENVELOPES", "SIZE", "OLDEST", "NEWEST"].map(str::to_owned);
        let rows = recipients.iter().map(|waiting| {
            [
                plain(waiting.recipient.as_str()),
                waiting.count.to_string(),
                ByteSize(waiting.bytes).display().iec().to_string(),
                age(waiting.oldest, now),
                age(waiting.newest, now),
            ]
        });
        let table: Vec<_> = core::iter::once(header).chain(rows).collect();
        let width = |column: usize| table.iter().map(move |row| row[column].len()).max();
        let widths = [0, 1, 2, 3].map(|column| width(column).unwrap_or(0));
        for [recipient, count, size, oldest, newest] in &table {
            let [a, b, c, d] = widths;
            writeln!(
                out,
                "{recipient:<a$}  {count:>b$}  {size:>c$}  {oldest:<d$}  {newest}"
            )?;
        }
        writeln!(out)?;
    }
    let (count, size) = (inspection.count, ByteSize(inspection.bytes).display().iec());
    let (agents, blocks) = (recipients.len(), inspection.blocks);
    writeln!(
        out,
        "envelopes: {count} ({size}), recipients: {agents}, blocks: {blocks}"
    )
}

/// When `millis` was. Times beyond the calendar, which only a wrong clock brings about, become its
/// ends.
fn timestamp(UnixMillis(millis): UnixMillis) -> Timestamp {
    let beyond = if millis < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_millisecond(millis).unwrap_or(beyond)
}

/// How long ago that was, in the two largest units.
fn age(then: UnixMillis, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(timestamp(then).as_second());
    match u64::try_from(seconds) {
        Ok(0) => "now".to_owned(),
        Ok(seconds) => {
            let age = humantime::format_duration(Duration::from_secs(seconds)).to_string();
            let units: Vec<_> = age.split(' ').take(2).collect();
            format!("{} ago", units.join(" "))
        }
        Err(_) => "in the future".to_owned(),
    }
}

#[cfg(test)]
mod tests;
