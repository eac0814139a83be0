//! A history on each of the disks that fail.

use pinch_driver::Store as _;
use pinch_proto::queue::{Failure, MemoryQueue, Operation, Outcome};

use super::check;
use super::history::{contents, contents_of_model, execute, execute_on_model, history};
use crate::RedbStore;
use crate::simulation::{Cause, Disk, Fault};

const SEED: u64 = 7;
const BATCHES: usize = 6;

fn open(disk: &Disk) -> RedbStore {
    RedbStore::open_on(Box::new(disk.clone())).expect("the queue can be opened")
}

/// How many writes, truncations and flushes a history takes.
fn operations_of(history: &[Vec<Operation>]) -> u64 {
    let disk = Disk::with_queue();
    let store = open(&disk);
    disk.fail(Fault::FullAt(u64::MAX));
    let mut model = MemoryQueue::new();
    for batch in history {
        let expected = execute_on_model(&mut model, batch);
        assert_eq!(execute(&store, batch.clone()), expected);
    }
    assert_eq!(contents(&store), contents_of_model(&model));
    let operations = disk.operations();
    drop(store);
    check(&disk);
    assert!(
        operations > 100,
        "a history that writes little shows little"
    );
    operations
}

fn has_failed(outcomes: &[Outcome]) -> bool {
    outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Failed { .. }))
}

/// What a batch comes to of which nothing can be written.
fn expect_failed(
    batch: &[Operation],
    outcomes: &[Outcome],
    model: &MemoryQueue,
    expected: Failure,
) {
    let mut model = model.clone();
    for (operation, outcome) in batch.iter().zip(outcomes) {
        if matches!(operation, Operation::Read(_)) {
            assert_eq!(*outcome, model.execute(operation.clone()), "reads go on");
            continue;
        }
        let Outcome::Failed { failure, detail } = outcome else {
            panic!("{operation:?} came to {outcome:?}");
        };
        assert_eq!(*failure, expected, "{detail}");
        assert!(detail.starts_with("a disk in memory: "), "{detail}");
    }
}

#[test]
fn what_was_confirmed_is_there_wherever_the_power_fails() {
    let history = history(SEED, BATCHES);
    let mut random = fastrand::Rng::with_seed(SEED);
    for at in 1..=operations_of(&history) {
        let disk = Disk::with_queue();
        let store = open(&disk);
        disk.fail(Fault::From(at, Cause::Defect));
        let mut model = MemoryQueue::new();
        let mut was_underway = None;
        for batch in &history {
            let outcomes = execute(&store, batch.clone());
            let before = model.clone();
            let expected = execute_on_model(&mut model, batch);
            if has_failed(&outcomes) {
                was_underway = Some(model);
                model = before;
                break;
            }
            assert_eq!(outcomes, expected);
        }
        drop(store);
        disk.cut_power(|| random.bool());
        check(&disk);
        let found = contents(&open(&disk));
        let may_be = was_underway.as_ref().map(contents_of_model);
        assert!(
            found == contents_of_model(&model) || Some(&found) == may_be.as_ref(),
            "cut at {at}: the batch that was underway is there as a whole or not at all",
        );
    }
}

#[test]
fn one_error_fails_one_batch_as_a_whole_or_not_at_all() {
    let history = history(SEED, BATCHES);
    for at in 1..=operations_of(&history) {
        let disk = Disk::with_queue();
        let store = open(&disk);
        disk.fail(Fault::Once(at, Cause::Defect));
        let mut model = MemoryQueue::new();
        let mut failed = 0;
        for batch in &history {
            let outcomes = execute(&store, batch.clone());
            if has_failed(&outcomes) {
                failed += 1;
                expect_failed(batch, &outcomes, &model, Failure::Broken);
            } else {
                assert_eq!(
                    outcomes,
                    execute_on_model(&mut model, batch),
                    "error at {at}"
                );
            }
        }
        assert!(failed <= 1, "error at {at}: {failed} batches have failed");
        assert_eq!(contents(&store), contents_of_model(&model), "error at {at}");
        drop(store);
        check(&disk);
    }
}

/// What came of a disk that failed for a while.
#[derive(Default)]
struct Failures {
    batches: u64,
    /// How many of them are in effect all the same: the disk has failed while it was flushed, and
    /// so it did when that was to be found out.
    in_effect: u64,
}

/// Executes a history on a disk that fails, repairs that after three batches have failed, and
/// expects everything that changes something to fail meanwhile, and nothing else.
fn fails_until_repaired(
    history: &[Vec<Operation>],
    fault: Fault,
    expected: Failure,
    failures: &mut Failures,
) {
    let disk = Disk::with_queue();
    let store = open(&disk);
    disk.fail(fault);
    let mut model = MemoryQueue::new();
    let mut failed = 0;
    for batch in history {
        let outcomes = execute(&store, batch.clone());
        let before = model.clone();
        let done = execute_on_model(&mut model, batch);
        if !has_failed(&outcomes) {
            assert_eq!(outcomes, done, "{fault:?}");
            continue;
        }
        failed += 1;
        assert!(failed <= 3, "{fault:?}: it goes on once it can");
        let found = contents(&store);
        if found == contents_of_model(&before) {
            model = before;
            expect_failed(batch, &outcomes, &model, expected);
        } else {
            assert_eq!(failed, 1, "{fault:?}: only a flush leaves that open");
            assert_eq!(found, contents_of_model(&model), "{fault:?}");
            failures.in_effect += 1;
        }
        if failed == 3 {
            disk.repair();
        }
    }
    failures.batches += failed;
    assert_eq!(contents(&store), contents_of_model(&model), "{fault:?}");
    drop(store);
    check(&disk);
}

#[test]
fn a_disk_that_is_full_or_read_only_fails_what_writes_until_it_is_not() {
    let history = history(SEED, BATCHES);
    let operations = operations_of(&history);
    for (cause, expected) in [
        (Cause::Full, Failure::DiskFull),
        (Cause::ReadOnly, Failure::ReadOnly),
    ] {
        let mut failures = Failures::default();
        for at in 1..=operations {
            fails_until_repaired(&history, Fault::From(at, cause), expected, &mut failures);
        }
        assert!(failures.batches > operations, "the disks did fail");
        assert!(
            cause == Cause::ReadOnly || failures.in_effect == 0,
            "a full disk can be flushed"
        );
        assert!(
            failures.in_effect < operations / 4,
            "{} of {operations}",
            failures.in_effect
        );
    }
}

#[test]
fn a_file_that_cannot_grow_is_a_full_disk() {
    let history = history(SEED, 3 * BATCHES);
    let disk = Disk::with_queue();
    let (begin, mut end) = (disk.len(), disk.len());
    let store = open(&disk);
    for batch in &history {
        execute(&store, batch.clone());
        end = end.max(disk.len());
    }
    assert!(end > begin, "the history makes the file grow");
    let mut failures = Failures::default();
    for limit in (begin..end).step_by(8192) {
        let fault = Fault::FullAt(limit);
        fails_until_repaired(&history, fault, Failure::DiskFull, &mut failures);
    }
    assert!(failures.batches > 0, "there were files that could not grow");
    assert_eq!(
        failures.in_effect, 0,
        "what is there already can be written"
    );
}

/// Whether all has failed as something that nobody understands.
fn is_broken(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| {
        let broken = Failure::Broken;
        matches!(outcome, Outcome::Failed { failure, .. } if *failure == broken)
    })
}

#[test]
fn what_cannot_be_read_fails_until_it_can() {
    let history = history(SEED, 3 * BATCHES);
    for cause in [Cause::Defect, Cause::Chaos] {
        let disk = Disk::with_queue();
        let mut model = MemoryQueue::new();
        let (first, last) = history.split_at(2 * BATCHES);
        let store = open(&disk);
        for batch in first {
            execute(&store, batch.clone());
            execute_on_model(&mut model, batch);
        }
        drop(store);
        let store = open(&disk);
        let restored = store.restored();
        assert_eq!(restored, model.restored());

        disk.fail(Fault::Reads(cause));
        // Some may be in memory still, and what has failed once is read anew.
        let mut attempts = core::iter::repeat_with(|| execute(&store, history[0].clone())).take(3);
        assert!(attempts.any(|outcomes| is_broken(&outcomes)));
        for batch in last {
            assert!(is_broken(&execute(&store, batch.clone())), "{cause:?}");
        }
        assert_eq!(store.restored(), restored, "as it was when it was opened");

        disk.repair();
        assert_eq!(contents(&store), contents_of_model(&model), "{cause:?}");
        for batch in last {
            let outcomes = execute(&store, batch.clone());
            assert_eq!(outcomes, execute_on_model(&mut model, batch), "{cause:?}");
        }
        drop(store);
        check(&disk);
    }
}

#[test]
fn a_panic_fails_one_batch_even_if_there_is_another_while_the_database_is_closed() {
    let history = history(SEED, BATCHES);
    let disk = Disk::with_queue();
    let store = open(&disk);
    disk.fail(Fault::Once(operations_of(&history) / 2, Cause::Chaos));
    let mut failed = 0;
    for batch in &history {
        failed += u32::from(has_failed(&execute(&store, batch.clone())));
    }
    assert_eq!(failed, 1);
    drop(store);
    check(&disk);
}

#[test]
fn a_file_that_was_emptied_under_a_store_is_not_begun_anew() {
    let history = history(SEED, BATCHES);
    let disk = Disk::with_queue();
    let store = open(&disk);
    execute(&store, history[0].clone());
    disk.fail(Fault::From(1, Cause::Full));
    assert!(
        history
            .iter()
            .any(|batch| has_failed(&execute(&store, batch.clone())))
    );
    let bytes = disk.bytes();
    disk.replace(Vec::new());
    disk.repair();
    for batch in &history {
        assert!(is_broken(&execute(&store, batch.clone())));
        assert_eq!(disk.len(), 0, "nothing takes the place of what was there");
    }
    disk.replace(bytes);
    assert!(!has_failed(&execute(&store, history[0].clone())));
}

#[test]
fn what_changes_something_takes_a_flush_and_another_only_if_the_file_grows() {
    let disk = Disk::with_queue();
    let store = open(&disk);
    let mut model = MemoryQueue::new();
    // The first commit marks the file as open, and that takes another.
    let mut history = history(SEED, 10 * BATCHES).concat().into_iter();
    let first = history
        .by_ref()
        .find(|operation| matches!(operation, Operation::Append(_)));
    let first = [first.unwrap()];
    assert_eq!(
        execute(&store, first.to_vec()),
        execute_on_model(&mut model, &first)
    );
    let mut changed = 0;
    for operation in history {
        let batch = [operation];
        let (before, flushes, len) = (format!("{model:?}"), disk.flushes(), disk.len());
        let expected = execute_on_model(&mut model, &batch);
        assert_eq!(execute(&store, batch.to_vec()), expected);
        // An append takes as long whether it is discarded or not.
        let appended = matches!(&*expected, [Outcome::Appended { .. }]);
        if before == format!("{model:?}") && !appended {
            assert_eq!(disk.flushes(), flushes, "{batch:?}");
        } else {
            let another = u64::from(disk.len() > len);
            assert_eq!(disk.flushes(), flushes + 1 + another, "{batch:?}");
            changed += 1;
        }
    }
    assert!(changed > 100, "{changed}");
}
