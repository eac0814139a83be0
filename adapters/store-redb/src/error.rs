//! Why a queue cannot be opened, and how one has failed.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use pinch_proto::queue::Failure;

use crate::schema::FORMAT;

/// Why [`RedbStore::open`](crate::RedbStore::open) or
/// [`RedbStore::inspect`](crate::RedbStore::inspect) has not opened a file. Nothing in the file is
/// lost by that, and nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file. `open` makes one instead, unless it is asked for a link that leads
    /// nowhere.
    #[error("{}: there is no such file; name the queue of a relay", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is something else of that name: a directory, a device, a pipe.
    #[error("{}: this is no file, and a queue is one; name a file", path.display())]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// The directory that the file would be in does not exist.
    #[error(
        "{}: the directory {} does not exist; create it, or name another place for the queue",
        path.display(), directory.display()
    )]
    DirectoryMissing {
        /// The file.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The Go relay keeps its queue in this file, in a format (bbolt) that this crate does not read.
    #[error(
        "{}: this is the file of the Go relay, which this relay cannot read; name another file for \
         the queue",
        path.display()
    )]
    GoRelay {
        /// The file.
        path: PathBuf,
    },
    /// The file is no queue, or no longer one. An empty queue in its place would lose what it
    /// holds without a word, so the operator decides.
    #[error(
        "{}: the file is damaged, or not the queue of a relay: {detail}; restore it from a copy, \
         or move it away to begin with an empty queue",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer version of this crate wrote the file.
    #[error(
        "{}: the queue has format {found}, expected at most {FORMAT}; use the version of the \
         relay that wrote it, or a later one",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Another process, or another store in this one, has the file open.
    #[error(
        "{}: the queue is in use by another process, such as a relay that runs; end it first, or \
         name another file",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file, or its directory, may not be read.
    #[error("{}: the queue may not be read: {source}; permit this user to read it", path.display())]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file, or its directory, may not be written to.
    #[error(
        "{}: the queue may not be written to: {source}; permit this user to write to the file and \
         its directory, or mount the disk for writing",
        path.display()
    )]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no room for the file, or for what opening it writes.
    #[error("{}: the disk is full: {source}; make room on it", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Anything else that the system says.
    #[error(
        "{}: the queue cannot be opened: {source}; see to that, or name another place for it",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl OpenError {
    /// What `source`, said of the file at `path`, means.
    pub(crate) fn from_io(path: PathBuf, source: io::Error) -> Self {
        let kind = source.kind();
        match failure_of(&source) {
            Failure::DiskFull => Self::DiskFull { path, source },
            Failure::ReadOnly => Self::NotWritable { path, source },
            Failure::Broken
                if matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                let detail = source.to_string();
                Self::Damaged { path, detail }
            }
            Failure::Broken => Self::Io { path, source },
        }
    }

    /// What `error`, said by redb of the file at `path`, means.
    pub(crate) fn from_redb(path: PathBuf, error: redb::Error) -> Self {
        if let redb::Error::Io(source) = error {
            Self::from_io(path, source)
        } else if matches!(error, redb::Error::DatabaseAlreadyOpen) {
            Self::InUse { path }
        } else {
            // Whatever else redb says, it says of what stands in the file.
            let detail = error.to_string();
            Self::Damaged { path, detail }
        }
    }
}

/// How a store fails whose disk says `error`.
pub(crate) fn failure_of(error: &io::Error) -> Failure {
    const FULL: [ErrorKind; 3] = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::FileTooLarge,
    ];
    const READ_ONLY: [ErrorKind; 2] = [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied];
    if FULL.contains(&error.kind()) {
        Failure::DiskFull
    } else if READ_ONLY.contains(&error.kind()) {
        Failure::ReadOnly
    } else {
        Failure::Broken
    }
}
