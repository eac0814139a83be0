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
//! Codes: 0 if all went well, 1 if something failed or `send` was refused, 2 if the command line is
//! wrong, 130 or 143 if a signal ended it before its time.

mod cli;
mod failure;
mod notice;
mod session;
mod stdin;

use core::future::pending;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use pinch_examples::key_file::KeyFile;
use pinch_examples::mailbox::Seen;
use pinch_examples::seen_file::SeenFile;
use pinch_examples::signals::{Signals, Stop};
use pinch_examples::terminal;
use pinch_proto::{Address, Host, SecretKey};

use self::cli::{Cli, Command, Common, Tries};
use self::failure::Failure;
use self::notice::{Form, Notice};
use self::session::{Files, Patience, Session};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Failure::Start)
        .and_then(|runtime| runtime.block_on(run(cli.command)));
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

/// Does what was asked for. Returns the signal, if it was a signal that ended it early.
async fn run(command: Command) -> Result<Option<Stop>, Failure> {
    let signals = Signals::listen().map_err(Failure::Start)?;
    match command {
        Command::Address(common) => address(&common).map(|()| None),
        Command::Forget { key, json, sender } => forget(&key, json, &sender).map(|()| None),
        Command::Listen { common, tries } => {
            converse(&common, Patience::Tries(tries.limit()), None, &signals).await
        }
        Command::Chat { common, tries, to } => {
            let patience = Patience::Tries(tries.limit());
            converse(&common, patience, Some(&to), &signals).await
        }
        Command::Send {
            common,
            tries,
            to,
            text,
        } => tokio::select! {
            sent = send(&common, tries, &to, &text) => sent.map(|()| None),
            stop = signals.next() => Ok(Some(stop)),
        },
    }
}

fn address(common: &Common) -> Result<(), Failure> {
    let (secret, host) = identity(common)?;
    let address = Address::from_public_key(&secret.public_key(), &host).to_string();
    common
        .form(Form::Listen)
        .print(&Notice::Address { address })
        .map_err(Failure::Output)
}

/// Lets `sender` count anew.
fn forget(key: &Path, json: bool, sender: &Address) -> Result<(), Failure> {
    let form = if json { Form::Json } else { Form::Listen };
    let last = match sender.public_key() {
        Ok(sender) => SeenFile::beside(key).forget(&mut Seen::new(), &sender)?,
        Err(_) => None,
    };
    let address = sender.to_string();
    form.print(&Notice::Forgotten { address, last })
        .map_err(Failure::Output)
}

async fn send(
    common: &Common,
    tries: Tries,
    to: &Address,
    words: &[String],
) -> Result<(), Failure> {
    let patience = tries
        .limit()
        .map_or(Patience::JoinAtOnce, |limit| Patience::Tries(Some(limit)));
    let mut session = join(common, patience, false, Form::Send).await?;
    let message_id = session.send(to, &words.join(" ")).await?;
    session.flush().await?;
    let refused = session.refused().cloned();
    if refused.is_none() {
        session.print_sent(&message_id)?;
    }
    session.leave().await?;
    refused.map_or(Ok(()), |refused| Err(Failure::Refused(refused)))
}

/// Prints what comes and sends what is typed, if there is somebody to send it to, until a signal
/// or the end of stdin.
async fn converse(
    common: &Common,
    patience: Patience,
    peer: Option<&Address>,
    signals: &Signals,
) -> Result<Option<Stop>, Failure> {
    let form = peer.map_or(Form::Listen, |peer| Form::Chat(peer.clone()));
    let mut session = tokio::select! {
        session = join(common, patience, true, form) => session?,
        stop = signals.next() => return Ok(Some(stop)),
    };
    tokio::select! {
        ended = exchange(&mut session, peer) => ended?,
        _ = signals.next() => {}
    }
    // A second signal ends even this.
    tokio::select! {
        left = session.leave() => left.map(|()| None),
        stop = signals.next() => Ok(Some(stop)),
    }
}

async fn exchange(session: &mut Session, peer: Option<&Address>) -> Result<(), Failure> {
    let Some(peer) = peer else {
        return session.meanwhile(pending()).await;
    };
    let mut lines = stdin::lines().map_err(Failure::Start)?;
    while let Some(line) = session.meanwhile(lines.recv()).await? {
        let line = line.map_err(Failure::Input)?;
        if !line.is_empty() {
            session.send(peer, &line).await?;
        }
    }
    Ok(())
}

/// Joins the relay, to receive or only to send.
async fn join(
    common: &Common,
    patience: Patience,
    receives: bool,
    form: Form,
) -> Result<Session, Failure> {
    let (secret, host) = identity(common)?;
    let agent = (secret, Files::beside(&common.key));
    let form = common.form(form);
    Session::join(&common.relay, agent, host, patience, receives, form).await
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
