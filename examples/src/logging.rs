//! Logs: on stderr, as text or JSON, selected by `RUST_LOG`.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FromEnvError, LevelFilter};
use tracing_subscriber::fmt;

use crate::options::LogFormat;

/// Writes the logs of this process to stderr from now on. Without `RUST_LOG`, they are what is
/// worth an operator's while (`info`).
///
/// # Errors
/// `RUST_LOG` cannot be understood.
///
/// # Panics
/// Logs go somewhere already.
pub fn init(format: LogFormat) -> Result<(), FromEnvError> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .try_from_env()?;
    let logs = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
