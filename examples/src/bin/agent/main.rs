//! An agent for the terminal: a person's way into a Pinch relay, and a script's.
//!
//! | module | what it does |
//! |---|---|
//! | `cli` | the command line |
//! | `session` | a connection to a relay, and what is done with all that comes over it |
//! | `notice` | what is printed |
//! | `stdin` | what is typed |
//! | `failure` | why it ends with a code that is not 0 |
//!
//! Codes: 0 if all went well, 1 if something failed or was refused, 2 if the command line is wrong.

mod cli;
mod failure;
mod notice;
mod session;
mod stdin;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use pinch_examples::key_file::KeyFile;
use pinch_examples::signals::{Signals, Stop};
use pinch_examples::terminal;
use pinch_proto::{Address, Host, SecretKey};

use self::cli::{Cli, Command, Common};
use self::failure::Failure;
use self::notice::{Notice, Printer};
use self::session::Session;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Failure::Start).and_then(|runtime| runtime.block_on(run(cli.command)));
    match ended {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(stop)) => ExitCode::from(stop.exit_code()),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for. Returns a signal if that one had to end it.
async fn run(command: Command) -> Result<Option<Stop>, Failure> {
    let mut signals = Signals::listen().map_err(Failure::Start)?;
    match command {
        Command::Address(common) => address(&common).map(|()| None),
        Command::Listen(common) => {
            let session = tokio::select! {
                session = join(&common, None) => session?,
                stop = signals.next() => return Ok(Some(stop)),
            };
            listen(session, &mut signals).await
        }
        Command::Send { common, to, text } => tokio::select! {
            sent = send(&common, &to, &text.join(" ")) => sent.map(|()| None),
            stop = signals.next() => Ok(Some(stop)),
        },
        Command::Chat { common, to } => {
            let session = tokio::select! {
                session = join(&common, Some(to.clone())) => session?,
                stop = signals.next() => return Ok(Some(stop)),
            };
            chat(session, &to, &mut signals).await
        }
    }
}

fn address(common: &Common) -> Result<(), Failure> {
    let (secret, host) = identity(common)?;
    let address = Address::from_public_key(&secret.public_key(), &host).to_string();
    Printer::new(common.json, None).print(&Notice::Address { address }).map_err(Failure::Output)
}

async fn listen(mut session: Session, signals: &mut Signals) -> Result<Option<Stop>, Failure> {
    session.meanwhile(signals.next()).await?;
    leave(session, signals).await
}

async fn send(common: &Common, to: &Address, text: &str) -> Result<(), Failure> {
    let mut session = join(common, None).await?;
    let message_id = session.send(to, text).await?;
    session.flush().await?;
    let refused = session.refused().cloned();
    if refused.is_none() {
        session.print_sent(&message_id)?;
    }
    session.leave().await?;
    refused.map_or(Ok(()), |refused| Err(Failure::Refused(refused)))
}

async fn chat(mut session: Session, to: &Address, signals: &mut Signals) -> Result<Option<Stop>, Failure> {
    let mut lines = stdin::lines().map_err(Failure::Start)?;
    loop {
        let line = tokio::select! {
            line = session.meanwhile(lines.recv()) => line?,
            _ = signals.next() => break,
        };
        let Some(line) = line else { break };
        let line = line.map_err(Failure::Input)?;
        if line.is_empty() {
            continue;
        }
        tokio::select! {
            sent = session.send(to, &line) => drop(sent?),
            _ = signals.next() => break,
        }
    }
    leave(session, signals).await
}

/// Leaves in order, unless a second signal comes.
async fn leave(session: Session, signals: &mut Signals) -> Result<Option<Stop>, Failure> {
    tokio::select! {
        left = session.leave() => left.map(|()| None),
        stop = signals.next() => Ok(Some(stop)),
    }
}

async fn join(common: &Common, peer: Option<Address>) -> Result<Session, Failure> {
    let (secret, host) = identity(common)?;
    Session::join(&common.relay, secret, host, Printer::new(common.json, peer)).await
}

/// The key in the file, and the relay's public host.
fn identity(common: &Common) -> Result<(SecretKey, Host), Failure> {
    let host = common.host()?;
    let file = KeyFile::open(&common.key)?;
    if file.created {
        complain(&format!("created a new key in {}", common.key.display()));
    }
    if let Some(exposed) = &file.exposed {
        complain(&format!("warning: {exposed}"));
    }
    Ok((file.secret, host))
}

/// Says something on stderr; nobody has to be there.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{}", terminal::plain(line));
}
