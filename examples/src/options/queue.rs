//! The settings of the queue: where it is kept, how much of it, for how long, and for whom.

use core::time::Duration;
use std::ffi::OsString;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use pinch_proto::hub::{AckOnClose, Config, Delivery, QueueConfig, SlowReader};

use super::{VariableError, values, variable};

/// Where a relay keeps its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Nowhere: what cannot be delivered now is refused.
    None,
    /// In this file.
    File(PathBuf),
}

impl Default for Database {
    fn default() -> Self {
        Self::File("./pinch-relay.db".into())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SlowReaderFlag {
    Spill,
    Refuse,
    Disconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DeliveryFlag {
    AtLeastOnce,
    AtMostOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AckOnCloseFlag {
    Clean,
    Never,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Queue")]
#[allow(clippy::doc_markdown, reason = "this is the text of the help")]
pub(super) struct QueueFlags {
    /// The file that envelopes are kept in for agents that cannot take them now, or `none`. It is
    /// made if it is not there. [env: PINCH_RELAY_DB] [default: ./pinch-relay.db]
    #[arg(long, value_name = "PATH", value_parser = values::database)]
    db: Option<Database>,

    /// How many envelopes may wait for one agent. [env: PINCH_RELAY_QUEUE_MAX] [default: 1000]
    #[arg(long, value_name = "NUMBER", value_parser = values::queue_max)]
    queue_max: Option<u64>,

    /// How long an envelope waits before it is forgotten. [env: PINCH_RELAY_QUEUE_TTL, in hours]
    /// [default: 7days]
    #[arg(long, value_name = "DURATION", value_parser = values::ttl)]
    queue_ttl: Option<Duration>,

    /// How much of one agent's envelopes may wait, for whomever. [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    queue_sender_bytes: Option<ByteSize>,

    /// How much may wait in all, and how large the file may become with it, at least 16 MiB; 1/16 and
    /// 33 MiB more serve to take out of it. [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    queue_total_bytes: Option<ByteSize>,

    /// What happens if an agent reads so slowly that there is no room in memory: what comes goes
    /// to its queue, or is refused, or the agent is disconnected if it is its own room that is
    /// full.
    #[arg(long, value_name = "ACTION", default_value = "spill")]
    slow_reader: SlowReaderFlag,

    /// What happens to an envelope of which nobody knows whether it has arrived: it is sent again
    /// at the agent's next join, or it is not.
    #[arg(long, value_name = "HOW", default_value = "at-least-once")]
    delivery: DeliveryFlag,

    /// Whether an agent acknowledges what it was sent by closing: with a `clean` close handshake that
    /// it began (not browsers, nor clients that announce dedup=1), or `never`. What is not
    /// acknowledged is delivered again.
    #[arg(long, value_name = "WHEN", default_value = "clean")]
    ack_on_close: AckOnCloseFlag,
}

/// What the environment says of it.
#[derive(Debug)]
pub(super) struct QueueVariables {
    pub(super) db: Option<Database>,
    queue_max: Option<u64>,
    queue_ttl: Option<Duration>,
}

impl QueueVariables {
    pub(super) fn read(
        variables: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, VariableError> {
        Ok(Self {
            db: read_database(&variables)?,
            queue_max: variable(&variables, "PINCH_RELAY_QUEUE_MAX", values::queue_max)?,
            queue_ttl: variable(&variables, "PINCH_RELAY_QUEUE_TTL", values::ttl_hours)?,
        })
    }
}

/// Where the environment says that the queue is.
pub(super) fn read_database(
    variables: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Database>, VariableError> {
    variable(variables, "PINCH_RELAY_DB", values::database)
}

impl QueueFlags {
    /// Where the queue is, and what a hub has to know of it.
    pub(super) fn merge(self, variables: QueueVariables, hub: Config) -> (Database, Config) {
        let mut queue = QueueConfig::new();
        if let Some(count) = self.queue_max.or(variables.queue_max) {
            queue = queue.recipient_count(count);
        }
        if let Some(ttl) = self.queue_ttl.or(variables.queue_ttl) {
            queue = queue.ttl(ttl);
        }
        if let Some(ByteSize(bytes)) = self.queue_sender_bytes {
            queue = queue.sender_bytes(bytes);
        }
        if let Some(ByteSize(bytes)) = self.queue_total_bytes {
            queue = queue.total_bytes(bytes);
        }
        let hub = hub
            .slow_reader(match self.slow_reader {
                SlowReaderFlag::Spill => SlowReader::Spill,
                SlowReaderFlag::Refuse => SlowReader::Refuse,
                SlowReaderFlag::Disconnect => SlowReader::Disconnect,
            })
            .delivery(match self.delivery {
                DeliveryFlag::AtLeastOnce => Delivery::AtLeastOnce,
                DeliveryFlag::AtMostOnce => Delivery::AtMostOnce,
            })
            .ack_on_close(match self.ack_on_close {
                AckOnCloseFlag::Clean => AckOnClose::Clean,
                AckOnCloseFlag::Never => AckOnClose::Never,
            });
        let database = self.db.or(variables.db).unwrap_or_default();
        let hub = match database {
            Database::None => hub,
            Database::File(_) => hub.queue(queue),
        };
        (database, hub)
    }
}
