//! Logs: on stderr, as text or JSON, selected by `RUST_LOG`.
//!
//! Whatever happens to stderr, the program goes on: see [`lines_lost`].

mod writer;

use core::time::Duration;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::env::{self, VarError};
use std::io::{self, IsTerminal as _, Write};
use std::panic;
use std::sync::OnceLock;

use thiserror::Error;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use self::writer::LogWriter;
use crate::options::LogFormat;

/// How long the end of a program waits for an output that takes no logs.
const PATIENCE: Duration = Duration::from_secs(1);

static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Why there are no logs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// `RUST_LOG` cannot be understood.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The system does not give what writing logs needs.
    #[error("cannot write logs: {0}")]
    Start(#[from] io::Error),
}

/// `RUST_LOG` cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid value {value:?} for the environment variable RUST_LOG: expected directives such as info or pinch_driver=debug,warn"
)]
pub struct FilterError {
    value: String,
}

/// Writes what is still to be written of the logs when it is dropped, and waits for that as long as
/// the output takes it.
#[must_use = "logs of the end may be lost without it"]
#[derive(Debug)]
pub struct Logs(LogWriter);

impl Drop for Logs {
    fn drop(&mut self) {
        self.0.flush(PATIENCE);
    }
}

/// How many log lines were lost, because stderr did not take them: its reader has stopped or gone, or
/// its disk is full. When it takes lines again, a line says how many.
pub fn lines_lost() -> u64 {
    WRITER.get().map_or(0, LogWriter::lost)
}

/// Writes the logs of this process to stderr from now on, and panics with them. Without `RUST_LOG`,
/// they are what is worth an operator's while (`info`).
///
/// Whoever logs only puts the line into a buffer of 1 MiB; a thread writes it.
///
/// # Errors
/// `RUST_LOG` cannot be understood, or the system gives no thread.
///
/// # Panics
/// Logs go somewhere already.
pub fn init(format: LogFormat) -> Result<Logs, LogError> {
    let filter = match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(value) => filter(value)?,
        Err(VarError::NotPresent) => filter(String::new())?,
        Err(VarError::NotUnicode(value)) => {
            return Err(FilterError {
                value: value.to_string_lossy().into_owned(),
            }
            .into());
        }
    };
    let writer = LogWriter::start(stderr()?)?;
    let logs = fmt()
        .with_env_filter(filter)
        .with_writer(WRITER.get_or_init(|| writer.clone()).clone())
        // It would report an error of the writer with `eprintln!`.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    panic::set_hook(Box::new(|info| {
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            error!("{info}\n{backtrace}");
        } else {
            error!("{info}");
        }
    }));
    Ok(Logs(writer))
}

/// stderr without the lock of the standard library: while a line waits for a reader that has stopped,
/// others may have something to say there.
#[cfg(unix)]
fn stderr() -> io::Result<impl Write + Send + 'static> {
    use std::os::fd::AsFd as _;

    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    Ok(std::fs::File::from(stderr))
}

#[cfg(not(unix))]
fn stderr() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stderr())
}

fn filter(value: String) -> Result<EnvFilter, FilterError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(&value).map_err(|_| FilterError { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_info() {
        assert_eq!(filter(String::new()).unwrap().to_string(), "info");
        let chosen = filter("pinch_driver=debug".into()).unwrap();
        assert_eq!(chosen.to_string(), "pinch_driver=debug");
    }

    #[test]
    fn what_is_no_filter_is_named() {
        let error = filter("info=debug=trace".into()).unwrap_err();
        assert!(
            error.to_string().contains("\"info=debug=trace\""),
            "{error}"
        );
    }
}
