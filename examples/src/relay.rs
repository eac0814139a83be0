//! The main function that all relay binaries share: they differ in their runtime alone.

use core::future::Future;
use core::pin::pin;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

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
    /// It could not be told to stop.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// Its queue cannot be opened.
    #[error("{0} [--db PATH, PINCH_RELAY_DB]")]
    Queue(#[from] OpenError),
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
    let _logs = match logging::init(options.log) {
        Ok(logs) => logs,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            return ExitCode::from(2);
        }
    };
    match block_on(Box::pin(run::<R>(options))) {
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

async fn run<R: Runtime + Default>(mut options: Options) -> Ended {
    match descriptors::raise() {
        Ok(Some(limit)) => options.fit_descriptors(limit),
        Ok(None) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let signals = Signals::listen_as_relay().map_err(Failure::Signals)?;
    let mut relay = options
        .apply(Relay::<R>::builder())
        .health_counter("log_lines_lost", logging::lines_lost);
    let mut queue = "none".to_owned();
    if let Database::File(path) = &options.database {
        let store = RedbStore::open(path)?;
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
