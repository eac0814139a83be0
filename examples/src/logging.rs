//! Logs: on stderr, as text or JSON, selected by `RUST_LOG`.

use std::env::{self, VarError};
use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::options::LogFormat;

/// `RUST_LOG` cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "invalid value {value:?} for the environment variable RUST_LOG: expected directives such as info or pinch_driver=debug,warn"
)]
pub struct FilterError {
    value: String,
}

/// Writes the logs of this process to stderr from now on. Without `RUST_LOG`, they are what is
/// worth an operator's while (`info`).
///
/// # Errors
/// `RUST_LOG` cannot be understood.
///
/// # Panics
/// Logs go somewhere already.
pub fn init(format: LogFormat) -> Result<(), FilterError> {
    let filter = match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(value) => filter(value)?,
        Err(VarError::NotPresent) => filter(String::new())?,
        Err(VarError::NotUnicode(value)) => {
            return Err(FilterError {
                value: value.to_string_lossy().into_owned(),
            });
        }
    };
    let logs = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
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
