//! How many files this process may have open: each connection is one.

use std::io;

/// What a program has open besides its connections.
const SPARE: usize = 64;

/// Raises the limit as far as the system lets this process, and returns it; `None` where there is no
/// limit, or none that is known here.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub fn raise() -> io::Result<Option<usize>> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    let maximum = limit.maximum;
    Ok(maximum.map(|maximum| usize::try_from(maximum).unwrap_or(usize::MAX)))
}

/// Raises the limit as far as the system lets this process, and returns it; `None` where there is no
/// limit, or none that is known here.
///
/// # Errors
/// The system refuses.
#[cfg(not(unix))]
pub fn raise() -> io::Result<Option<usize>> {
    Ok(None)
}

/// Shares a limit of open files out: how many pending handshakes there may be, of the `wanted`, and
/// how many connections besides them. So a relay that is full still accepts, and answers `/health`.
#[must_use]
pub fn share(limit: usize, wanted: usize) -> (usize, usize) {
    let limit = limit.saturating_sub(SPARE).max(2);
    let pending = wanted.min(limit / 16).max(1);
    (pending, limit - pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_and_connections_fit_the_limit() {
        for limit in [0, 1, 64, 100, 1024, 20_000, 1 << 20, usize::MAX] {
            for wanted in [1, 100, 4096, usize::MAX] {
                let (pending, connections) = share(limit, wanted);
                assert!((1..=wanted).contains(&pending), "{limit}, {wanted}");
                assert!(connections > 0, "{limit}, {wanted}");
                assert!(limit < 100 || pending + connections + SPARE == limit);
            }
        }
        assert_eq!(share(1 << 20, 4096), (4096, (1 << 20) - 64 - 4096));
        assert_eq!(share(1024, 4096), (60, 900));
    }
}
