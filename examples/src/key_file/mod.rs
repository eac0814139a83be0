//! An agent's key, in a file (protocol section 7).
//!
//! The file is an agent's identity: whoever reads it *is* the agent, and without it the address is
//! lost. So it is written completely before it gets its name, by nobody but its owner to be read at
//! any moment, and never over another file; and when it is read, it must make sense in every part,
//! so that a damaged one is noticed before anything is signed with it. No error repeats what the
//! file says.

use core::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::Timestamp;
use pinch_proto::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const VERSION: u32 = 1;

/// A key file has some 250 bytes; what is longer than this is something else.
const MAX_LEN: u64 = 16 << 10;

/// The key of a file.
#[derive(Debug)]
pub struct KeyFile {
    /// The key.
    pub secret: SecretKey,
    /// Whether the file was made now.
    pub created: bool,
    /// Set if others than the owner may read or write the file.
    pub exposed: Option<Exposed>,
}

/// A key file can be read or written by others than its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Which file.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode } = self;
        let path = path.display();
        write!(
            f,
            "others can get at the key in {path} (mode {mode:04o}); run: chmod 600 {path}"
        )
    }
}

/// Why there is no key.
#[derive(Debug, Error)]
#[error("key file {}: {fault}", path.display())]
pub struct KeyFileError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a key file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is there and cannot be read.
    #[error("it cannot be read ({0}); let its owner run this, or name another file")]
    Read(io::Error),
    /// It cannot be made.
    #[error("it cannot be created ({0}); name a file in a directory where you may write")]
    Create(io::Error),
    /// The system gave no random bytes for a new key.
    #[error("no randomness from the system for a new key: {0}")]
    Random(#[from] getrandom::Error),
    /// It is something else.
    #[error(
        "it is no key file (line {line}, column {column}), expected a JSON object with version, public_key, private_key and created_at; restore it from a backup, or name another file"
    )]
    NoKeyFile {
        /// Where it stops to be one.
        line: usize,
        /// Where it stops to be one.
        column: usize,
    },
    /// It is longer than any key file.
    #[error("it is no key file, it has more than {MAX_LEN} bytes; name another file")]
    TooLong,
    /// It was written by a later program.
    #[error(
        "its version is {0}, expected {VERSION}; use the program that wrote it, or name another file"
    )]
    UnknownVersion(u32),
    /// A key is not written as keys are.
    #[error(
        "its {field} is not the standard Base64 of {expected} bytes; restore it from a backup, or name another file"
    )]
    Malformed {
        /// Which key.
        field: &'static str,
        /// How many bytes it should have.
        expected: usize,
    },
    /// The keys do not belong together.
    #[error(
        "its private_key and its public_key do not belong together; restore it from a backup, or name another file"
    )]
    Mismatch,
}

/// The file as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    public_key: String,
    private_key: String,
    created_at: String,
}

impl KeyFile {
    /// Reads the key in the file at `path`, or makes a new one and the file if there is none.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file, what is wrong with it, and what to do.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        read_or_create(path).map_err(|fault| KeyFileError {
            path: path.into(),
            fault,
        })
    }
}

fn read_or_create(path: &Path) -> Result<KeyFile, Fault> {
    match File::open(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut seed = [0; SecretKey::SEED_LEN];
            getrandom::fill(&mut seed)?;
            let secret = SecretKey::from_seed(seed);
            match create(path, &secret) {
                // Another process was faster: its key is the one that stays.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    read(path, File::open(path).map_err(Fault::Read)?)
                }
                Err(error) => Err(Fault::Create(error)),
                Ok(()) => Ok(KeyFile {
                    secret,
                    created: true,
                    exposed: None,
                }),
            }
        }
        Err(error) => Err(Fault::Read(error)),
    }
}

fn read(path: &Path, file: File) -> Result<KeyFile, Fault> {
    let exposed = exposure(path, &file).map_err(Fault::Read)?;
    let mut json = Vec::new();
    file.take(MAX_LEN + 1)
        .read_to_end(&mut json)
        .map_err(Fault::Read)?;
    if json.len() as u64 > MAX_LEN {
        return Err(Fault::TooLong);
    }
    let record: Record = serde_json::from_slice(&json).map_err(|error| Fault::NoKeyFile {
        line: error.line(),
        column: error.column(),
    })?;
    Ok(KeyFile {
        secret: record.secret()?,
        created: false,
        exposed,
    })
}

/// Writes the file under a temporary name, for its owner alone from its first moment on, then gives
/// it its name if that is free.
fn create(path: &Path, secret: &SecretKey) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut json = serde_json::to_string_pretty(&Record::new(secret, Timestamp::now()))?;
    json.push('\n');
    let mut file = tempfile::Builder::new()
        .prefix(".pinch-key-")
        .tempfile_in(directory)?;
    file.write_all(json.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    // The name is safe, too, once the directory is.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

impl Record {
    fn new(secret: &SecretKey, created_at: Timestamp) -> Self {
        let public = secret.public_key();
        Self {
            version: VERSION,
            public_key: BASE64_STANDARD.encode(public.as_bytes()),
            private_key: BASE64_STANDARD.encode([*secret.seed(), *public.as_bytes()].concat()),
            created_at: format!("{created_at:.3}"),
        }
    }

    fn secret(&self) -> Result<SecretKey, Fault> {
        if self.version != VERSION {
            return Err(Fault::UnknownVersion(self.version));
        }
        let public: [u8; PublicKey::LEN] = decode("public_key", &self.public_key)?;
        let private: [u8; SecretKey::SEED_LEN + PublicKey::LEN] =
            decode("private_key", &self.private_key)?;
        match private.split_first_chunk() {
            Some((seed, rest)) => {
                let secret = SecretKey::from_seed(*seed);
                let belongs = *rest == public && secret.public_key().as_bytes() == &public;
                belongs.then_some(secret).ok_or(Fault::Mismatch)
            }
            None => Err(Fault::Mismatch),
        }
    }
}

fn decode<const LEN: usize>(field: &'static str, text: &str) -> Result<[u8; LEN], Fault> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Fault::Malformed {
            field,
            expected: LEN,
        })
}

#[cfg(unix)]
fn exposure(path: &Path, file: &File) -> io::Result<Option<Exposed>> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then(|| Exposed {
        path: path.into(),
        mode,
    }))
}

/// Elsewhere, who may read a file is not said by a mode.
#[cfg(not(unix))]
fn exposure(_: &Path, _: &File) -> io::Result<Option<Exposed>> {
    Ok(None)
}

#[cfg(test)]
mod tests;
