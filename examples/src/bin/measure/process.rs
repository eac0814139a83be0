//! What a process holds and uses, as Linux tells it.

use core::iter::Sum;
use core::time::Duration;
use std::fs;
use std::io;

/// What a process holds, in KiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) rss: u64,
    /// What of it is not shared with a file.
    pub(crate) anonymous: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read {path}: {error}"))
        })?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .ok_or_else(|| io::Error::other(format!("{path} does not tell {name}")))
        };
        Ok(Self {
            rss: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
        })
    }

    /// How many bytes have become resident since `before`, for each of `connections`.
    pub(crate) fn per_connection(self, before: Self, connections: usize) -> u64 {
        each(self.rss, before.rss, connections)
    }

    /// One line about `self`, and the growth since `before` for each of `connections`.
    pub(crate) fn line(self, what: &str, before: Self, connections: usize) -> String {
        format!(
            "{what:<32} VmRSS {:>7} KiB, {:>5} B per connection; RssAnon {:>7} KiB, {:>5} B per connection",
            self.rss,
            each(self.rss, before.rss, connections),
            self.anonymous,
            each(self.anonymous, before.anonymous, connections),
        )
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(memories: I) -> Self {
        let none = Self {
            rss: 0,
            anonymous: 0,
        };
        memories.fold(none, |sum, memory| Self {
            rss: sum.rss + memory.rss,
            anonymous: sum.anonymous + memory.anonymous,
        })
    }
}

/// The CPU time that this process has used, and the kernel on its behalf.
#[cfg(unix)]
pub(crate) fn own_cpu_time() -> io::Result<Duration> {
    use rustix::time::{ClockId, clock_gettime};

    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).map_err(io::Error::other)
}

#[cfg(not(unix))]
pub(crate) fn own_cpu_time() -> io::Result<Duration> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// The growth in bytes, for each of `connections`.
fn each(now: u64, before: u64, connections: usize) -> u64 {
    let grown = now.saturating_sub(before) * 1024;
    grown / u64::try_from(connections.max(1)).unwrap_or(u64::MAX)
}
