//! Where a queue is kept, and how it is opened: the one place that decides what a file is.

use core::panic::AssertUnwindSafe;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pinch_proto::queue::Restored;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, StorageBackend};

use crate::backend::{View, Writable};
use crate::error::OpenError;
use crate::place::Identity;
use crate::room::Room;
use crate::schema::{self, FORMAT};
use crate::steps;

/// How much of a file redb keeps in memory. A queue is written once, read once and removed, so
/// that a cache of the messages would be of little use; this holds the index of a busy relay. In
/// tests it is so little that redb reads and writes in the middle of transactions, too.
const CACHE_BYTES: usize = if cfg!(test) { 32 } else { 16 * 1024 } * 1024;

/// Something that holds the bytes of a queue.
pub(crate) trait Medium: Send {
    /// What it is called in messages to the operator.
    fn path(&self) -> &Path;

    /// How much of it redb keeps in memory.
    fn cache_bytes(&self) -> usize {
        CACHE_BYTES
    }

    /// The bytes, to be written to as well where `is_writable`.
    fn open(&self, is_writable: bool) -> io::Result<Box<dyn StorageBackend>>;
}

/// A file.
#[derive(Debug)]
pub(crate) struct OnDisk {
    path: PathBuf,
    /// The file that was opened first; another in its place is another queue.
    identity: Arc<OnceLock<Identity>>,
}

impl OnDisk {
    pub(crate) fn new(path: PathBuf) -> Self {
        let identity = Arc::default();
        Self { path, identity }
    }

    /// The file, once it was opened.
    pub(crate) fn identity(&self) -> Arc<OnceLock<Identity>> {
        Arc::clone(&self.identity)
    }
}

impl Medium for OnDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, is_writable: bool) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new()
            .read(true)
            .write(is_writable)
            .open(&self.path)?;
        let identity = Identity::of(&file.metadata()?);
        if *self.identity.get_or_init(|| identity) != identity {
            return Err(io::Error::other("another file has taken its place"));
        }
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }
}

/// Opens a queue. Nothing is written to what is none; not all of its pages are looked at.
pub(crate) fn open(
    medium: &dyn Medium,
    room: &Arc<Room>,
) -> Result<(Database, Restored), OpenError> {
    let path = medium.path();
    let file = medium.open(true).map_err(|error| not_opened(path, error))?;
    let (database, restored) = examined(medium, View::new(file), false)?;
    let opened = panic::catch_unwind(AssertUnwindSafe(|| {
        // What was only looked at has not been repaired, should it need that.
        drop(database);
        let database = reopen(medium, room)?;
        schema::upgrade(&database)?;
        Ok(database)
    }));
    let database = opened.unwrap_or_else(|_| Err(schema::corrupted("it contradicts itself")));
    let database = database.map_err(|error| OpenError::from_redb(path.to_owned(), error))?;
    Ok((database, restored))
}

/// Opens a queue in order to look at it. Every page is checked, and nothing is written.
pub(crate) fn open_view(medium: &dyn Medium) -> Result<Database, OpenError> {
    let path = medium.path();
    let file = medium
        .open(false)
        .map_err(|error| not_opened(path, error))?;
    let (database, _) = examined(medium, View::new(file), true)?;
    Ok(database)
}

/// Opens a queue again that was open before.
pub(crate) fn reopen(medium: &dyn Medium, room: &Arc<Room>) -> Result<Database, redb::Error> {
    let file = medium.open(true)?;
    not_empty(&*file)?;
    let file = Writable::new(file, Arc::clone(room))?;
    Ok(builder(medium.cache_bytes()).create_with_backend(file)?)
}

/// As [`reopen`], in order to read only.
pub(crate) fn reopen_view(medium: &dyn Medium) -> Result<Database, redb::Error> {
    let file = View::new(medium.open(false)?);
    not_empty(&file)?;
    Ok(builder(medium.cache_bytes()).create_with_backend(file)?)
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    builder
}

/// redb would make a new database of an empty file.
fn not_empty(file: &dyn StorageBackend) -> io::Result<()> {
    if file.len()? == 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is empty"));
    }
    Ok(())
}

/// Whether it is a file of bbolt, in which the Go relay keeps its queue: behind the header of its first
/// page stands a magic number.
fn is_bbolt(file: &impl StorageBackend) -> io::Result<bool> {
    const OFFSET: u64 = 16;
    const MAGIC: [u8; 4] = 0xed0c_daed_u32.to_le_bytes();
    if file.len()? < OFFSET + MAGIC.len() as u64 {
        return Ok(false);
    }
    let mut found = [0; MAGIC.len()];
    file.read(OFFSET, &mut found)?;
    Ok(found == MAGIC)
}

fn examined(
    medium: &dyn Medium,
    file: View,
    is_checked: bool,
) -> Result<(Database, Restored), OpenError> {
    // A file that somebody else has written to may contradict what redb relies on.
    panic::catch_unwind(AssertUnwindSafe(|| examine(medium, file, is_checked))).unwrap_or_else(
        |_| {
            Err(OpenError::Damaged {
                path: medium.path().to_owned(),
                detail: "it contradicts itself".to_owned(),
            })
        },
    )
}

fn examine(
    medium: &dyn Medium,
    file: View,
    is_checked: bool,
) -> Result<(Database, Restored), OpenError> {
    let path = medium.path();
    let of_redb = |error| OpenError::from_redb(path.to_owned(), error);
    let of_io = |error| OpenError::from_io(path.to_owned(), error);
    not_empty(&file).map_err(of_io)?;
    if is_bbolt(&file).map_err(of_io)? {
        let path = path.to_owned();
        return Err(OpenError::GoRelay { path });
    }
    let mut builder = builder(medium.cache_bytes());
    builder.set_check_integrity_on_open(is_checked);
    let database = builder.create_with_backend(file);
    let database = database.map_err(|error| of_redb(error.into()))?;
    match schema::format(&database).map_err(of_redb)? {
        Some(1..=FORMAT) => {}
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
    schema::upgrade(&database).map_err(of_redb)?;
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

/// Whether there is a file at `path`. Anything else is left alone: whoever opens a pipe may wait for
/// ever, and a device does not keep what is written to it.
pub(crate) fn is_there(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(_) => {
            let path = path.to_owned();
            Err(OpenError::NotAFile { path })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(not_opened(path, error)),
    }
}

/// Makes a queue with nothing in it at `path`, unless there is a file already.
///
/// The file has its name once it is whole: whatever happens meanwhile, nobody finds half a queue.
pub(crate) fn create_if_missing(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::from_io(path.to_owned(), error);
    if is_there(path)? {
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
    let (unfinished, file) = create_beside(path).map_err(io)?;
    let open = || -> io::Result<Box<dyn StorageBackend>> {
        let file = FileBackend::new(file.try_clone()?);
        Ok(Box::new(file.map_err(io::Error::other)?))
    };
    let created = write_new(open, CACHE_BYTES).and_then(|()| Ok(name(&unfinished, path)?));
    // Gone already if it was renamed, and of no use to anybody otherwise.
    let _ = fs::remove_file(&unfinished);
    created.map_err(|error| OpenError::from_redb(path.to_owned(), error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io)
}

/// Makes an empty file next to `path`, which is for this call alone: others may be making the same
/// queue at the same time, and a crash may have left what they wrote.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    // Who writes to whom is nobody else's business.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut number = 0;
    loop {
        let mut beside = path.to_owned().into_os_string();
        beside.push(format!(".{number}.new"));
        let beside = PathBuf::from(beside);
        match options.open(&beside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            opened => return Ok((beside, opened?)),
        }
    }
}

/// Makes the empty file that `open` opens a queue with nothing in it.
pub(crate) fn write_new(
    open: impl Fn() -> io::Result<Box<dyn StorageBackend>>,
    cache_bytes: usize,
) -> Result<(), redb::Error> {
    let create = || -> Result<Database, redb::Error> {
        let file = Writable::new(open()?, Arc::new(Room::new()))?;
        Ok(builder(cache_bytes).create_with_backend(file)?)
    };
    create()?.close()?;
    steps::set_steps(&*open()?)?;
    let database = create()?;
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
