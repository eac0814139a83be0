//! A Pinch relay on tokio.
//!
//! The first line on stdout says where it listens, once it does; logs are on stderr. SIGINT and
//! SIGTERM end it in order, with code 0; a second one ends it at once. `--help` lists the settings.

use std::io::{self, Write as _};
use std::process::ExitCode;

use pinch_examples::logging;
use pinch_examples::options::Options;
use pinch_examples::signals::{Signals, Stop};
use pinch_tokio::{Auth, BindError, Relay};
use thiserror::Error;
use tracing::{error, info, warn};

/// Why the relay did not start.
#[derive(Debug, Error)]
enum Failure {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Bind(#[from] BindError),
}

fn main() -> ExitCode {
    let options = Options::from_process();
    if let Err(error) = logging::init(options.log) {
        let _ = writeln!(io::stderr(), "error: {error}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(run(&options)));
    match ended {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(stop)) => ExitCode::from(stop.exit_code()),
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until a signal comes and the relay has ended, or until a second signal comes: that one.
async fn run(options: &Options) -> Result<Option<Stop>, Failure> {
    let mut signals = Signals::listen().map_err(Failure::Signals)?;
    let relay = options.apply(Relay::builder()).bind(options.listen).await?;
    let listen = relay.local_addr().unwrap_or(options.listen);
    info!(%listen, host = %options.hub.host(), auth = ?options.auth, "started");
    if options.auth == Auth::Open {
        warn!("in open mode, agents are whoever they say they are");
    }
    for variable in &options.without_effect {
        warn!(
            variable,
            "set, but without effect: this relay does not do that"
        );
    }
    announce(&format!("listening on ws://{listen}/ws"));

    let first = signals.next().await;
    info!(signal = ?first, "shutting down");
    tokio::select! {
        () = relay.shutdown() => {
            info!("ended");
            Ok(None)
        }
        second = signals.next() => Ok(Some(second)),
    }
}

/// Tells whoever started the relay. A relay without a reader goes on.
fn announce(line: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        warn!(%error, "cannot write to stdout");
    }
}
