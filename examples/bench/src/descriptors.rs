//! How many files this process, and the relays that it starts, may have open: each connection is
//! one.

use std::io;

/// What a program has open besides its connections.
const SPARE: u64 = 128;

/// Raises the limit as far as the system lets this process, and returns how many connections there
/// may be; `None` where there is no limit, or none that is known here.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub fn raise() -> io::Result<Option<u64>> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.maximum.map(|maximum| maximum.saturating_sub(SPARE)))
}

/// Raises the limit as far as the system lets this process, and returns how many connections there
/// may be; `None` where there is no limit, or none that is known here.
///
/// # Errors
/// The system refuses.
#[cfg(not(unix))]
pub fn raise() -> io::Result<Option<u64>> {
    Ok(None)
}
