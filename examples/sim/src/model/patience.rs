//! Attended time, by which connections are ended: a pause of the process is not held against them.

use core::time::Duration;

use pinch_proto::Time;

use crate::story::Settings;

/// Of the time between two looks at the clock, at most this counts, in milliseconds: a quarter of the
/// shortest timeout, but not less than runtimes count, and not more than a quarter of a second.
fn step(settings: &Settings) -> u64 {
    let answer_timeout = settings.queue.map(|queue| queue.answer_timeout);
    let timeouts = [
        settings.pong_timeout,
        settings.stall_timeout,
        Settings::CLOSE_TIMEOUT,
        Settings::REPLY_TIMEOUT,
        Settings::MESSAGE_TIMEOUT,
    ];
    let shortest = timeouts.into_iter().chain(answer_timeout).min();
    let quarter = shortest.map(Duration::from_millis).unwrap_or_default() / 4;
    u64::try_from(quarter.as_nanos())
        .expect("timeouts are short")
        .clamp(10_000_000, 250_000_000)
}

/// How much time has been attended.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    step: u64,
    /// In nanoseconds.
    attended: u64,
}

impl Patience {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            step: step(settings),
            attended: 0,
        }
    }

    /// So much time has passed since the last look.
    pub(super) fn pass(&mut self, passed: Duration) {
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.attended += passed.min(self.step);
    }

    /// The attended time.
    pub(super) const fn now(&self) -> Time {
        Time::from_nanos(self.attended)
    }

    /// The attended time at which a timeout is over that begins now: two steps later than it says.
    pub(super) fn deadline(&self, timeout: u64) -> Time {
        self.now() + Duration::from_millis(timeout) + Duration::from_nanos(2 * self.step)
    }

    /// When to look, at `now`, whether a timeout is over that ends at the attended time `due`.
    pub(super) fn look(&self, due: Time, now: Time) -> Time {
        let left = due.as_nanos().saturating_sub(self.attended);
        now + Duration::from_nanos(left.min(self.step))
    }
}
