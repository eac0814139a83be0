//! Disks that fail while a file is opened. That is no damage, and does none.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::check;
use super::history::{execute, history};
use crate::medium::Medium;
use crate::simulation::{Cause, Disk, Fault};
use crate::{OpenError, RedbStore};

/// A file that cannot be opened.
struct Refusing(PathBuf, ErrorKind);

impl Medium for Refusing {
    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self, _: bool) -> io::Result<Box<dyn StorageBackend>> {
        Err(self.1.into())
    }
}

/// What becomes of what the system says of a file that can be read.
fn from_system(kind: ErrorKind) -> OpenError {
    let readable = tempfile::NamedTempFile::new().unwrap();
    let medium = Refusing(readable.path().to_owned(), kind);
    RedbStore::open_on(Box::new(medium)).unwrap_err()
}

#[test]
fn what_the_system_says_becomes_an_error_of_its_own() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        let error = from_system(kind);
        assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
    }
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
        let error = from_system(kind);
        assert!(matches!(error, OpenError::DiskFull { .. }), "{error:?}");
    }
    let error = from_system(ErrorKind::NotFound);
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    let error = from_system(ErrorKind::TimedOut);
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    let medium = Refusing("/nowhere".into(), ErrorKind::PermissionDenied);
    let error = RedbStore::open_on(Box::new(medium)).unwrap_err();
    assert!(matches!(error, OpenError::NotReadable { .. }), "{error:?}");
}

#[test]
fn a_disk_that_cannot_be_read_is_no_damaged_file_and_a_panic_is() {
    let disk = Disk::with_queue();
    disk.fail(Fault::Reads(Cause::Defect));
    let error = RedbStore::open_on(Box::new(disk.clone())).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    disk.fail(Fault::Reads(Cause::Chaos));
    let error = RedbStore::open_on(Box::new(disk.clone())).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    disk.repair();
    drop(RedbStore::open_on(Box::new(disk)).unwrap());
}

/// Opens a file on a disk that fails at the first, the second, … of what that writes.
fn fails_while_it_is_opened(bytes: &[u8], cause: Cause, is_expected: fn(&OpenError) -> bool) {
    for at in 1.. {
        let disk = Disk::with_bytes(bytes.to_vec());
        disk.fail(Fault::From(at, cause));
        let opened = RedbStore::open_on(Box::new(disk.clone()));
        if let Err(error) = &opened {
            said_of_disk(error);
            assert!(is_expected(error), "{cause:?} at {at}: {error:?}");
        }
        let is_all = disk.operations() < at;
        drop(opened);
        disk.repair();
        check(&disk);
        if is_all {
            assert!(at > 1, "opening a queue writes something");
            return;
        }
    }
}

fn said_of_disk(error: &OpenError) {
    assert!(
        error.to_string().starts_with("a disk in memory: "),
        "{error}"
    );
}

#[test]
fn a_disk_that_fails_while_a_file_is_opened_is_no_damaged_file() {
    let disk = Disk::with_queue();
    let store = RedbStore::open_on(Box::new(disk.clone())).unwrap();
    for batch in history(2, 20) {
        execute(&store, batch);
    }
    let crashed = disk.bytes();
    drop(store);
    for bytes in [crashed, disk.bytes()] {
        fails_while_it_is_opened(&bytes, Cause::Full, |error| {
            matches!(error, OpenError::DiskFull { .. })
        });
        fails_while_it_is_opened(&bytes, Cause::ReadOnly, |error| {
            matches!(error, OpenError::NotWritable { .. })
        });
        fails_while_it_is_opened(&bytes, Cause::Defect, |error| {
            matches!(error, OpenError::Io { .. })
        });
    }
}
