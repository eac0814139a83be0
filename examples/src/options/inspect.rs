//! The settings of `queue inspect`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::queue::{Database, read_database};
use super::values;

/// Which queue to look at, and how to say what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectOptions {
    /// The file.
    pub path: PathBuf,
    /// As JSON, instead of a table for people.
    pub json: bool,
}

#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, reason = "this is the text of the help")]
pub(super) struct InspectFlags {
    /// The file of the queue. [env: PINCH_RELAY_DB] [default: ./pinch-relay.db]
    #[arg(long, value_name = "PATH", value_parser = values::database)]
    db: Option<Database>,

    /// Print one JSON object, with times in RFC 3339, instead of a table.
    #[arg(long)]
    json: bool,
}

impl InspectFlags {
    pub(super) fn merge(
        self,
        variables: impl Fn(&str) -> Option<OsString>,
    ) -> Result<InspectOptions, String> {
        let from_variable = read_database(variables).map_err(|error| error.to_string())?;
        match self.db.or(from_variable).unwrap_or_default() {
            Database::File(path) => Ok(InspectOptions {
                path,
                json: self.json,
            }),
            Database::None => {
                Err("there is no queue to inspect: --db or PINCH_RELAY_DB is none".into())
            }
        }
    }
}
