//! What the queue does in a second, and what it takes on the disk and in memory.
//!
//! `cargo bench -p pinch-store-redb -- [--count ENVELOPES] [--directory DIRECTORY]`; a million
//! envelopes go in and out unless another number is given, in a temporary directory. With `--limit
//! BYTES`, queues are filled up to that limit instead, and it is measured how large the file becomes
//! and how long it takes to open it, after a crash, too.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it finds")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the numbers of a benchmark are small"
)]

mod load;

use core::error::Error;
use std::path::PathBuf;

use pinch_store_redb::RedbStore;

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments {
        count,
        limit,
        directory,
    } = arguments()?;
    let temporary = match directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let path = temporary.path().join("relay.queue");
    if let Some(limit) = limit {
        return load::limit::run_all(limit, temporary.path());
    }
    load::run_all(count, &path, || RedbStore::open(&path))
}

struct Arguments {
    count: u64,
    limit: Option<u64>,
    directory: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let (mut count, mut limit, mut directory) = (1_000_000, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--count" => count = value()?.parse()?,
            "--limit" => limit = Some(value()?.parse()?),
            "--directory" => directory = Some(value()?.into()),
            // cargo bench says so to every benchmark.
            "--bench" => {}
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    Ok(Arguments {
        count,
        limit,
        directory,
    })
}
