//! Timeouts that a paused process does not use up.
//!
//! A process can stand still for any time: SIGSTOP, a debugger, a suspended machine, a blocked
//! thread. Its peers answer meanwhile, and when it goes on, the first thing that it notices may be
//! that their time is over: sockets are read when the runtime has heard of the bytes in them, and
//! that may come after its timers.
//!
//! So a timeout that ends a connection counts *attended* time: of the time between two looks at the
//! clock, at most one step counts. However long a pause is, it uses up one step of each timeout.
//! Behind each timeout lie two more steps, the grace: after a pause that passes the end of a timeout
//! there is a whole step left, in which a runtime that works reads whatever has come. A pause needs
//! no threshold to be noticed, and none is too short to be forgiven.
//!
//! A machine that is always late still ends a timeout after a bounded number of looks: those that it
//! takes to count the timeout and the grace in steps.

use core::ops::Add;
use core::time::Duration;

use crate::Time;
use crate::time::saturating_nanos;

/// The longest step: four looks a second cost nothing.
const LONGEST_STEP: Duration = Duration::from_millis(250);

/// The shortest step: runtimes count in milliseconds.
const SHORTEST_STEP: Duration = Duration::from_millis(10);

/// A moment in attended time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttendedTime(Time);

impl AttendedTime {
    /// The moment that [`time`](Self::time) gave.
    pub(crate) const fn at(time: Time) -> Self {
        Self(time)
    }

    /// It, on a clock that shows attended time.
    pub(crate) const fn time(self) -> Time {
        self.0
    }
}

impl Add<Duration> for AttendedTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

/// Counts attended time.
#[derive(Debug)]
pub(crate) struct AttendedClock {
    now: AttendedTime,
    /// In nanoseconds: divisions cost too much where every input is.
    step: u64,
}

impl AttendedClock {
    /// A clock for timeouts of which none is shorter than `shortest`. It starts at zero.
    pub(crate) fn new(shortest: Duration) -> Self {
        Self {
            now: AttendedTime::default(),
            step: saturating_nanos((shortest / 4).clamp(SHORTEST_STEP, LONGEST_STEP)),
        }
    }

    /// The time that is added to each timeout.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_nanos(2 * self.step)
    }

    /// Looks at the clock, which shows `now`; at the last look it showed `last`.
    pub(crate) fn advance(&mut self, last: Time, now: Time) {
        let elapsed = now.as_nanos().saturating_sub(last.as_nanos());
        self.now = AttendedTime(self.now.0.after(elapsed.min(self.step)));
    }

    pub(crate) const fn now(&self) -> AttendedTime {
        self.now
    }

    /// The end of a timeout that begins now, with the grace.
    pub(crate) fn deadline(&self, timeout: Duration) -> AttendedTime {
        self.now + timeout + self.grace()
    }

    /// When to look next for the sake of `deadline`, if the last look was at `now`.
    pub(crate) fn wakeup(&self, deadline: AttendedTime, now: Time) -> Time {
        let left = deadline.0.as_nanos().saturating_sub(self.now.0.as_nanos());
        now.after(left.min(self.step))
    }
}

/// A single timeout that a paused process does not use up.
///
/// It counts attended time: of the time between two calls of [`is_over`](Self::is_over), at most a
/// quarter of a second counts (less for timeouts below one second: a quarter of them). So it is over
/// half a second late at the most (two quarters of a short one), unless nobody asks; and after a
/// pause, what has come meanwhile can be read before it is over.
///
/// ```
/// use core::time::Duration;
/// use pinch_proto::{Time, Timeout};
///
/// let mut timeout = Timeout::new(Duration::from_secs(10), Time::ZERO);
/// // Suspended for an hour: the peer still has its time.
/// let now = Time::ZERO + Duration::from_secs(3600);
/// assert!(!timeout.is_over(now));
/// assert_eq!(timeout.wakeup(), now + Duration::from_millis(250));
/// ```
#[derive(Debug)]
pub struct Timeout {
    clock: AttendedClock,
    deadline: AttendedTime,
    now: Time,
}

impl Timeout {
    /// Starts a timeout of `timeout` at `now`.
    #[must_use]
    pub fn new(timeout: Duration, now: Time) -> Self {
        let clock = AttendedClock::new(timeout);
        Self {
            deadline: clock.deadline(timeout),
            clock,
            now,
        }
    }

    /// Returns whether the timeout is over at `now`. A `now` before an earlier one counts as that.
    pub fn is_over(&mut self, now: Time) -> bool {
        self.clock.advance(self.now, now);
        self.now = self.now.max(now);
        self.deadline <= self.clock.now()
    }

    /// When to call [`is_over`](Self::is_over) next: four times a second, or more often for a short
    /// timeout.
    #[must_use]
    pub fn wakeup(&self) -> Time {
        self.clock.wakeup(self.deadline, self.now)
    }
}
