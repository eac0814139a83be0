//! The ids of sent messages, in a file beside the key: so that a later process recognizes the
//! confirmation of a message that an earlier one sent.
//!
//! A line has the id and the recipient's key, in hexadecimal digits. The file is bounded: the oldest
//! lines go first. Processes that write at once wait for each other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use pinch_proto::PublicKey;

/// How many messages are remembered at least.
const REMEMBERED: usize = 4096;

/// The longest id that is remembered, in bytes.
const MAX_ID: usize = 64;

/// The longest line, in bytes: two digits a byte, a space and the end.
const MAX_LINE: u64 = 2 * (MAX_ID as u64 + PublicKey::LEN as u64) + 2;

/// The messages that an agent has sent, in a file.
#[derive(Clone, Debug)]
pub struct SentLog {
    path: PathBuf,
}

impl SentLog {
    /// The log beside the key file `key`: its name with `.sent` behind it.
    #[must_use]
    pub fn beside(key: &Path) -> Self {
        let mut path = key.as_os_str().to_owned();
        path.push(".sent");
        Self { path: path.into() }
    }

    /// Appends a message. An id of over 64 bytes is left out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&self, message_id: &[u8], to: &PublicKey) -> io::Result<()> {
        if message_id.len() > MAX_ID {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        file.lock()?;
        if file.metadata()?.len() >= 2 * REMEMBERED as u64 * MAX_LINE {
            forget_oldest(&mut file)?;
        }
        writeln!(file, "{} {}", hex(message_id), hex(to.as_bytes()))
    }

    /// The recipient of the message `message_id`, if it is remembered.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn recipient(&self, message_id: &[u8]) -> io::Result<Option<PublicKey>> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(mut file) => {
                file.lock_shared()?;
                file.read_to_string(&mut text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let id = hex(message_id);
        let mut lines = text.lines().rev().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(known, _)| *known == id);
        Ok(found.and_then(|(_, key)| key_of(key)))
    }
}

/// Leaves the newest half of a file that is full.
fn forget_oldest(file: &mut File) -> io::Result<()> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    let kept = lines.get(lines.len().saturating_sub(REMEMBERED)..);
    let kept = kept.unwrap_or_default().join("\n");
    // It is open for appending, so this goes to the new end.
    file.set_len(0)?;
    writeln!(file, "{kept}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_of(text: &str) -> Option<PublicKey> {
    let digits = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len() / 2).map(digits).collect();
    PublicKey::try_from(&bytes?[..]).ok()
}

#[cfg(test)]
mod tests {
    use pinch_proto::SecretKey;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; SecretKey::SEED_LEN]).public_key()
    }

    fn log() -> (tempfile::TempDir, SentLog) {
        let directory = tempfile::tempdir().unwrap();
        let log = SentLog::beside(&directory.path().join("alice.json"));
        (directory, log)
    }

    #[test]
    fn a_later_process_finds_the_recipient() {
        let (directory, log) = log();
        assert_eq!(log.recipient(b"1").unwrap(), None);
        log.remember(b"1", &key(1)).unwrap();
        log.remember(b"2", &key(2)).unwrap();
        let later = SentLog::beside(&directory.path().join("alice.json"));
        assert_eq!(later.recipient(b"1").unwrap(), Some(key(1)));
        assert_eq!(later.recipient(b"2").unwrap(), Some(key(2)));
        assert_eq!(later.recipient(b"3").unwrap(), None);
        assert!(directory.path().join("alice.json.sent").exists());
    }

    #[test]
    fn the_oldest_ids_go_first() {
        let (_directory, log) = log();
        let id = |number: usize| format!("{number:064}");
        let count = 2 * REMEMBERED + 10;
        for number in 0..count {
            log.remember(id(number).as_bytes(), &key(1)).unwrap();
        }
        assert_eq!(log.recipient(id(0).as_bytes()).unwrap(), None);
        let last = id(count - REMEMBERED);
        assert_eq!(log.recipient(last.as_bytes()).unwrap(), Some(key(1)));
        let length = std::fs::metadata(&log.path).unwrap().len();
        assert!(length <= (2 * REMEMBERED as u64 + 1) * MAX_LINE, "{length}");
    }

    #[test]
    fn a_damaged_line_is_skipped() {
        let (_directory, log) = log();
        std::fs::write(&log.path, "31 xyz\n31\n\n").unwrap();
        assert_eq!(log.recipient(b"1").unwrap(), None);
        log.remember(b"1", &key(1)).unwrap();
        assert_eq!(log.recipient(b"1").unwrap(), Some(key(1)));
    }
}
