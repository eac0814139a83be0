//! What is worth an operator's while and may happen a thousand times a second: connections that end
//! abnormally, sockets that the system does not give, a store that fails.
//!
//! A peer must not be able to fill a disk with log lines. So each kind of report is one line when it
//! first happens, and then at most one line per [`INTERVAL`] with the number of times since.

use core::fmt;
use core::mem::{Discriminant, discriminant};
use core::time::Duration;
use std::io;

use pinch_proto::hub::{CloseCause, Violation};
use pinch_proto::peers::Source;
use pinch_proto::queue::Failure;
use pinch_proto::{Address, Time};
use tracing::{error, info, warn};

/// Minimum time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Something that happened. Its kind counts, the rest is an example.
#[derive(Debug)]
pub enum Report {
    /// A connection ended abnormally.
    Ended {
        /// The agent that it belonged to.
        agent: Address,
        /// The address that it came from.
        peer: Source,
        /// The reason.
        cause: CloseCause,
    },
    /// A connection was rejected before it joined.
    Rejected {
        /// The reason, as `/health` counts it.
        reason: &'static str,
        /// The address that it came from.
        from: Source,
    },
    /// The system gave no socket.
    NotAccepted(io::Error),
    /// The system gave no random bytes for a challenge.
    NoRandomness(getrandom::Error),
    /// The store failed.
    StoreFailed {
        /// Its name.
        store: String,
        /// The kind of the failure.
        failure: Failure,
        /// Its cause, in words.
        detail: Box<str>,
    },
    /// The store works after a failure.
    StoreWorks {
        /// Its name.
        store: String,
    },
}

/// What is counted together. There are only as many as the types have variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ended(Discriminant<CloseCause>),
    Violated(Discriminant<Violation>),
    Rejected(&'static str),
    NotAccepted,
    NoRandomness,
    StoreFailed(Failure),
    StoreWorks,
}

impl Report {
    /// The report of an end, unless it is a normal one.
    #[must_use]
    pub fn of_end(agent: &Address, peer: Source, cause: &CloseCause) -> Option<Self> {
        let is_abnormal = matches!(
            cause,
            CloseCause::Violation(_)
                | CloseCause::HeartbeatTimeout
                | CloseCause::TooSlow
                | CloseCause::ControlFlood
                | CloseCause::MessageTimeout
                | CloseCause::MessageEvicted
                | CloseCause::Lost
        );
        is_abnormal.then(|| Self::Ended {
            agent: agent.clone(),
            peer,
            cause: cause.clone(),
        })
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Ended {
                cause: CloseCause::Violation(violation),
                ..
            } => Kind::Violated(discriminant(violation)),
            Self::Ended { cause, .. } => Kind::Ended(discriminant(cause)),
            Self::Rejected { reason, .. } => Kind::Rejected(reason),
            Self::NotAccepted(_) => Kind::NotAccepted,
            Self::NoRandomness(_) => Kind::NoRandomness,
            Self::StoreFailed { failure, .. } => Kind::StoreFailed(*failure),
            Self::StoreWorks { .. } => Kind::StoreWorks,
        }
    }
}

/// A log line: the last report of a kind, and how many there were since the line before.
#[derive(Debug)]
pub struct Line {
    report: Report,
    count: u64,
}

impl Line {
    /// Writes it to the log. Call it without a lock.
    pub fn log(&self) {
        let count = self.count;
        match &self.report {
            Report::Ended { agent, peer, cause } => {
                let agent = Short(agent);
                info!(reason = %cause, %agent, %peer, count, "connection ended abnormally");
            }
            Report::Rejected { reason, from } => {
                info!(reason, peer = %from, count, "connections rejected before they joined");
            }
            Report::NotAccepted(error) => warn!(%error, count, "cannot accept a connection"),
            Report::NoRandomness(error) => error!(%error, count, "no randomness for a challenge"),
            Report::StoreFailed {
                store,
                failure,
                detail,
            } => error!(store, %failure, %detail, count, "the store fails"),
            Report::StoreWorks { store } => info!(store, count, "the store works again"),
        }
    }
}

/// Counts reports, and decides which of them become a line, and when.
#[derive(Debug, Default)]
pub struct Reports {
    windows: Vec<Window>,
}

/// A time in which reports of one kind are counted, after a line of that kind.
#[derive(Debug)]
struct Window {
    kind: Kind,
    until: Time,
    count: u64,
    last: Option<Report>,
}

impl Reports {
    /// Takes `report` in. Returns a line if it is the first of its kind for a while; then
    /// [`next_at`](Self::next_at) may be sooner than before.
    pub fn add(&mut self, report: Report, now: Time) -> Option<Line> {
        let kind = report.kind();
        if let Some(window) = self.windows.iter_mut().find(|window| window.kind == kind) {
            window.count += 1;
            window.last = Some(report);
            return None;
        }
        self.windows.push(Window {
            kind,
            until: now + INTERVAL,
            count: 0,
            last: None,
        });
        Some(Line { report, count: 1 })
    }

    /// The lines that are due at `now`.
    pub fn due(&mut self, now: Time) -> Vec<Line> {
        let mut lines = Vec::new();
        self.windows.retain_mut(|window| {
            if window.until > now {
                return true;
            }
            let line = window.take_line();
            let is_open = line.is_some();
            lines.extend(line);
            window.until = now + INTERVAL;
            is_open
        });
        lines
    }

    /// When lines may be due next.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.windows.iter().map(|window| window.until).min()
    }

    /// What was counted and has no line yet: for the end.
    pub fn rest(&mut self) -> Vec<Line> {
        let mut windows = core::mem::take(&mut self.windows);
        windows.iter_mut().filter_map(Window::take_line).collect()
    }
}

impl Window {
    fn take_line(&mut self) -> Option<Line> {
        let count = core::mem::take(&mut self.count);
        self.last.take().map(|report| Line { report, count })
    }
}

/// The beginning of an agent's name, enough to search for.
struct Short<'a>(&'a Address);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LENGTH: usize = 12;
        let name = self.0.name();
        match name.get(..LENGTH) {
            Some(start) if name.len() > LENGTH => write!(f, "{start}…"),
            Some(_) | None => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(cause: &CloseCause) -> Report {
        let agent = Address::parse("pinch:a-long-name-of-an-agent@relay").unwrap();
        Report::of_end(&agent, Source::of(None), cause).unwrap()
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn counts(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.count).collect()
    }

    #[test]
    fn the_first_of_a_kind_is_a_line_and_the_next_are_counted() {
        let mut reports = Reports::default();
        assert_eq!(reports.next_at(), None);
        let first = reports.add(ended(&CloseCause::Lost), at(1)).unwrap();
        assert_eq!(first.count, 1);
        assert_eq!(reports.next_at(), Some(at(11)));
        for _ in 0..1000 {
            assert!(reports.add(ended(&CloseCause::Lost), at(5)).is_none());
        }
        assert!(reports.due(at(10)).is_empty());
        assert_eq!(counts(&reports.due(at(11))), [1000]);
        assert_eq!(reports.next_at(), Some(at(21)), "it may go on");
        assert!(reports.due(at(21)).is_empty());
        assert_eq!(reports.next_at(), None, "a quiet kind is forgotten");
        assert!(reports.add(ended(&CloseCause::Lost), at(21)).is_some());
    }

    #[test]
    fn each_kind_counts_for_itself() {
        let mut reports = Reports::default();
        let causes = [
            CloseCause::Lost,
            CloseCause::TooSlow,
            CloseCause::HeartbeatTimeout,
            CloseCause::Violation(Violation::Text),
            CloseCause::Violation(Violation::Protocol),
        ];
        for _ in 0..2 {
            for cause in &causes {
                reports.add(ended(cause), at(0));
            }
        }
        // The limit is a detail of the kind.
        for limit in 0..100 {
            let too_big = CloseCause::Violation(Violation::TooBig { limit });
            reports.add(ended(&too_big), at(0));
        }
        reports.add(Report::NotAccepted(io::ErrorKind::Other.into()), at(0));
        assert_eq!(counts(&reports.due(at(10))), [1, 1, 1, 1, 1, 99]);
    }

    #[test]
    fn an_hour_of_a_flood_is_a_line_per_interval() {
        let mut reports = Reports::default();
        let (mut lines, mut counted) = (0, 0);
        for second in 0..3600 {
            for line in reports.due(at(second)) {
                lines += 1;
                counted += line.count;
            }
            for _ in 0..100 {
                let cause = CloseCause::Violation(Violation::Text);
                if let Some(line) = reports.add(ended(&cause), at(second)) {
                    lines += 1;
                    counted += line.count;
                }
            }
        }
        counted += counts(&reports.rest()).iter().sum::<u64>();
        assert_eq!((lines, counted), (360, 360_000));
        assert_eq!(reports.next_at(), None);
    }

    #[test]
    fn normal_ends_are_not_reported() {
        let agent = Address::parse("pinch:alice@relay").unwrap();
        for cause in [
            CloseCause::Peer,
            CloseCause::Replaced,
            CloseCause::GoingAway,
        ] {
            assert!(Report::of_end(&agent, Source::of(None), &cause).is_none());
        }
    }

    #[test]
    fn an_agent_is_named_by_the_beginning_of_its_name() {
        let short = |address| Short(&Address::parse(address).unwrap()).to_string();
        assert_eq!(short("pinch:alice@relay"), "alice");
        assert_eq!(short("pinch:123456789012@relay"), "123456789012");
        assert_eq!(short("pinch:1234567890123@relay"), "123456789012…");
    }
}
