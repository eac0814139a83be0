//! Where a queue is kept, and how it is opened: the one place that decides what a file is.

use core::panic::AssertUnwindSafe;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic;
use std::path::{Path, PathBuf};

use pinch_proto::queue::Restored;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, StorageBackend};

use crate::backend::{FirstError, View, Writable};
use crate::error::OpenError;
use crate::schema::{self, FORMAT};

/// How much of the file redb keeps in memory. A queue is written once, read once and removed, so
/// that a cache of the messages would be of little use; this holds the index of a busy relay.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Something that holds the bytes of a queue.
pub(crate) trait Medium: Send {
    /// What it is called in messages to the operator.
    fn path(&self) -> &Path;

    /// The bytes, to be written to as well where `is_writable`.
    fn open(&self, is_writable: bool) -> io::Result<Box<dyn StorageBackend>>;
}

/// A file.
#[derive(Debug)]
pub(crate) struct OnDisk(pub(crate) PathBuf);

impl Medium for OnDisk {
    fn path(&self) -> &Path {
        &self.0
    }

    fn open(&self, is_writable: bool) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new()
            .read(true)
            .write(is_writable)
            .open(&self.0)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }
}

/// Opens a queue. Every page of it is checked before anything is written to it.
pub(crate) fn open(
    medium: &dyn Medium,
    first_error: &FirstError,
) -> Result<(Database, Restored), OpenError> {
    let path = medium.path();
    let file = medium.open(true).map_err(|error| not_opened(path, error))?;
    let (database, restored) = examined(path, View::alone(file))?;
    // What was only looked at has not been repaired, should it need that.
    drop(database);
    let database = reopen(medium, first_error);
    let database = database.map_err(|error| OpenError::from_redb(path.to_owned(), error))?;
    Ok((database, restored))
}

/// Opens a queue in order to look at it. Nothing is written.
pub(crate) fn open_view(medium: &dyn Medium) -> Result<Database, OpenError> {
    let path = medium.path();
    let file = medium
        .open(false)
        .map_err(|error| not_opened(path, error))?;
    let (database, _) = examined(path, View::new(file))?;
    Ok(database)
}

/// Opens a queue again that was open before.
pub(crate) fn reopen(
    medium: &dyn Medium,
    first_error: &FirstError,
) -> Result<Database, redb::Error> {
    let file = Writable::new(medium.open(true)?, first_error.clone());
    not_empty(&file)?;
    Ok(builder().create_with_backend(file)?)
}

/// As [`reopen`], in order to read only.
pub(crate) fn reopen_view(medium: &dyn Medium) -> Result<Database, redb::Error> {
    let file = View::new(medium.open(false)?);
    not_empty(&file)?;
    Ok(builder().create_with_backend(file)?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// redb would make a new database of an empty file.
fn not_empty(file: &impl StorageBackend) -> io::Result<()> {
    if file.len()? == 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is empty"));
    }
    Ok(())
}

fn examined(path: &Path, file: impl StorageBackend) -> Result<(Database, Restored), OpenError> {
    // A file that somebody else has written to may contradict what redb relies on.
    panic::catch_unwind(AssertUnwindSafe(|| examine(path, file))).unwrap_or_else(|_| {
        Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: "it contradicts itself".to_owned(),
        })
    })
}

fn examine(path: &Path, file: impl StorageBackend) -> Result<(Database, Restored), OpenError> {
    let of_redb = |error| OpenError::from_redb(path.to_owned(), error);
    not_empty(&file).map_err(|error| OpenError::from_io(path.to_owned(), error))?;
    let mut builder = builder();
    builder.set_check_integrity_on_open(true);
    let database = builder.create_with_backend(file);
    let database = database.map_err(|error| of_redb(error.into()))?;
    match schema::format(&database).map_err(of_redb)? {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => {
            let path = path.to_owned();
            return Err(OpenError::NewerFormat { path, found });
        }
        Some(_) | None => {
            return Err(OpenError::Damaged {
                path: path.to_owned(),
                detail: "it is a redb database of another program".to_owned(),
            });
        }
    }
    let transaction = database
        .begin_read()
        .map_err(|error| of_redb(error.into()))?;
    let restored = schema::restored(&transaction).map_err(of_redb)?;
    Ok((database, restored))
}

fn not_opened(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    if source.kind() == ErrorKind::NotFound {
        OpenError::Missing { path }
    } else if source.kind() == ErrorKind::PermissionDenied && File::open(&path).is_err() {
        OpenError::NotReadable { path, source }
    } else {
        OpenError::from_io(path, source)
    }
}

/// Makes a queue with nothing in it at `path`, unless there is a file already.
///
/// The file has its name once it is whole: whatever happens meanwhile, nobody finds half a queue.
pub(crate) fn create_if_missing(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::from_io(path.to_owned(), error);
    if path.try_exists().map_err(io)? {
        return Ok(());
    }
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    if !directory.try_exists().map_err(io)? {
        return Err(OpenError::DirectoryMissing {
            path: path.to_owned(),
            directory: directory.to_owned(),
        });
    }
    let mut unfinished = path.to_owned().into_os_string();
    unfinished.push(format!(".{}.new", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let created = write_new(&unfinished).and_then(|()| Ok(name(&unfinished, path)?));
    // Gone already if it was renamed, and of no use to anybody otherwise.
    let _ = fs::remove_file(&unfinished);
    created.map_err(|error| OpenError::from_redb(path.to_owned(), error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io)
}

fn write_new(path: &Path) -> Result<(), redb::Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let database = builder().create_with_backend(FileBackend::new(options.open(path)?)?)?;
    schema::create(&database)?;
    Ok(database.close()?)
}

/// Gives the file `from` the name `to`, unless another process was faster.
fn name(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Not every filesystem has links.
        Err(_) => fs::rename(from, to),
    }
}
