//! The highest sequence of each sender, in a file beside the key: so that a replay is noticed by a
//! later process, too.
//!
//! A line has a sender's key in hexadecimal digits, its highest sequence (`-` if there was no message
//! yet), and `known` or `stranger`: whether this agent has written to it.

use std::path::Path;

use pinch_proto::PublicKey;

use crate::mailbox::{Remembered, Seen};
use crate::state_file::{StateError, StateFile, hex, unhex};

/// What is remembered of the senders, in a file.
#[derive(Debug)]
pub struct SeenFile {
    file: StateFile,
}

impl SeenFile {
    /// The file beside the key file `key`: its name with `.seen` behind it.
    #[must_use]
    pub fn beside(key: &Path) -> Self {
        Self {
            file: StateFile::beside(key, "seen"),
        }
    }

    /// Brings `seen` up to date with what other processes have written.
    ///
    /// # Errors
    /// [`StateError`] names the file and what to do.
    pub fn refresh(&mut self, seen: &mut Seen) -> Result<(), StateError> {
        let Some(lines) = self.file.read_if_changed()? else {
            return Ok(());
        };
        let mut saved = Seen::new();
        for line in lines {
            let (key, remembered) = parse(&line).ok_or_else(|| self.file.damaged())?;
            saved.add(&key, remembered);
        }
        seen.rebase(saved);
        Ok(())
    }

    /// Writes what `seen` has noted, if there is anything.
    ///
    /// # Errors
    /// [`StateError`] names the file and what to do. What was noted is tried again the next time.
    pub fn save(&mut self, seen: &mut Seen) -> Result<(), StateError> {
        if seen.has_unsaved() {
            self.change(seen, |_| ())
        } else {
            Ok(())
        }
    }

    /// Forgets the sequence of `sender`, for this process and all others, and returns it.
    ///
    /// # Errors
    /// [`StateError`] names the file and what to do.
    pub fn forget(
        &mut self,
        seen: &mut Seen,
        sender: &PublicKey,
    ) -> Result<Option<u64>, StateError> {
        self.change(seen, |seen| seen.forget(sender))
    }

    fn change<T>(
        &mut self,
        seen: &mut Seen,
        change: impl FnOnce(&mut Seen) -> T,
    ) -> Result<T, StateError> {
        let lock = self.file.lock()?;
        self.refresh(seen)?;
        let output = change(seen);
        self.file.replace(seen.senders().map(line), &lock)?;
        seen.mark_saved();
        Ok(output)
    }
}

fn line((key, remembered): (&PublicKey, Remembered)) -> String {
    let sequence = remembered
        .sequence
        .map_or("-".into(), |sequence| sequence.to_string());
    let kind = if remembered.is_known {
        "known"
    } else {
        "stranger"
    };
    format!("{} {sequence} {kind}", hex(key.as_bytes()))
}

fn parse(line: &str) -> Option<(PublicKey, Remembered)> {
    let mut words = line.split(' ');
    let key = PublicKey::try_from(&unhex(words.next()?)?[..]).ok()?;
    let sequence = match words.next()? {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    let is_known = match words.next()? {
        "known" => true,
        "stranger" => false,
        _ => return None,
    };
    let remembered = Remembered { sequence, is_known };
    words.next().is_none().then_some((key, remembered))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; PublicKey::LEN])
    }

    fn file(directory: &tempfile::TempDir) -> SeenFile {
        SeenFile::beside(&directory.path().join("alice.json"))
    }

    #[test]
    fn a_later_process_remembers_everything() {
        let directory = tempfile::tempdir().unwrap();
        let mut seen = Seen::new();
        seen.hear(&key(1), u64::MAX);
        seen.know(&key(2));
        seen.know(&key(3));
        seen.hear(&key(3), 0);
        file(&directory).save(&mut seen).unwrap();
        let mut later = Seen::new();
        file(&directory).refresh(&mut later).unwrap();
        assert!(!later.has_unsaved());
        assert!(later.senders().eq(seen.senders()));
        assert!(directory.path().join("alice.json.seen").exists());
    }

    #[test]
    fn processes_add_to_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (file(&directory), file(&directory));
        let (mut seen, mut others) = (Seen::new(), Seen::new());
        seen.hear(&key(1), 5);
        others.hear(&key(1), 4);
        others.hear(&key(2), 6);
        one.save(&mut seen).unwrap();
        other.save(&mut others).unwrap();
        one.refresh(&mut seen).unwrap();
        for seen in [&seen, &others] {
            assert_eq!(seen.last(&key(1)), Some(5));
            assert_eq!(seen.last(&key(2)), Some(6));
        }
        assert_eq!(one.forget(&mut seen, &key(1)).unwrap(), Some(5));
        other.refresh(&mut others).unwrap();
        assert_eq!(others.last(&key(1)), None);
    }

    #[test]
    fn what_another_program_wrote_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = file(&directory);
        for line in [
            "",
            "00 1 known",
            "xyz",
            &line((&key(1), Remembered::default()))[..64],
        ] {
            let lock = file.file.lock().unwrap();
            let lines = [line.to_owned()].into_iter();
            file.file.replace(lines, &lock).unwrap();
            drop(lock);
            let mut later = SeenFile::beside(&directory.path().join("alice.json"));
            assert!(later.refresh(&mut Seen::new()).is_err(), "{line}");
        }
    }
}
