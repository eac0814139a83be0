//! Why the agent ends with a code that is not 0, in words that say what to do.

use std::io;

use pinch_examples::key_file::KeyFileError;
use pinch_examples::mailbox::WriteError;
use pinch_examples::state_file::StateError;
use pinch_proto::Host;
use pinch_proto::client::{Disconnect, Unsendable};
use pinch_proto::handshake::AgentError;
use pinch_tokio::ConnectError;
use thiserror::Error;

use crate::cli::NoHost;
use crate::notice::Refused;

/// Why the agent has failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    NoHost(#[from] NoHost),
    #[error(
        "the relay calls itself `{found}`, but `{expected}` was expected; if it is the relay that you mean, run this again with --host {found}"
    )]
    WrongHost { expected: Host, found: String },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}; not trying again")]
    GaveUp(Disconnect),
    #[error("the connection has ended")]
    Ended,
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the message cannot be sent: {0}")]
    Send(Unsendable),
    #[error("{0}")]
    Refused(Refused),
    #[error("the relay has not confirmed {count} of the last messages; it may have them or not")]
    Unconfirmed { count: usize },
    #[error("cannot read stdin: {0}")]
    Input(io::Error),
    #[error("cannot write to stdout: {0}")]
    Output(io::Error),
    #[error("cannot start: {0}")]
    Start(io::Error),
}

impl Failure {
    /// Whoever read stdout has seen enough.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Disconnect> for Failure {
    fn from(why: Disconnect) -> Self {
        if let Disconnect::Join(AgentError::WrongHost { expected, found }) = why {
            Self::WrongHost { expected, found }
        } else {
            Self::GaveUp(why)
        }
    }
}
