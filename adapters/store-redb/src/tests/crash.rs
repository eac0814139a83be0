//! Processes that are killed, and processes that may not write any more.
//!
//! The process is this test binary once more, told to run [`child`] and nothing else. It works off
//! a history and says on its standard output what it is about to do and what is done; the model
//! here follows.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use pinch_proto::queue::{Failure, MemoryQueue, Operation, Outcome};
use rustix::process::{Pid, Resource, getrlimit, prlimit};

use super::check;
use super::history::{Contents, contents, contents_of_model, execute, execute_on_model, history};
use crate::medium::OnDisk;
use crate::{OpenError, RedbStore};

const SEED: u64 = 11;
const BATCHES: usize = 2000;
const ROUNDS: usize = 25;

/// The file that a child works on. Whoever runs the tests has not set it.
const PATH: &str = "PINCH_STORE_TEST_PATH";
/// How many batches of the history have been executed before.
const DONE: &str = "PINCH_STORE_TEST_DONE";

/// What a child says of a batch: how many batches there were before it.
#[derive(Debug, PartialEq)]
enum Said {
    Begins(usize),
    Done(usize),
    /// Nothing of it is done, for want of room. Everything can be read still; it tries again.
    Full(usize),
}

impl Said {
    fn parse(line: &str) -> Option<Self> {
        let (what, batch) = line.split_once(' ')?;
        let said = match what {
            "begins" => Self::Begins,
            "done" => Self::Done,
            "full" => Self::Full,
            _ => return None,
        };
        Some(said(batch.parse().ok()?))
    }
}

/// Says something in one write, so that nobody hears half of it.
fn say(what: &str, batch: usize) {
    let line = format!("{what} {batch}\n");
    io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
#[ignore = "it is what other tests run in a process of its own"]
fn child() {
    let (Ok(path), Ok(done)) = (env::var(PATH), env::var(DONE)) else {
        return;
    };
    let store = RedbStore::open(path).unwrap();
    let mut model = Model::new();
    for _ in 0..done.parse().unwrap() {
        model.advance();
    }
    // The test harness has begun this line.
    io::stdout().write_all(b"\n").unwrap();
    while let Some(batch) = model.history.get(model.done) {
        say("begins", model.done);
        let outcomes = execute(&store, batch.clone());
        if is_for_want_of_room(&outcomes) {
            assert_eq!(contents(&store), model.contents());
            say("full", model.done);
        } else {
            say("done", model.done);
            assert_eq!(outcomes, model.advance());
        }
    }
}

/// Whether the outcomes are those of a batch that has failed, which has one reason.
fn is_for_want_of_room(outcomes: &[Outcome]) -> bool {
    let mut has_failed = false;
    for outcome in outcomes {
        if let Outcome::Failed { failure, detail } = outcome {
            assert_eq!(*failure, Failure::DiskFull, "{detail}");
            has_failed = true;
        }
    }
    has_failed
}

/// How large a file may become that `process` writes, this one if it is none.
fn limit_files(process: Option<Pid>, bytes: Option<u64>) {
    let mut limit = getrlimit(Resource::Fsize);
    limit.current = bytes.or(limit.maximum);
    prlimit(process, Resource::Fsize, limit).unwrap();
}

#[test]
#[ignore = "it is what another test runs in a process of its own"]
fn child_without_room() {
    let Ok(path) = env::var(PATH) else {
        return;
    };
    let path = Path::new(&path);
    for limit in [0, 1000, 10_000] {
        limit_files(None, Some(limit));
        let error = RedbStore::open(path).unwrap_err();
        assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().contains("make room"), "{error}");
        let mut left = env::current_dir().unwrap().read_dir().unwrap();
        assert!(left.next().is_none(), "nothing is left of the attempt");
    }
    limit_files(None, None);
    drop(RedbStore::open(path).unwrap());

    limit_files(None, Some(0));
    let error = RedbStore::open(path).unwrap_err();
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}");
    RedbStore::inspect(path).expect("looking takes no room");
}

/// This binary, told to run one of its tests.
///
/// A process that writes more than it may gets a signal, unless it ignores that; then it gets an
/// error. Only a shell can have it ignored without unsafe code.
fn itself(test: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(env::current_exe().unwrap())
        .args([test, "--exact", "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .stdin(Stdio::null());
    command
}

/// A child that runs, and what it has said.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn new(path: &Path, done: usize) -> Self {
        let mut child = itself("tests::crash::child", path)
            .env(DONE, done.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next that it says; `None` when it has ended.
    fn hear(&mut self) -> Option<Said> {
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = Said::parse(line.trim_end()) {
                return Some(said);
            }
            line.clear();
        }
        None
    }

    /// How large a file may become that the child writes.
    fn limit(&self, bytes: Option<u64>) {
        limit_files(Some(Pid::from_child(&self.child)), bytes);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What should be in the file.
struct Model {
    history: Vec<Vec<Operation>>,
    queue: MemoryQueue,
    done: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            history: history(SEED, BATCHES),
            queue: MemoryQueue::new(),
            done: 0,
        }
    }

    /// Follows what a child says. Returns whether a batch is underway.
    fn follow(&mut self, said: &Said) -> bool {
        let (Said::Begins(batch) | Said::Done(batch) | Said::Full(batch)) = *said;
        assert_eq!(batch, self.done, "{said:?}");
        if let Said::Done(_) = said {
            self.advance();
        }
        matches!(said, Said::Begins(_))
    }

    fn advance(&mut self) -> Vec<Outcome> {
        let outcomes = execute_on_model(&mut self.queue, &self.history[self.done]);
        self.done += 1;
        outcomes
    }

    fn contents(&self) -> Contents {
        contents_of_model(&self.queue)
    }
}

/// Kills a process, and expects what it has confirmed to be there. Of the batch that was underway,
/// if there was one, all or nothing is. Returns whether all of it is.
fn kill(mut running: Running, path: &Path, model: &mut Model, mut is_underway: bool) -> bool {
    running.child.kill().unwrap();
    while let Some(said) = running.hear() {
        is_underway = model.follow(&said);
    }
    drop(running);

    check(&OnDisk::new(path.to_owned()));
    let found = contents(&RedbStore::open(path).unwrap());
    let is_there = found != model.contents();
    if is_there {
        assert!(is_underway, "what was never begun is not there");
        model.advance();
        assert_eq!(found, model.contents());
    }
    is_there
}

#[test]
fn what_was_confirmed_is_there_whenever_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut model = Model::new();
    for round in 0..ROUNDS {
        let mut running = Running::new(&path, model.done);
        let mut is_underway = false;
        for _ in 0..random.usize(1..30) {
            let said = running.hear().expect("it goes on until it is killed");
            is_underway = model.follow(&said);
        }
        if round % 4 == 0 {
            let error = RedbStore::open(&path).unwrap_err();
            assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        }
        // Anywhere in a commit, or between two; what it says meanwhile is heard later.
        for _ in 0..random.u32(..200_000) {
            core::hint::spin_loop();
        }
        kill(running, &path, &mut model, is_underway);
    }
    assert!(model.done > ROUNDS, "the processes did something");
}

#[test]
fn a_process_that_may_not_write_more_reads_on_and_writes_again_when_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    let mut model = Model::new();
    for ends_without_room in [false, true] {
        let mut running = Running::new(&path, model.done);
        for _ in 0..6 {
            model.follow(&running.hear().unwrap());
        }
        let size = path.metadata().unwrap().len();
        running.limit(Some(size / 2));
        let mut failed = 0;
        while failed < 3 {
            let said = running.hear().expect("it goes on without room");
            model.follow(&said);
            failed += usize::from(matches!(said, Said::Full(_)));
        }
        if !ends_without_room {
            running.limit(None);
            let done = model.done;
            while model.done < done + 5 {
                let said = running.hear().expect("it goes on with room");
                model.follow(&said);
            }
        }
        kill(running, &path, &mut model, true);
    }
}

#[test]
fn a_disk_without_room_for_a_queue_is_full() {
    let directory = tempfile::tempdir().unwrap();
    // A name without a directory is one in the directory of the process.
    let path = Path::new("relay.queue");
    let mut command = itself("tests::crash::child_without_room", path);
    command.current_dir(&directory).stdout(Stdio::null());
    let status = command.status().unwrap();
    assert!(status.success(), "{status}");
    assert!(
        directory.path().join(path).exists(),
        "it has done what it is for"
    );
}
