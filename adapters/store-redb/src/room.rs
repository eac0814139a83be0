//! How large the file may become.
//!
//! redb does not say how many of its pages are free. It asks for more of the file when none is, and
//! it uses the pages at the end when all before them are in use. So that is what is watched: a
//! transaction that takes new envelopes may neither make the file longer than the budget nor write
//! behind it. All others may, up to a reserve, of which envelopes that come back from connections may
//! use one half: removing an envelope takes room, too, until it is done.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::io::{self, ErrorKind};

use pinch_proto::queue::Operation;

/// The smallest budget, in bytes: what an empty queue and its index take has room in it.
const MIN_BUDGET: u64 = 16 << 20;
/// Length of the header of a file, in bytes, before its regions.
const HEADER: u64 = 4096;
/// What others than new envelopes may take besides, in bytes, ...
const RESERVE: u64 = 32 << 20;
/// ... and this part of the budget.
const RESERVE_DIVISOR: u64 = 16;

/// What a transaction may take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// Any envelope.
    New,
    /// Envelopes that had their place before.
    Returned,
    /// None.
    Nothing,
}

impl Intake {
    const fn code(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Returned => 1,
            Self::Nothing => 2,
        }
    }
}

/// The room for one file. The store and what it writes through share it.
#[derive(Debug)]
pub(crate) struct Room {
    /// How large new envelopes may make the file, in bytes. The first of them says.
    budget: AtomicU64,
    /// How long the file is, in bytes.
    len: AtomicU64,
    /// How long it was at first: with a budget that has become smaller, it may be longer than that.
    first_len: AtomicU64,
    /// Whether the file grows by steps. One of an older version doubles instead, and is sparse then:
    /// for that one, what is written counts.
    has_steps: AtomicBool,
    /// An [`Intake`].
    intake: AtomicU8,
    is_exceeded: AtomicBool,
}

impl Room {
    pub(crate) const fn new() -> Self {
        Self {
            budget: AtomicU64::new(u64::MAX),
            len: AtomicU64::new(0),
            first_len: AtomicU64::new(0),
            has_steps: AtomicBool::new(true),
            intake: AtomicU8::new(Intake::Nothing.code()),
            is_exceeded: AtomicBool::new(false),
        }
    }

    /// The file was opened.
    pub(crate) fn opened(&self, len: u64, has_steps: bool) {
        self.len.store(len, Ordering::Relaxed);
        if self.first_len.load(Ordering::Relaxed) == 0 {
            self.first_len.store(len, Ordering::Relaxed);
        }
        self.has_steps.store(has_steps, Ordering::Relaxed);
    }

    /// Takes the budget from the envelopes in `batch`. Returns whether there are any that count in it.
    pub(crate) fn fit(&self, batch: &[Operation]) -> bool {
        let limits = batch.iter().filter_map(|operation| match operation {
            Operation::Append(append) => append.limits,
            Operation::Read(_)
            | Operation::Remove { .. }
            | Operation::Expire { .. }
            | Operation::Block { .. }
            | Operation::Unblock { .. }
            | Operation::Seen { .. }
            | Operation::ForgetBlocks { .. } => None,
        });
        let Some(bytes) = limits.map(|limits| limits.total_bytes).max() else {
            return false;
        };
        let bytes = bytes.max(MIN_BUDGET).saturating_add(HEADER);
        self.budget.store(bytes, Ordering::Relaxed);
        true
    }

    /// A transaction begins.
    pub(crate) fn begin(&self, intake: Intake) {
        self.intake.store(intake.code(), Ordering::Relaxed);
        self.is_exceeded.store(false, Ordering::Relaxed);
    }

    /// It has ended. What follows takes nothing new.
    pub(crate) fn end(&self) {
        self.intake.store(Intake::Nothing.code(), Ordering::Relaxed);
    }

    /// Whether the last transaction found no room.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Ordering::Relaxed)
    }

    /// Whether so many quarters of the reserve are in use.
    pub(crate) fn is_reserve_in_use(&self, quarters: u64) -> bool {
        let budget = self.budget();
        let in_use = reserve(budget) / 4 * quarters;
        self.has_steps.load(Ordering::Relaxed) && self.len() > budget.saturating_add(in_use)
    }

    /// Whether envelopes of this cost leave half of the file free, or about so.
    pub(crate) fn is_ample(&self, bytes: u64) -> bool {
        bytes <= self.budget() / 2
    }

    /// Returns how long the file is, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// The file is to become `len` bytes long.
    pub(crate) fn resize(&self, len: u64) -> io::Result<()> {
        if len > self.len() && self.has_steps.load(Ordering::Relaxed) {
            self.reach(len)?;
        }
        Ok(())
    }

    /// The file has become `len` bytes long.
    pub(crate) fn resized(&self, len: u64) {
        self.len.store(len, Ordering::Relaxed);
    }

    /// Something is to be written up to `end`.
    pub(crate) fn reach(&self, end: u64) -> io::Result<()> {
        let budget = self.budget();
        let intake = self.intake.load(Ordering::Relaxed);
        let most = if intake == Intake::New.code() {
            budget
        } else if self.has_steps.load(Ordering::Relaxed) {
            let first_len = self.first_len.load(Ordering::Relaxed);
            let reserve = if intake == Intake::Returned.code() {
                reserve(budget) / 2
            } else {
                reserve(budget)
            };
            budget.max(first_len).saturating_add(reserve)
        } else {
            u64::MAX
        };
        if end <= most {
            return Ok(());
        }
        self.is_exceeded.store(true, Ordering::Relaxed);
        let text = format!("the file would become larger than {most} bytes");
        Err(io::Error::new(ErrorKind::StorageFull, text))
    }

    fn budget(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }
}

const fn reserve(budget: u64) -> u64 {
    RESERVE + budget / RESERVE_DIVISOR
}
