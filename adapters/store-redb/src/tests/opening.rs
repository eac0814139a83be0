//! What is said of a file that is not opened.

use core::time::Duration;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use pinch_driver::Store as _;
use redb::{Database, TableDefinition};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::check;
use super::history::{contents, execute, history};
use crate::medium::{self, OnDisk};
use crate::room::Room;
use crate::schema::{FORMAT, FORMAT_KEY, META};
use crate::{OpenError, RedbStore};

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.queue");
    (directory, path)
}

/// What is said where no store can be opened. It names the file, and says what to do.
fn refused(path: &Path, advice: &str) -> OpenError {
    said(RedbStore::open(path).unwrap_err(), path, advice)
}

/// What is said where nothing can be seen.
fn unseen(path: &Path, advice: &str) -> OpenError {
    said(RedbStore::inspect(path).unwrap_err(), path, advice)
}

fn said(error: OpenError, path: &Path, advice: &str) -> OpenError {
    let text = error.to_string();
    let name = format!("{}: ", path.display());
    assert!(text.starts_with(&name), "{text}");
    assert!(text.contains(advice), "expected `{advice}`: {text}");
    error
}

/// The names of what is in a directory.
fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    entries.map(name).collect()
}

#[test]
fn open_makes_a_file_that_is_missing_and_inspect_does_not() {
    let (directory, path) = place();
    let error = unseen(&path, "name the queue of a relay");
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    assert!(names(&directory).is_empty());

    drop(RedbStore::open(&path).unwrap());
    assert_eq!(names(&directory), ["relay.queue"]);
    check(&OnDisk::new(path.clone()));
    assert_eq!(RedbStore::inspect(&path).unwrap().count, 0);
}

#[test]
fn of_all_who_make_the_same_file_at_once_one_gets_it_and_all_find_it_whole() {
    for _ in 0..10 {
        let (directory, path) = place();
        let opened: Vec<_> = thread::scope(|scope| {
            let open = || RedbStore::open(&path);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        for error in opened.iter().filter_map(|opened| opened.as_ref().err()) {
            assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        }
        assert!(opened.iter().filter(|opened| opened.is_ok()).count() <= 1);
        drop(opened);
        assert_eq!(names(&directory), ["relay.queue"]);
        drop(RedbStore::open(&path).unwrap());
        check(&OnDisk::new(path));
    }
}

#[test]
fn a_directory_that_is_missing_is_not_made() {
    let (directory, path) = place();
    let inside = path.join("relay.queue");
    let error = refused(&inside, "create it");
    let OpenError::DirectoryMissing {
        directory: missing, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(missing, path);
    let error = unseen(&inside, "name the queue of a relay");
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    assert!(names(&directory).is_empty());
}

#[test]
fn a_link_that_leads_nowhere_is_not_replaced() {
    let (directory, path) = place();
    symlink("nowhere", &path).unwrap();
    let error = refused(&path, "there is no such file");
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    assert_eq!(names(&directory), ["relay.queue"]);
}

#[test]
fn what_is_no_file_is_left_alone() {
    let (directory, pipe) = place();
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for path in [directory.path(), &pipe, Path::new("/dev/null")] {
        for error in [refused(path, "name a file"), unseen(path, "name a file")] {
            assert!(matches!(error, OpenError::NotAFile { .. }), "{error:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_the_way_there_is_told_as_the_system_tells_it() {
    let (_directory, path) = place();
    fs::write(&path, "a file").unwrap();
    let inside = path.join("relay.queue");
    for error in [
        refused(&inside, "see to that"),
        unseen(&inside, "see to that"),
    ] {
        let OpenError::Io { source, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), ErrorKind::NotADirectory);
    }
}

/// Neither opened nor seen, and as it was.
fn expect_damaged(path: &Path, detail: &str) {
    let before = fs::read(path).unwrap();
    for error in [
        refused(path, "restore it from a copy"),
        unseen(path, "move it away"),
    ] {
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(detail), "{error}");
    }
    assert!(fs::read(path).unwrap() == before, "it is as it was");
}

#[test]
fn what_is_no_queue_is_damaged_and_left_as_it_is() {
    let (_directory, path) = place();
    let magic = b"redb\x1a\x0a\xa9\x0d\x0a";
    for (bytes, detail) in [
        (Vec::new(), "it is empty"),
        (b"a".to_vec(), ""),
        (b"Dear relay,\n".repeat(1000), ""),
        (vec![0; 73_728], ""),
        (magic.to_vec(), ""),
        ([magic.as_slice(), &[0; 8183]].concat(), ""),
    ] {
        fs::write(&path, bytes).unwrap();
        expect_damaged(&path, detail);
    }
}

#[test]
fn the_database_of_another_program_is_left_as_it_is() {
    const NOTES: TableDefinition<'_, &str, &str> = TableDefinition::new("notes");
    const OTHER_META: TableDefinition<'_, u64, u64> = TableDefinition::new("pinch.meta");
    let fill: [fn(&Database); 4] = [
        |_| {},
        |database| {
            let transaction = database.begin_write().unwrap();
            transaction
                .open_table(NOTES)
                .unwrap()
                .insert("milk", "two")
                .unwrap();
            transaction.commit().unwrap();
        },
        |database| {
            let transaction = database.begin_write().unwrap();
            transaction
                .open_table(OTHER_META)
                .unwrap()
                .insert(1, 2)
                .unwrap();
            transaction.commit().unwrap();
        },
        |database| {
            let transaction = database.begin_write().unwrap();
            transaction.open_table(META).unwrap();
            transaction.commit().unwrap();
        },
    ];
    for fill in fill {
        let (_directory, path) = place();
        fill(&Database::create(&path).unwrap());
        expect_damaged(&path, "of another program");
    }
}

#[test]
fn a_newer_format_is_left_as_it_is() {
    let (_directory, path) = place();
    drop(RedbStore::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let newer = FORMAT + 1;
    transaction
        .open_table(META)
        .unwrap()
        .insert(FORMAT_KEY, newer)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);

    let before = fs::read(&path).unwrap();
    for error in [
        refused(&path, "use the version"),
        unseen(&path, "or a later one"),
    ] {
        let OpenError::NewerFormat { found, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(found, newer);
    }
    assert!(fs::read(&path).unwrap() == before, "it is as it was");
}

#[test]
fn a_store_has_its_file_for_itself() {
    let (_directory, path) = place();
    let store = RedbStore::open(&path).unwrap();
    for error in [
        refused(&path, "end it first"),
        unseen(&path, "end it first"),
    ] {
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    }
    for batch in history(1, 5) {
        execute(&store, batch);
    }
    let before = contents(&store);
    drop(store);

    // Those who only look do not keep each other away.
    let one = medium::open_view(&OnDisk::new(path.clone())).unwrap();
    RedbStore::inspect(&path).unwrap();
    let error = refused(&path, "end it first");
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    drop(one);
    assert_eq!(contents(&RedbStore::open(&path).unwrap()), before);
}

/// A file that nobody may write to, and one that nobody may read: Linux has some that bind root.
const SEALED: &str = "/sys/kernel/uevent_seqnum";
const SECRET: &str = "/sys/bus/platform/drivers_probe";

#[test]
fn what_may_not_be_written_to_or_read_is_told_so() {
    let (directory, path) = place();
    drop(RedbStore::open(&path).unwrap());
    let mut cases = vec![
        (path.clone(), 0o400, "permit this user to write", false),
        (path.clone(), 0o000, "permit this user to read", true),
        (
            directory.path().join("new.queue"),
            0o500,
            "permit this user to write",
            false,
        ),
        (PathBuf::from(SEALED), 0, "permit this user to write", false),
        (PathBuf::from(SECRET), 0, "permit this user to read", true),
    ];
    cases.retain(|(path, mode, ..)| {
        let binds = if path.starts_with("/sys") {
            path.exists()
        } else {
            !rustix::process::geteuid().is_root()
        };
        if !binds {
            skip(&format!(
                "{} of mode {mode:o} binds nobody here",
                path.display()
            ));
        }
        binds
    });
    for (path, mode, advice, is_unreadable) in cases {
        let bound = if path.exists() {
            &*path
        } else {
            directory.path()
        };
        let is_ours = bound.starts_with(directory.path());
        if is_ours {
            fs::set_permissions(bound, fs::Permissions::from_mode(mode)).unwrap();
        }
        let error = refused(&path, advice);
        if is_unreadable {
            assert!(matches!(error, OpenError::NotReadable { .. }), "{error:?}");
            let error = unseen(&path, advice);
            assert!(matches!(error, OpenError::NotReadable { .. }), "{error:?}");
        } else {
            assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
        }
        if is_ours {
            if path.exists() && !is_unreadable {
                RedbStore::inspect(&path).expect("looking needs no more than reading");
            }
            fs::set_permissions(bound, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}

/// Says on the standard error stream, even of a test that passes, what was not tried.
fn skip(what: &str) {
    let _ = writeln!(io::stderr(), "skipped: {what}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_else_may_read_a_queue() {
    let (_directory, path) = place();
    drop(RedbStore::open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    RedbStore::inspect(&path).unwrap();
    assert_eq!(mode(&path), 0o664, "to look at it changes nothing");
    drop(RedbStore::open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_file_that_is_no_queue_keeps_its_mode() {
    let (_directory, path) = place();
    fs::write(&path, "something else").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&path, "restore it from a copy");
    assert_eq!(mode(&path), 0o644);
}

#[test]
fn the_file_of_the_go_relay_is_named() {
    let (_directory, path) = place();
    // The first page of bbolt: its header, and the magic number of its metadata.
    let mut page = vec![0; 32 << 10];
    page[8] = 4;
    page[16..20].copy_from_slice(&[0xed, 0xda, 0x0c, 0xed]);
    fs::write(&path, &page).unwrap();
    for error in [
        refused(&path, "the file of the Go relay"),
        unseen(&path, "the file of the Go relay"),
    ] {
        assert!(matches!(error, OpenError::GoRelay { .. }), "{error:?}");
    }
    assert_eq!(fs::read(&path).unwrap(), page);
}

/// Waits until the store says `warning`.
fn warned(store: &RedbStore, warning: Option<&str>) {
    let end = Instant::now() + Duration::from_secs(20);
    while store.warning() != warning {
        assert!(Instant::now() < end, "{:?}", store.warning());
        thread::yield_now();
    }
}

#[test]
fn a_queue_that_is_no_longer_at_its_place_is_noticed() {
    let (_directory, path) = place();
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.warning(), None);
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    warned(&store, Some("file unlinked"));
    fs::copy(&aside, &path).unwrap();
    warned(&store, Some("file replaced"));
    fs::rename(&aside, &path).unwrap();
    warned(&store, None);
}

#[test]
fn a_queue_is_not_opened_again_in_another_file() {
    let (_directory, path) = place();
    drop(RedbStore::open(&path).unwrap());
    let medium = OnDisk::new(path.clone());
    let room = Arc::new(Room::new());
    drop(medium::open(&medium, &room).unwrap());
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    fs::copy(&aside, &path).unwrap();
    let error = medium::reopen(&medium, &room).unwrap_err().to_string();
    assert!(
        error.contains("another file has taken its place"),
        "{error}"
    );
    fs::rename(&aside, &path).unwrap();
    drop(medium::reopen(&medium, &room).unwrap());
}
