//! `queue inspect`: for whom how many envelopes wait in the queue of a relay, and since when; who blocks
//! how many others, and was seen when. What is in the envelopes stays between the agents, and so does
//! who is blocked.

use core::time::Duration;
use std::io::{self, Write};
use std::process::ExitCode;

use bytesize::ByteSize;
use jiff::Timestamp;
use pinch_proto::UnixMillis;
use pinch_store_redb::{BlockList, Inspection, OpenError, RedbStore, Waiting};
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
    block_lists: Vec<ListRow<'a>>,
}

#[derive(Serialize)]
struct ListRow<'a> {
    owner: &'a str,
    count: u64,
    seen: Option<String>,
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
        let list = |list: &'a BlockList| ListRow {
            owner: list.owner.as_str(),
            count: list.count,
            seen: list.seen.map(|seen| timestamp(seen).to_string()),
        };
        Self {
            count: inspection.count,
            bytes: inspection.bytes,
            blocks: inspection.blocks,
            recipients: inspection.recipients.iter().map(row).collect(),
            block_lists: inspection.block_lists.iter().map(list).collect(),
        }
    }
}

fn write_table(inspection: &Inspection, now: Timestamp, out: &mut impl Write) -> io::Result<()> {
    let Inspection {
        recipients,
        block_lists,
        ..
    } = inspection;
    let header = ["RECIPIENT", "ENVELOPES", "SIZE", "OLDEST", "NEWEST"];
    let rows = recipients.iter().map(|waiting| {
        [
            plain(waiting.recipient.as_str()),
            waiting.count.to_string(),
            ByteSize(waiting.bytes).display().iec().to_string(),
            age(waiting.oldest, now),
            age(waiting.newest, now),
        ]
    });
    write_rows(header, rows, [false, true, true, false, false], out)?;
    let rows = block_lists.iter().map(|list| {
        [
            plain(list.owner.as_str()),
            list.count.to_string(),
            list.seen.map_or("unknown".into(), |seen| age(seen, now)),
        ]
    });
    write_rows(["OWNER", "BLOCKS", "SEEN"], rows, [false, true, false], out)?;
    let (count, size) = (inspection.count, ByteSize(inspection.bytes).display().iec());
    let (agents, blocks) = (recipients.len(), inspection.blocks);
    writeln!(
        out,
        "envelopes: {count} ({size}), recipients: {agents}, blocks: {blocks}"
    )
}

/// Writes a table and an empty line, unless there are no rows. Where `is_number`, a column is flush right.
fn write_rows<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    is_number: [bool; N],
    out: &mut impl Write,
) -> io::Result<()> {
    let table: Vec<_> = core::iter::once(header.map(str::to_owned))
        .chain(rows)
        .collect();
    if table.len() == 1 {
        return Ok(());
    }
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    for row in &table {
        let cells = row.iter().zip(&widths).zip(is_number);
        let cells = cells.map(|((cell, width), is_number)| match is_number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
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
