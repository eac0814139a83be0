//! The main function that all relay binaries share: they differ in their runtime alone.

use core::future::Future;
use core::net::SocketAddr;
use core::num::NonZero;
use core::pin::pin;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, thread};

use async_channel::Receiver;
use futures_util::future::{Either, select};
use pinch_driver::{Auth, BindError, Builder, Relay, Runtime, Store as _};
use pinch_mio::Mio;
use pinch_store_redb::{OpenError, RedbStore};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::options::{Database, Invocation, Options};
use crate::signals::{Signals, Stop};
use crate::{descriptors, inspection, listening, logging};

/// More than any machine has use for.
const MAX_THREADS: NonZero<u16> = NonZero::new(1024).expect("more than 0");

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

/// A relay as this program runs it.
pub trait Server {
    /// How `/health` names what it runs on.
    const NAME: &'static str;

    /// Where it listens.
    fn local_addr(&self) -> Option<SocketAddr>;

    /// Accepts connections from a further socket.
    ///
    /// # Errors
    /// The socket cannot be listened on.
    fn add_listener(&self, listener: TcpListener) -> Result<(), BindError>;

    /// Ends it in order.
    fn shutdown(&self) -> impl Future<Output = ()>;
}

impl<R: Runtime> Server for Relay<R> {
    const NAME: &'static str = R::NAME;

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr()
    }

    fn add_listener(&self, listener: TcpListener) -> Result<(), BindError> {
        self.add_listener(listener)
    }

    async fn shutdown(&self) {
        self.shutdown().await;
    }
}

/// Its shutdown blocks, and has a thread for that.
impl Server for Arc<pinch_mio::Relay> {
    const NAME: &'static str = Mio::NAME;

    fn local_addr(&self) -> Option<SocketAddr> {
        Some((**self).local_addr())
    }

    fn add_listener(&self, listener: TcpListener) -> Result<(), BindError> {
        (**self).add_listener(listener)
    }

    async fn shutdown(&self) {
        let relay = Self::clone(self);
        smol::unblock(move || pinch_mio::Relay::shutdown(&relay)).await;
    }
}

/// Does what this process, which is a `program`, is asked to: runs a relay, or says what is in the
/// queue of one. `block_on` starts the relay and waits for its end.
pub fn main(program: &'static str, block_on: impl FnOnce(Program) -> Ended) -> ExitCode {
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
    match block_on(Program { options, signals }) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(stop)) => ExitCode::from(stop.exit_code()),
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Number of threads that the environment `variable` says, or half of those that can run at the same
/// time: where every byte comes from a socket and goes to one, the system needs the other half.
///
/// # Errors
/// The variable says something else than a number from 1 to 1,024.
pub fn threads(variable: &str) -> Result<NonZero<u16>, Failure> {
    // One that is set and empty counts as unset.
    let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else {
        let cores = thread::available_parallelism().map_err(Failure::Runtime)?;
        let half = NonZero::new(cores.get().div_ceil(2)).unwrap_or(cores);
        return Ok(half.try_into().unwrap_or(MAX_THREADS));
    };
    let threads = value.to_str().and_then(|value| value.parse().ok());
    let threads = threads.filter(|threads| *threads <= MAX_THREADS);
    threads.ok_or_else(|| {
        Failure::Runtime(io::Error::other(format!(
            "{variable} is {value:?}, expected a number of threads from 1 to {MAX_THREADS}"
        )))
    })
}

/// A relay that is to be run.
#[derive(Debug)]
pub struct Program {
    options: Options,
    signals: Signals,
}

impl Program {
    /// Runs the relay that `builder` describes, with the settings of this process, until a signal has
    /// ended it. `listen_on` starts it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn run<T, S: Server>(
        self,
        builder: Builder<T>,
        listen_on: impl FnOnce(Builder<T>, TcpListener) -> Result<S, BindError>,
    ) -> Ended {
        // Boxed, for it is large.
        Box::pin(run(self.options, self.signals, builder, listen_on)).await
    }
}

async fn run<T, S: Server>(
    mut options: Options,
    signals: Signals,
    builder: Builder<T>,
    listen_on: impl FnOnce(Builder<T>, TcpListener) -> Result<S, BindError>,
) -> Ended {
    match descriptors::raise() {
        Ok(Some(limit)) => options.fit_descriptors(limit),
        Ok(None) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let mut relay = options
        .apply(builder)
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
    let relay = listen_on(relay, listener)?;
    if let Some(other) = other {
        relay.add_listener(other)?;
    }
    let listen = relay.local_addr().unwrap_or(addr);
    let (host, auth) = (options.hub.host(), options.auth);
    info!(%listen, %host, ?auth, queue, runtime = S::NAME, "started");
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
