//! The ids of sent messages, in a file beside the key: so that a later process recognizes the
//! confirmation of a message that an earlier one sent.
//!
//! A line has the id and the recipient's key, in hexadecimal digits. The file is bounded: the oldest
//! lines go first. Its content is kept in memory, and read again only once another process has
//! replaced it, so that a stranger's confirmations cost a look at the file's name.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use bytes::Bytes;
use pinch_proto::PublicKey;

use crate::state_file::{StateError, StateFile, hex, unhex};

/// How many messages are remembered.
const REMEMBERED: usize = 4096;

/// The longest id that is remembered, in bytes.
const MAX_ID: usize = 64;

/// The messages that an agent has sent, in a file.
#[derive(Debug)]
pub struct SentLog {
    file: StateFile,
    recipients: HashMap<Bytes, PublicKey>,
    /// The ids, the oldest first.
    order: VecDeque<Bytes>,
}

impl SentLog {
    /// The log beside the key file `key`: its name with `.sent` behind it.
    #[must_use]
    pub fn beside(key: &Path) -> Self {
        Self {
            file: StateFile::beside(key, "sent"),
            recipients: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Adds a message. An id of over 64 bytes is left out.
    ///
    /// # Errors
    /// [`StateError`] names the file and what to do.
    pub fn remember(&mut self, message_id: &[u8], to: &PublicKey) -> Result<(), StateError> {
        if message_id.len() > MAX_ID {
            return Ok(());
        }
        let lock = self.file.lock()?;
        self.refresh()?;
        self.add(Bytes::copy_from_slice(message_id), *to);
        let lines = self.order.iter().filter_map(|id| {
            let to = self.recipients.get(id)?;
            Some(format!("{} {}", hex(id), hex(to.as_bytes())))
        });
        self.file.replace(lines, &lock)
    }

    /// The recipient of the message `message_id`, if it is remembered.
    ///
    /// # Errors
    /// [`StateError`] names the file and what to do.
    pub fn recipient(&mut self, message_id: &[u8]) -> Result<Option<PublicKey>, StateError> {
        self.refresh()?;
        Ok(self.recipients.get(message_id).copied())
    }

    fn refresh(&mut self) -> Result<(), StateError> {
        let Some(lines) = self.file.read_if_changed()? else {
            return Ok(());
        };
        let parsed: Option<Vec<_>> = lines.iter().map(|line| parse(line)).collect();
        let parsed = parsed.ok_or_else(|| self.file.damaged())?;
        self.recipients.clear();
        self.order.clear();
        for (id, to) in parsed {
            self.add(id, to);
        }
        Ok(())
    }

    fn add(&mut self, id: Bytes, to: PublicKey) {
        if self.recipients.insert(id.clone(), to).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.recipients.remove(&oldest);
        }
    }
}

fn parse(line: &str) -> Option<(Bytes, PublicKey)> {
    let (id, key) = line.split_once(' ')?;
    let key = PublicKey::try_from(&unhex(key)?[..]).ok()?;
    Some((unhex(id)?.into(), key))
}

#[cfg(test)]
mod tests {
    use pinch_proto::SecretKey;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; SecretKey::SEED_LEN]).public_key()
    }

    fn log(directory: &tempfile::TempDir) -> SentLog {
        SentLog::beside(&directory.path().join("alice.json"))
    }

    #[test]
    fn another_process_finds_the_recipient() {
        let directory = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (log(&directory), log(&directory));
        assert_eq!(other.recipient(b"1").unwrap(), None);
        one.remember(b"1", &key(1)).unwrap();
        assert_eq!(other.recipient(b"1").unwrap(), Some(key(1)));
        other.remember(b"2", &key(2)).unwrap();
        one.remember(b"3", &key(3)).unwrap();
        for log in [&mut one, &mut other, &mut log(&directory)] {
            assert_eq!(log.recipient(b"1").unwrap(), Some(key(1)));
            assert_eq!(log.recipient(b"2").unwrap(), Some(key(2)));
            assert_eq!(log.recipient(b"3").unwrap(), Some(key(3)));
            assert_eq!(log.recipient(b"4").unwrap(), None);
        }
        assert!(directory.path().join("alice.json.sent").exists());
    }

    #[test]
    fn the_oldest_ids_go_first() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(&directory);
        let id = |number: usize| Bytes::from(format!("{number:064}"));
        for number in 0..REMEMBERED {
            log.add(id(number), key(1));
        }
        log.remember(&id(REMEMBERED), &key(2)).unwrap();
        let mut later = super::tests::log(&directory);
        for log in [&mut log, &mut later] {
            assert_eq!(log.recipient(&id(0)).unwrap(), None);
            assert_eq!(log.recipient(&id(1)).unwrap(), Some(key(1)));
            assert_eq!(log.recipient(&id(REMEMBERED)).unwrap(), Some(key(2)));
        }
        log.remember(&[b'x'; 65], &key(1)).unwrap();
        assert_eq!(log.recipient(&[b'x'; 65]).unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alice.json.sent");
        log(&directory).remember(b"1", &key(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        for error in [
            log(&directory).recipient(b"1").unwrap_err(),
            log(&directory).remember(b"2", &key(1)).unwrap_err(),
        ] {
            assert_eq!(error.path, path);
        }
        assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() - 1]);
    }
}
