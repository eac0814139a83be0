//! The command line of the agent.

use core::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pinch_proto::{Address, AddressError, Host, HostError};
use thiserror::Error;

use crate::notice::Form;

/// An agent for the terminal: sends and receives end-to-end encrypted messages through a Pinch relay.
#[derive(Debug, Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print this agent's address.
    Address(Common),
    /// Print what comes, until Ctrl-C.
    ///
    /// A relay that is out of reach is tried again, also at the start. Answers that will not change
    /// end it: a wrong key, a wrong host, HTTP 403 or 404.
    Listen {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        tries: Tries,
    },
    /// Send one message: code 0 once the relay has taken it, 1 if it was rejected.
    ///
    /// It receives nothing, so it can run while `listen` or `chat` does with the same key. These print
    /// that the message was delivered, also later: the ids of sent messages are kept in FILE.sent
    /// beside the key.
    Send {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        tries: Tries,
        /// The recipient.
        #[arg(value_parser = recipient)]
        to: Address,
        /// The text; several words are joined by spaces.
        #[arg(required = true)]
        text: Vec<String>,
    },
    /// Forget how far a sender has counted, so that what it sends from now on is shown again.
    ///
    /// For a sender that has lost its data and numbers its messages anew: they look like replays of
    /// old ones, and are not shown. What it sent before can be replayed then. The numbers are kept in
    /// FILE.seen beside the key; a process that listens hears of it.
    Forget {
        /// The file with this agent's key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The sender.
        #[arg(value_parser = recipient)]
        sender: Address,
    },
    /// Send each line of stdin, and print what comes, until the end of stdin or Ctrl-C.
    Chat {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        tries: Tries,
        /// Whom to talk to.
        #[arg(value_parser = recipient)]
        to: Address,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Tries {
    /// End after N tries in a row to reach the relay [default: for listen and chat no limit; for send
    /// 1, and 20 once it has joined].
    #[arg(long, value_name = "N")]
    tries: Option<NonZero<u32>>,
}

impl Tries {
    pub(crate) fn limit(self) -> Option<u32> {
        self.tries.map(NonZero::get)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The relay.
    #[arg(long, value_name = "URL", default_value = "ws://localhost:8080/ws")]
    pub(crate) relay: String,

    /// The file with this agent's key; it is created if there is none. Whoever has it is this agent.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,

    /// Print JSON, one object per line.
    #[arg(long)]
    json: bool,

    /// The relay's public host, which is the part of addresses behind the `@` [default: the host of
    /// the URL]. It must be what the relay calls itself: a relay with the public host `localhost`
    /// that is reached by the URL `ws://127.0.0.1:8080/ws` needs `--host localhost` here.
    #[arg(long, value_name = "HOST", value_parser = Host::parse)]
    host: Option<Host>,
}

/// The relay's public host cannot be had from its URL.
#[derive(Debug, Error)]
pub(crate) enum NoHost {
    // The URL may hold a password, and is not repeated.
    #[error("--relay names no host, expected ws://HOST:PORT/ws")]
    None,
    #[error("the host in --relay cannot be used: {0}; name the relay's public host with --host")]
    Invalid(HostError),
}

impl Common {
    /// How to print: as JSON if that was asked for, else in the form `text`.
    pub(crate) fn form(&self, text: Form) -> Form {
        if self.json { Form::Json } else { text }
    }

    /// The relay's public host.
    pub(crate) fn host(&self) -> Result<Host, NoHost> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let uri: http::Uri = self.relay.parse().map_err(|_| NoHost::None)?;
        let host = uri.host().ok_or(NoHost::None)?;
        Host::parse(host.trim_matches(['[', ']'])).map_err(NoHost::Invalid)
    }
}

/// An address of somebody with a key.
fn recipient(text: &str) -> Result<Address, AddressError> {
    let address = Address::parse(text)?;
    address.public_key()?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: &str =
        "pinch:2kpsAVWeesP916eiCW6FxmgGQcrsvyQSp3JFsdjExT3sS8b2Nz@test.relay.example.com";

    fn host(arguments: &[&str]) -> Result<String, NoHost> {
        let arguments = ["agent", "listen", "--key", "k"].iter().chain(arguments);
        let Command::Listen { common, .. } = Cli::try_parse_from(arguments).unwrap().command else {
            panic!("no listen")
        };
        common.host().map(|host| host.to_string())
    }

    #[test]
    fn the_host_is_that_of_the_url_unless_it_is_named() {
        assert_eq!(host(&[]).unwrap(), "localhost");
        assert_eq!(
            host(&["--relay=ws://relay.example.com:8080/ws"]).unwrap(),
            "relay.example.com"
        );
        assert_eq!(host(&["--relay=ws://[::1]:8080/ws"]).unwrap(), "::1");
        assert_eq!(
            host(&["--relay=ws://127.0.0.1:1/ws", "--host=localhost"]).unwrap(),
            "localhost"
        );
        for url in ["", "/ws", "not a url"] {
            assert!(
                matches!(host(&["--relay", url]), Err(NoHost::None)),
                "{url}"
            );
        }
    }

    #[test]
    fn a_recipient_has_a_key() {
        let parse = |to| Cli::try_parse_from(["agent", "chat", "--key", "k", to]);
        assert!(parse(BOB).is_ok());
        let mistyped = BOB.replace("Nz@", "Ny@");
        for (to, expected) in [
            (mistyped.as_str(), "checksum"),
            ("pinch:bob@host", "Base58"),
            ("bob", "pinch:"),
        ] {
            let error = parse(to).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn tries_are_a_number_above_zero() {
        let parse =
            |tries| Cli::try_parse_from(["agent", "listen", "--key", "k", "--tries", tries]);
        assert!(parse("1").is_ok());
        for tries in ["0", "-1", "many"] {
            assert_eq!(parse(tries).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_message_is_not_empty_of_words() {
        assert!(Cli::try_parse_from(["agent", "send", "--key", "k", BOB]).is_err());
        assert!(Cli::try_parse_from(["agent", "send", "--key", "k", BOB, "Hello,", "Bob"]).is_ok());
    }
}
