//! A queue and its disk: lets things happen, and asks the judge.

use std::sync::LazyLock;

use pinch_proto::queue::{Failure, Operation, Outcome};
use pinch_store_redb::simulation::{self, Cause, Disk, Fault, Queue};
use pinch_store_redb::{Inspection, OpenError};

use super::judge::{Judge, Verdict, everything};
use super::script::{Step, Survives, Trouble};

/// What redb adds to a file.
const PAGE: u64 = 4096;

/// A file with an empty queue, which takes a while to make.
static NEW: LazyLock<Vec<u8>> = LazyLock::new(|| Disk::with_queue().bytes());

pub(super) struct World {
    disk: Disk,
    /// `None` while it is not open.
    queue: Option<Queue>,
    judge: Judge,
    /// What the disk says when it fails.
    cause: Cause,
}

impl World {
    /// A new queue, closed.
    pub(super) fn new() -> Self {
        Self {
            disk: Disk::with_bytes(NEW.clone()),
            queue: None,
            judge: Judge::new(),
            cause: Cause::Defect,
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> Verdict {
        match step {
            Step::Batch(batch) => return self.execute(batch),
            Step::Inspect => return self.inspect(),
            Step::Close => self.queue = None,
            Step::Kill => {
                self.die();
                self.disk.repair();
            }
            Step::CutPower(survives) => {
                self.die();
                self.cut_power(*survives);
                self.judge.cut_power();
            }
            Step::Fail(trouble) => self.fail(*trouble),
            Step::Repair => self.disk.repair(),
        }
        Ok(())
    }

    /// Whatever happened, all is well in the end.
    pub(super) fn end(&mut self) -> Verdict {
        self.disk.repair();
        self.open()
    }

    fn execute(&mut self, batch: &[Operation]) -> Verdict {
        if self.queue.is_none() {
            self.open()?;
        }
        let Some(queue) = &mut self.queue else {
            return Ok(());
        };
        let before = Failures::of(&self.disk);
        let outcomes = queue.execute(batch);
        let failures = before.since(&self.disk);
        let mut failed = outcomes
            .iter()
            .filter(|it| matches!(it, Outcome::Failed { .. }));
        for outcome in failed.clone() {
            self.expect_excuse(outcome, &failures)?;
        }
        // When a disk fails while it makes a batch durable, it is asked to once more.
        let is_open = failures.all > 1 && failures.flushes > 0;
        self.judge.batch(batch, &outcomes, is_open)?;
        match failed.next() {
            Some(_) => self.look(),
            None => Ok(()),
        }
    }

    fn expect_excuse(&self, outcome: &Outcome, failures: &Failures) -> Verdict {
        let Outcome::Failed { failure, detail } = outcome else {
            return Ok(());
        };
        let expected = match self.cause {
            Cause::Full => Failure::DiskFull,
            Cause::ReadOnly => Failure::ReadOnly,
            Cause::Defect | Cause::Chaos => Failure::Broken,
        };
        let said = format!("a disk in memory: {}", self.cause.error());
        (failures.all > 0 && *failure == expected && **detail == *said)
            .then_some(())
            .ok_or_else(|| format!("without an excuse: {outcome:?}"))
    }

    /// Opens the queue if that can be, and looks at it.
    fn open(&mut self) -> Verdict {
        self.queue = None;
        let before = Failures::of(&self.disk);
        match Queue::open(&self.disk) {
            Ok(queue) => {
                self.queue = Some(queue);
                self.look()
            }
            Err(error) => self.expect_excuse_of(&error, &before),
        }
    }

    fn expect_excuse_of(&self, error: &OpenError, before: &Failures) -> Verdict {
        let is_expected = match self.cause {
            Cause::Full => matches!(error, OpenError::DiskFull { .. }),
            Cause::ReadOnly => matches!(error, OpenError::NotWritable { .. }),
            Cause::Defect | Cause::Chaos => matches!(error, OpenError::Io { .. }),
        };
        (is_expected && before.since(&self.disk).all > 0)
            .then_some(())
            .ok_or_else(|| format!("it cannot be opened, without an excuse: {error:?}"))
    }

    /// Reads everything that can be read.
    fn look(&mut self) -> Verdict {
        let Some(queue) = &mut self.queue else {
            return Ok(());
        };
        let before = Failures::of(&self.disk);
        let batch = everything();
        let outcomes = queue.execute(&batch);
        let restored = queue.restored();
        let checked = queue.check();
        let failures = before.since(&self.disk);
        for outcome in &outcomes {
            self.expect_excuse(outcome, &failures)?;
        }
        self.judge.batch(&batch, &outcomes, false)?;
        // What cannot be read is as it was before.
        if failures.all == 0 {
            self.judge.restored(&restored)?;
            checked.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn inspect(&mut self) -> Verdict {
        self.queue = None;
        let before = Failures::of(&self.disk);
        let inspection = match simulation::inspect(&self.disk) {
            Ok(inspection) => inspection,
            Err(error) => return self.expect_excuse_of(&error, &before),
        };
        let Inspection {
            recipients,
            count,
            bytes,
            blocks,
            ..
        } = inspection;
        let waiting = recipients.into_iter();
        let waiting = waiting.map(|it| (it.recipient, it.count, it.bytes, it.oldest, it.newest));
        let waiting: Vec<_> = waiting.collect();
        self.judge.seen(&waiting, blocks)?;
        let sums = waiting.iter().map(|&(_, count, bytes, ..)| (count, bytes));
        let (counts, sizes): (Vec<u64>, Vec<u64>) = sums.unzip();
        let is_sum = count == counts.iter().sum() && bytes == sizes.iter().sum();
        is_sum
            .then_some(())
            .ok_or_else(|| format!("{count} and {bytes} are no sums"))
    }

    /// The process ends, wherever it was.
    fn die(&mut self) {
        self.disk.fail(Fault::Dead);
        self.queue = None;
    }

    fn cut_power(&self, survives: Survives) {
        match survives {
            Survives::Nothing => self.disk.cut_power(|| false),
            Survives::Everything => self.disk.cut_power(|| true),
            Survives::Some { seed } => {
                let mut random = fastrand::Rng::with_seed(seed.into());
                self.disk.cut_power(|| random.bool());
            }
        }
    }

    fn fail(&mut self, trouble: Trouble) {
        self.cause = match trouble {
            Trouble::From(_, cause) | Trouble::Once(_, cause) => cause,
            Trouble::Room(_) => Cause::Full,
            Trouble::Reads => Cause::Defect,
        };
        self.disk.fail(match trouble {
            Trouble::From(at, cause) => Fault::From(at, cause),
            Trouble::Once(at, cause) => Fault::Once(at, cause),
            Trouble::Room(pages) => Fault::FullAt(self.disk.len() + pages * PAGE),
            Trouble::Reads => Fault::Reads(Cause::Defect),
        });
    }
}

/// How often a disk has failed.
struct Failures {
    all: u64,
    flushes: u64,
}

impl Failures {
    fn of(disk: &Disk) -> Self {
        Self {
            all: disk.failures(),
            flushes: disk.failed_flushes(),
        }
    }

    fn since(&self, disk: &Disk) -> Self {
        let now = Self::of(disk);
        Self {
            all: now.all - self.all,
            flushes: now.flushes - self.flushes,
        }
    }
}
