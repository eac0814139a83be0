//! The wish to stop: SIGINT (Ctrl-C) and SIGTERM, on whatever runtime a program runs; for a relay,
//! SIGUSR1, too.
//!
//! The first one asks a program to leave in order; what a second one means is for the program.

use std::io;

use async_channel::Receiver;
#[cfg(unix)]
use tracing::info;

/// How many signals may wait to be looked at. A third one says nothing that two did not.
const WAITING: usize = 2;

/// A signal that asks to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: a person pressed Ctrl-C.
    Interrupt,
    /// SIGTERM: a supervisor asks.
    Terminate,
    /// SIGUSR1: an operator asks a relay to drain.
    Drain,
}

impl Stop {
    /// The exit code of a program that was ended by this signal, as shells report it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Drain => 138,
        }
    }
}

/// The signals that ask this process to stop. They do nothing else from the first listener on.
///
/// From then on, SIGXFSZ does nothing either: a file that may not grow beyond the limit of a process
/// is an error for whoever writes, and no reason to end.
#[derive(Debug)]
pub struct Signals {
    stops: Receiver<Stop>,
}

impl Signals {
    /// Listens from now on, in a thread of its own: the runtimes have no common way.
    ///
    /// # Errors
    /// The system does not allow it.
    #[cfg(unix)]
    pub fn listen() -> io::Result<Self> {
        Self::listen_to(&[])
    }

    /// As [`listen`](Self::listen), for a relay: SIGUSR1 asks it to stop, too. SIGHUP, by which other
    /// servers read their settings again, and SIGUSR2 only lead to a line in the log: the settings of a
    /// relay are flags and environment variables, which do not change while it runs.
    ///
    /// # Errors
    /// The system does not allow it.
    #[cfg(unix)]
    pub fn listen_as_relay() -> io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};

        Self::listen_to(&[SIGHUP, SIGUSR1, SIGUSR2])
    }

    #[cfg(unix)]
    fn listen_to(others: &[i32]) -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

        let all = [SIGINT, SIGTERM, SIGXFSZ];
        let mut signals = signal_hook::iterator::Signals::new(all.iter().chain(others))?;
        let (sender, stops) = async_channel::bounded(WAITING);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    let stop = match signal {
                        SIGINT => Stop::Interrupt,
                        SIGTERM => Stop::Terminate,
                        SIGUSR1 => Stop::Drain,
                        SIGXFSZ => continue,
                        other => {
                            let signal = signal_hook::low_level::signal_name(other);
                            let signal = signal.unwrap_or("unknown");
                            info!(signal, "ignored: restart the relay to change its settings");
                            continue;
                        }
                    };
                    if sender.try_send(stop).is_err_and(|error| error.is_closed()) {
                        return;
                    }
                }
            })?;
        Ok(Self { stops })
    }

    /// As [`listen`](Self::listen).
    ///
    /// # Errors
    /// The system does not allow it.
    #[cfg(not(unix))]
    pub fn listen_as_relay() -> io::Result<Self> {
        Self::listen()
    }

    /// Listens for Ctrl-C from now on.
    ///
    /// # Errors
    /// The system does not allow it.
    #[cfg(not(unix))]
    pub fn listen() -> io::Result<Self> {
        let (sender, stops) = async_channel::bounded(WAITING);
        ctrlc::set_handler(move || drop(sender.try_send(Stop::Interrupt)))
            .map_err(io::Error::other)?;
        Ok(Self { stops })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// Dropping the future loses no signal.
    pub async fn next(&self) -> Stop {
        match self.stops.recv().await {
            Ok(stop) => stop,
            // The thread that sends has no end of its own.
            Err(_) => core::future::pending().await,
        }
    }
}
