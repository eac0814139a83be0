//! Files that somebody else has written to.
//!
//! Whatever was done to a file: either whoever looks at it is told, or what comes out is what went in.
//! What never comes out then is a queue that is empty or contradicts itself. A store opens a file
//! without a look at all of it; then it refuses the file, or fails what it cannot do.
//!
//! One thing cannot be told apart: of a relay that has crashed, the last commit in the file that was
//! overwritten later, and the last commit that was never finished. Both are undone.

use pinch_proto::queue::MemoryQueue;

use super::check;
use super::history::{Contents, contents, contents_of_model, execute, execute_on_model, history};
use crate::inspect::inspect_on;
use crate::simulation::Disk;
use crate::{OpenError, RedbStore};

const PAGE: usize = 4096;

/// A file, and what may come out of it.
struct Queue {
    bytes: Vec<u8>,
    all: Contents,
    /// Without the last batch; only a crash can undo that.
    before: Option<Contents>,
}

/// A queue whose relay has ended, and the same one as if it had crashed.
fn queues() -> [Queue; 2] {
    let disk = Disk::with_queue();
    let store = RedbStore::open_on(Box::new(disk.clone())).unwrap();
    let mut model = MemoryQueue::new();
    let mut before = MemoryQueue::new();
    for batch in history(3, 4) {
        before = model.clone();
        assert_eq!(
            execute(&store, batch.clone()),
            execute_on_model(&mut model, &batch)
        );
    }
    let [all, before] = [&model, &before].map(contents_of_model);
    assert!(all != before, "the last batch changes something");
    let crashed = Queue {
        bytes: disk.bytes(),
        all,
        before: Some(before),
    };
    drop(store);
    let ended = Queue {
        bytes: disk.bytes(),
        all: contents_of_model(&model),
        before: None,
    };
    [ended, crashed]
}

/// What became of files.
#[derive(Debug, Default)]
struct Tally {
    damaged: u64,
    /// Those of the damaged that a store does not open.
    refused: u64,
    whole: u64,
    without_last: u64,
}

impl Tally {
    fn try_open(&mut self, queue: &Queue, bytes: &[u8], what: &str) {
        let disk = Disk::with_bytes(bytes.to_vec());
        match inspect_on(&disk) {
            Ok(_) => {
                let store = RedbStore::open_on(Box::new(disk.clone())).expect(what);
                let found = contents(&store);
                drop(store);
                check(&disk);
                if found == queue.all {
                    self.whole += 1;
                } else {
                    let is_before = Some(&found) == queue.before.as_ref();
                    assert!(is_before, "{what}: something else came out");
                    self.without_last += 1;
                }
            }
            Err(OpenError::Damaged { .. }) => {
                assert!(disk.bytes() == bytes, "{what}: it was written to");
                self.damaged += 1;
                match RedbStore::open_on(Box::new(disk.clone())) {
                    Ok(store) => history(4, 3).into_iter().for_each(|batch| {
                        execute(&store, batch);
                    }),
                    Err(OpenError::Damaged { .. }) => self.refused += 1,
                    Err(error) => panic!("{what}: {error:?}"),
                }
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

#[test]
fn a_page_that_was_overwritten() {
    let mut random = fastrand::Rng::with_seed(1);
    for queue in queues() {
        let mut tally = Tally::default();
        for at in (0..queue.bytes.len()).step_by(PAGE) {
            let mut noise = vec![0; PAGE];
            random.fill(&mut noise);
            let other = random.usize(..queue.bytes.len() / PAGE) * PAGE;
            let other = queue.bytes[other..other + PAGE].to_vec();
            for page in [vec![0; PAGE], vec![0xff; PAGE], noise, other] {
                let mut bytes = queue.bytes.clone();
                bytes[at..at + PAGE].copy_from_slice(&page);
                tally.try_open(&queue, &bytes, &format!("a page at {at}"));
            }
        }
        assert!(
            tally.damaged > 0 && tally.refused > 0 && tally.whole > 0,
            "{tally:?}"
        );
    }
}

/// The bytes at the beginning that redb looks at.
const HEADER: usize = 320;

#[test]
fn a_byte_that_was_overwritten() {
    let mut random = fastrand::Rng::with_seed(2);
    for queue in queues() {
        let mut tally = Tally::default();
        let somewhere = core::iter::repeat_with(|| random.usize(HEADER..queue.bytes.len()));
        let changes = (1..HEADER).step_by(2).zip([1, 0xff].into_iter().cycle());
        let changes = changes.chain(somewhere.zip(core::iter::repeat(0x10)).take(100));
        for (at, change) in changes {
            let mut bytes = queue.bytes.clone();
            bytes[at] ^= change;
            tally.try_open(&queue, &bytes, &format!("a byte at {at} ^ {change}"));
        }
        assert!(
            tally.damaged > 0 && tally.refused > 0 && tally.whole > 0,
            "{tally:?}"
        );
    }
}

#[test]
fn a_file_that_was_cut_or_continued() {
    for queue in queues() {
        let mut tally = Tally::default();
        let len = queue.bytes.len();
        for end in (0..len)
            .step_by(PAGE)
            .flat_map(|page| [page, page + 1, page + PAGE - 1])
        {
            let bytes = &queue.bytes[..end];
            tally.try_open(&queue, bytes, &format!("cut at {end}"));
        }
        for more in [1, PAGE - 1, PAGE, 10 * PAGE + 1, len] {
            for with in [0, 0xa5] {
                let mut bytes = queue.bytes.clone();
                bytes.resize(len + more, with);
                tally.try_open(&queue, &bytes, &format!("{more} more bytes"));
            }
        }
        assert!(tally.damaged > 0, "{tally:?}");
    }
}
