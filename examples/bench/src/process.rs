//! What the system says about a process: the CPU time it has used and the memory it holds.
//!
//! It comes from the `/proc` of Linux. Elsewhere nothing is known, and nothing is made up.

#[cfg(target_os = "linux")]
use std::fs;
use std::time::Instant;

/// What a process had used and held at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    cpu_seconds: f64,
    anonymous_bytes: u64,
}

impl Sample {
    /// Looks at the process `pid`, if there is one to look at.
    #[must_use]
    pub fn of(pid: Option<u32>) -> Self {
        Self {
            usage: pid.and_then(usage),
            at: Instant::now(),
        }
    }

    /// Looks at this process.
    #[must_use]
    pub fn of_self() -> Self {
        Self::of(Some(std::process::id()))
    }

    /// Whether anything is known.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.usage.is_some()
    }

    /// The CPU seconds between `earlier` and this, of the process and of the kernel on its behalf.
    #[must_use]
    pub fn cpu_seconds_since(&self, earlier: &Self) -> Option<f64> {
        Some(self.usage?.cpu_seconds - earlier.usage?.cpu_seconds)
    }

    /// The same as a share of one core, in percent.
    #[must_use]
    pub fn cpu_percent_since(&self, earlier: &Self) -> Option<f64> {
        let elapsed = self.at.duration_since(earlier.at).as_secs_f64();
        Some(100.0 * self.cpu_seconds_since(earlier)? / elapsed)
    }

    /// The bytes of memory that are resident and not shared with a file (`RssAnon`).
    #[must_use]
    pub fn anonymous_bytes(&self) -> Option<u64> {
        Some(self.usage?.anonymous_bytes)
    }

    /// By how many of those bytes the process has grown since `earlier`.
    #[must_use]
    pub fn growth_since(&self, earlier: &Self) -> Option<f64> {
        Some(self.anonymous_bytes()? as f64 - earlier.anonymous_bytes()? as f64)
    }
}

#[cfg(target_os = "linux")]
fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = anonymous.split_whitespace().next()?.parse().ok()?;
    Some(Usage {
        cpu_seconds: cpu_seconds(pid)?,
        anonymous_bytes: kibibytes * 1024,
    })
}

#[cfg(not(target_os = "linux"))]
fn usage(_: u32) -> Option<Usage> {
    None
}

#[cfg(target_os = "linux")]
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything, parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    // Of `proc_pid_stat(5)`, fields 14 and 15; what follows the name is field 3.
    let mut ticks = fields.split_whitespace().skip(14 - 3);
    let user: u64 = ticks.next()?.parse().ok()?;
    let system: u64 = ticks.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_memory() {
        let before = Sample::of_self();
        let much = vec![1_u8; 64 << 20];
        let after = Sample::of_self();
        assert!(after.growth_since(&before).unwrap() > 32e6);
        assert!(after.cpu_seconds_since(&before).unwrap() >= 0.0);
        drop(much);
    }

    #[test]
    fn nothing_is_known_of_no_process() {
        assert!(!Sample::of(None).is_known());
        assert!(!Sample::of(Some(u32::MAX)).is_known());
        let sample = Sample::of_self();
        assert_eq!(sample.growth_since(&Sample::of(None)), None);
    }
}
