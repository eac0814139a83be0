//! Logs: on stderr, as text or JSON, selected by `RUST_LOG`.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;

use crate::options::LogFormat;

/// Writes the logs of this process to stderr from now on. `filter` is what `RUST_LOG` says; `None`
/// selects what is worth an operator's while (`info`).
///
/// # Errors
/// `filter` cannot be understood.
///
/// # Panics
/// This was called before.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter.unwrap_or("info"))?;
    let logs = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}
