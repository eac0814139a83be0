//! A small text file beside the key, for what an agent has to know after a restart.
//!
//! It is replaced as a whole: written under a temporary name, made safe on the disk, then given its
//! name. So a crash leaves the old file or the new one. Processes that change it wait for each other
//! by a lock on a file of its own, `KEY.lock`; those that read need none. Its first line has the
//! SHA-256 of the others, by which a file that was damaged, or is another one, is noticed.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// No file of this kind is longer, in bytes.
const MAX_LEN: u64 = 8 << 20;

/// What the name of the file that is locked ends in.
const LOCK: &str = "lock";

/// A file beside the key.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    lock: PathBuf,
    /// What the name ends in, and the first line begins with.
    kind: &'static str,
    /// The file that was read or written last. It is kept open, so that no other gets its number.
    last: Option<File>,
}

/// What is wrong with a file beside the key.
#[derive(Debug, Error)]
#[error("{}: {fault}", path.display())]
pub struct StateError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: StateFault,
}

/// What is wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateFault {
    /// It is there and cannot be read.
    #[error("it cannot be read ({0}); let the owner of the key run this")]
    Read(#[source] io::Error),
    /// It cannot be replaced.
    #[error("it cannot be written ({0}); keep the key in a directory where you may write")]
    Write(#[source] io::Error),
    /// It is something else.
    #[error("it is another file: its first line is not that of an agent's `{0}`; move it away")]
    Foreign(&'static str),
    /// It is not what was written.
    #[error(
        "it is damaged; restore it from a backup, or remove it: then what an agent's `{0}` remembers of earlier messages is lost"
    )]
    Damaged(&'static str),
}

impl StateFile {
    /// The file beside the key file `key` whose name has a dot and `kind` behind that of the key.
    #[must_use]
    pub fn beside(key: &Path, kind: &'static str) -> Self {
        let named = |suffix: &str| {
            let mut path = key.as_os_str().to_owned();
            path.push(".");
            path.push(suffix);
            PathBuf::from(path)
        };
        Self {
            path: named(kind),
            lock: named(LOCK),
            kind,
            last: None,
        }
    }

    /// The lines of the file, or `None` if it is the one that was read or written here last. No file
    /// is as good as one without lines.
    ///
    /// # Errors
    /// [`StateError`] names the file and what to do.
    pub fn read_if_changed(&mut self) -> Result<Option<Vec<String>>, StateError> {
        self.read().map_err(|fault| self.error(fault))
    }

    fn read(&mut self) -> Result<Option<Vec<String>>, StateFault> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let was_there = self.last.take().is_some();
                return Ok(was_there.then(Vec::new));
            }
            Err(error) => return Err(StateFault::Read(error)),
        };
        if let Some(last) = &self.last
            && is_same(last, &file).map_err(StateFault::Read)?
        {
            return Ok(None);
        }
        let mut text = Vec::new();
        let mut limited = (&mut file).take(MAX_LEN + 1);
        limited.read_to_end(&mut text).map_err(StateFault::Read)?;
        let lines = self.lines(&text)?;
        self.last = Some(file);
        Ok(Some(lines))
    }

    fn lines(&self, text: &[u8]) -> Result<Vec<String>, StateFault> {
        let begins = |text: &[u8]| text.starts_with(format!("pinch {} 1 ", self.kind).as_bytes());
        if !begins(text) || text.len() as u64 > MAX_LEN {
            return Err(StateFault::Foreign(self.kind));
        }
        let text = str::from_utf8(text).ok();
        let body = text
            .and_then(|text| text.split_once('\n'))
            .and_then(|(first, body)| (first == self.first_line(body)).then_some(body));
        let body = body.ok_or(StateFault::Damaged(self.kind))?;
        Ok(body.lines().map(String::from).collect())
    }

    fn first_line(&self, body: &str) -> String {
        format!("pinch {} 1 {}", self.kind, hex(&Sha256::digest(body)))
    }

    /// Waits until no other process changes a file beside this key.
    ///
    /// # Errors
    /// The file `KEY.lock` cannot be opened or locked.
    pub fn lock(&self) -> Result<Lock, StateError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let locked = options.open(&self.lock).and_then(|file| {
            file.lock()?;
            Ok(Lock { _file: file })
        });
        locked.map_err(|error| StateError {
            path: self.lock.clone(),
            fault: StateFault::Write(error),
        })
    }

    /// Replaces the lines. `_lock` has been held since they were read.
    ///
    /// # Errors
    /// The file cannot be written; the old one is still there.
    pub fn replace(
        &mut self,
        lines: impl Iterator<Item = String>,
        _lock: &Lock,
    ) -> Result<(), StateError> {
        let body: String = lines.flat_map(|line| [line, "\n".into()]).collect();
        let written = self.write(&body);
        written.map_err(|error| self.error(StateFault::Write(error)))
    }

    fn write(&mut self, body: &str) -> io::Result<()> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        // Only its owner can read it, from its first moment on.
        let mut file = tempfile::Builder::new()
            .prefix(".pinch-state-")
            .tempfile_in(directory)?;
        writeln!(file, "{}", self.first_line(body))?;
        file.write_all(body.as_bytes())?;
        file.as_file().sync_all()?;
        let file = file.persist(&self.path).map_err(|error| error.error)?;
        // The name is safe, too, once the directory is.
        #[cfg(unix)]
        File::open(directory)?.sync_all()?;
        self.last = Some(file);
        Ok(())
    }

    /// A line is not as this program writes it. The file is read again the next time.
    #[must_use]
    pub fn damaged(&mut self) -> StateError {
        self.last = None;
        self.error(StateFault::Damaged(self.kind))
    }

    fn error(&self, fault: StateFault) -> StateError {
        StateError {
            path: self.path.clone(),
            fault,
        }
    }
}

/// Keeps other processes from changing a file, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Whether two open files are one, with the content that it had.
fn is_same(last: &File, file: &File) -> io::Result<bool> {
    let (last, file) = (last.metadata()?, file.metadata()?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Ok((last.dev(), last.ino()) == (file.dev(), file.ino()))
    }
    #[cfg(not(unix))]
    Ok(last.len() == file.len() && last.modified()? == file.modified()?)
}

/// `bytes` as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of an even number of hexadecimal digits.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digits = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    (0..text.len() / 2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &tempfile::TempDir) -> StateFile {
        StateFile::beside(&directory.path().join("key.json"), "test")
    }

    fn replace(file: &mut StateFile, lines: &[&str]) {
        let lock = file.lock().unwrap();
        let lines = lines.iter().map(|line| String::from(*line));
        file.replace(lines, &lock).unwrap();
    }

    #[test]
    fn what_is_written_is_read_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (file(&directory), file(&directory));
        assert_eq!(one.read_if_changed().unwrap(), None);
        replace(&mut one, &["a", "b"]);
        assert_eq!(one.read_if_changed().unwrap(), None, "its own words");
        let lines = other.read_if_changed().unwrap().unwrap();
        assert_eq!(lines, ["a", "b"]);
        assert_eq!(other.read_if_changed().unwrap(), None);
        replace(&mut one, &["c", "d"]);
        let lines = other.read_if_changed().unwrap().unwrap();
        assert_eq!(lines, ["c", "d"]);
        std::fs::remove_file(&one.path).unwrap();
        assert_eq!(other.read_if_changed().unwrap(), Some(Vec::new()));
        assert_eq!(other.read_if_changed().unwrap(), None);
    }

    #[test]
    fn every_cut_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        replace(&mut file(&directory), &["a", "b"]);
        let path = file(&directory).path;
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let error = file(&directory).read_if_changed().unwrap_err();
            assert!(matches!(
                error.fault,
                StateFault::Damaged(_) | StateFault::Foreign(_)
            ));
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
    }

    /// What a reader has open, or a crash leaves, is a whole file.
    #[cfg(unix)]
    #[test]
    fn a_file_is_never_changed_in_place() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        replace(&mut file(&directory), &["a"]);
        let path = file(&directory).path;
        let kept = directory.path().join("kept");
        std::fs::hard_link(&path, &kept).unwrap();
        let before = std::fs::read(&kept).unwrap();
        replace(&mut file(&directory), &["b"]);
        assert_eq!(std::fs::read(&kept).unwrap(), before);
        assert_ne!(std::fs::read(&path).unwrap(), before);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn digits_are_bytes() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        for wrong in ["a", "xy", "é0"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
