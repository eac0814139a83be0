//! The place of a queue in the file system: who may read it, and whether it is still there.

use core::time::Duration;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tracing::{error, info};

/// Time between two looks at the place of a queue.
const INTERVAL: Duration = Duration::from_secs(1);

const UNLINKED: &str = "file unlinked";
const REPLACED: &str = "file replaced";

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Identity {
    #[cfg(unix)]
    pub(crate) fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Elsewhere, a file that is open keeps its name.
    #[cfg(not(unix))]
    pub(crate) const fn of(_: &Metadata) -> Self {
        Self {}
    }
}

/// Lets nobody but its owner read or write the file at `path`.
#[cfg(unix)]
pub(crate) fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    const OTHERS: u32 = 0o077;
    let restricted = fs::metadata(path).and_then(|metadata| {
        let mut permissions = metadata.permissions();
        let mode = permissions.mode();
        if mode & OTHERS == 0 {
            return Ok(());
        }
        permissions.set_mode(mode & !OTHERS);
        fs::set_permissions(path, permissions)
    });
    if let Err(error) = restricted {
        let path = path.display();
        tracing::warn!(%path, %error, "others may read the queue, and its mode cannot be changed to 0600");
    }
}

#[cfg(not(unix))]
pub(crate) const fn restrict(_: &Path) {}

/// Looks now and then whether a queue that is open is still at its place. A thread of its own does
/// that: the file system may not answer.
#[derive(Debug)]
pub(crate) struct Watch {
    warning: Arc<Mutex<Option<&'static str>>>,
    /// Its end is that of the thread.
    _stop: Sender<()>,
}

impl Watch {
    pub(crate) fn start(path: PathBuf, identity: Identity) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let warning = Arc::default();
        let watched = Arc::clone(&warning);
        thread::Builder::new()
            .name("pinch-place".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                    look(&path, identity, &watched);
                }
            })?;
        Ok(Self {
            warning,
            _stop: stop,
        })
    }

    /// What is wrong with the place.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        *self.warning.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(path: &Path, identity: Identity, warning: &Mutex<Option<&'static str>>) {
    let found = match fs::metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == identity => None,
        Ok(_) => Some(REPLACED),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(UNLINKED),
        // Where it cannot be looked at, nothing is known.
        Err(_) => return,
    };
    let before = core::mem::replace(
        &mut *warning.lock().unwrap_or_else(PoisonError::into_inner),
        found,
    );
    if before == found {
        return;
    }
    let path = path.display();
    match found {
        Some(problem) => error!(
            %path, problem,
            "the queue file is no longer at its place: it is lost when this process ends"
        ),
        None => info!(%path, "the queue file is at its place again"),
    }
}
