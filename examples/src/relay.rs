//! The main function that all relay binaries share: they differ in their runtime alone.

use core::future::Future;
use core::pin::pin;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use async_channel::Receiver;
use futures_util::future::{Either, select};
use pinch_driver::{Auth, BindError, Relay, Runtime, Store as _};
use pinch_store_redb::{OpenError, RedbStore};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::options::{Database, Invocation, Options};
use crate::signals::{Signals, Stop};
use crate::{descriptors, inspection, listening, logging};

/// Why a relay did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// There is no runtime to run it.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// Its queue cannot be opened.
    #[error("{0} [--db PATH, PINCH_RELAY_DB]")]
    Queue(#[from] OpenError),
    /// Opening its queue has panicked.
    #[error("the queue cannot be opened: this is a bug, and the standard error stream says where")]
    Panicked,
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A relay that runs until a signal comes and it has ended, or until a second signal comes: that
/// one.
pub type Ended = Result<Option<Stop>, Failure>;

/// Does what this process, which is a `program`, is asked to: runs a relay, or says what is in the
/// queue of one. `block_on` runs a future on the runtime `R`.
pub fn main<R: Runtime + Default>(
    program: &'static str,
    block_on: impl FnOnce(Running) -> Ended,
) -> ExitCode {
    let options = match Invocation::of_process(program) {
        Invocation::Relay(options) => *options,
        Invocation::InspectQueue(options) => return inspection::main(&options),
    };
    // Before anything that takes time: a signal may come at any moment.
    let signals = match Signals::listen_as_relay() {
        Ok(signals) => signals,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _logs = match logging::init(options.log) {
        Ok(logs) => logs,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            return ExitCode::from(2);
        }
    };
    match block_on(Box::pin(run::<R>(options, signals))) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(stop)) => ExitCode::from(stop.exit_code()),
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The future that is to be run.
pub type Running = core::pin::Pin<Box<dyn Future<Output = Ended>>>;

async fn run<R: Runtime + Default>(mut options: Options, signals: Signals) -> Ended {
    match descriptors::raise() {
        Ok(Some(limit)) => options.fit_descriptors(limit),
        Ok(None) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let mut relay = options
        .apply(Relay::<R>::builder())
        .health_counter("log_lines_lost", logging::lines_lost);
    let mut queue = "none".to_owned();
    if let Database::File(path) = &options.database {
        let opened = open(path.clone()).map_err(Failure::Runtime)?;
        let store = match select(pin!(opened.recv()), pin!(signals.next())).await {
            Either::Left((Ok(store), _)) => store?,
            Either::Left((Err(_), _)) => return Err(Failure::Panicked),
            Either::Right((signal, _)) => {
                info!(?signal, "ended while the queue was being opened");
                return Ok(None);
            }
        };
        store.name().clone_into(&mut queue);
        relay = relay.store(store);
    }
    let addr = options.listen.addr();
    let listen = |source| BindError::Listen { addr, source };
    let (listener, other) =
        listening::listen(options.listen, options.reuse_port).map_err(listen)?;
    let relay = relay.listen_on(listener)?;
    if let Some(other) = other {
        relay.add_listener(other)?;
    }
    let listen = relay.local_addr().unwrap_or(addr);
    let (host, auth) = (options.hub.host(), options.auth);
    info!(%listen, %host, ?auth, queue, runtime = R::NAME, "started");
    if options.auth == Auth::Open {
        warn!("in open mode, agents are whoever they say they are");
    }
    for variable in &options.without_effect {
        warn!(
            variable,
            "set, but without effect: this relay does not do that"
        );
    }
    announce(format!("listening on ws://{listen}/ws"));

    let first = signals.next().await;
    info!(signal = ?first, "shutting down");
    match select(pin!(relay.shutdown()), pin!(insistent(&signals))).await {
        Either::Left(((), _)) => {
            info!("ended");
            Ok(None)
        }
        Either::Right((second, _)) => Ok(Some(second)),
    }
}

/// Opens a queue in a thread of its own: after a crash, that may take a while.
fn open(path: PathBuf) -> io::Result<Receiver<Result<RedbStore, OpenError>>> {
    let (sender, opened) = async_channel::bounded(1);
    let open = move || drop(sender.try_send(RedbStore::open(path)));
    thread::Builder::new().name("open".into()).spawn(open)?;
    Ok(opened)
}

/// The next signal that ends a relay at once if it is being shut down already.
async fn insistent(signals: &Signals) -> Stop {
    loop {
        match signals.next().await {
            Stop::Drain => {}
            stop @ (Stop::Interrupt | Stop::Terminate) => return stop,
        }
    }
}

/// Tells whoever started the relay. A relay without a reader goes on, also if the reader has stopped:
/// a thread of its own waits for that one.
fn announce(line: String) {
    let write = move || {
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            warn!(%error, "cannot write to stdout");
        }
    };
    if let Err(error) = thread::Builder::new().name("stdout".into()).spawn(write) {
        warn!(%error, "cannot write to stdout");
    }
}
