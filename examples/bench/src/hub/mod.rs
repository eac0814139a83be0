//! Hubs as they are usually written: a task and a channel for each connection, and a map of them
//! all. They are what a relay is compared with.
//!
//! They speak open mode, forward every binary message to the recipient that its field 3 names, and
//! ping their connections. They keep nothing for those who are away, and tell nobody what did not
//! arrive.

pub mod fastwebsockets;
pub mod tungstenite;

use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, thread};

use clap::Parser;
use dashmap::DashMap;
use dashmap::mapref::one::Ref;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::UnboundedSender;

use crate::recipient::recipient;
use crate::{descriptors, upgrade};

/// The first ping goes out at once: an agent that has answered one acknowledges what it receives
/// later, and this is to be so from the beginning, as with relays that ping whoever joins.
const PING_INTERVAL: Duration = Duration::from_secs(25);
const PONG_TIMEOUT: Duration = Duration::from_secs(7);
const MAX_MESSAGE: usize = 128 * 1024;

/// Where a relay listens
#[derive(Clone, Copy, Debug, Parser)]
pub struct Listen {
    /// The address and the port; with port 0 the system chooses one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}

/// How a hub is run
#[derive(Clone, Copy, Debug, Parser)]
pub struct Flags {
    /// Where it listens
    #[command(flatten)]
    pub listen: Listen,
    /// Write what waits for a connection at once, not message by message
    #[arg(long)]
    pub batch: bool,
}

/// The channels of all who have joined.
type Routes<M> = Arc<DashMap<String, UnboundedSender<M>>>;

type Route<'a, M> = Ref<'a, String, UnboundedSender<M>>;

/// The channel of the recipient of `envelope`, if there is one. To send to one who is just leaving
/// fails, and nobody minds.
fn route<'a, M>(routes: &'a Routes<M>, envelope: &[u8]) -> Option<Route<'a, M>> {
    routes.get(core::str::from_utf8(recipient(envelope)?).ok()?)
}

/// Removes a connection, unless another has taken its place.
fn leave<M>(routes: &Routes<M>, address: &str, channel: &UnboundedSender<M>) {
    routes.remove_if(address, |_, current| current.same_channel(channel));
}

/// The main function of a hub that serves each connection with `serve`.
fn main<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream, bool) -> F) -> ExitCode {
    let flags = Flags::parse();
    let ended = runtime().and_then(|runtime| runtime.block_on(accept(flags, serve)));
    if let Err(error) = ended {
        let _ = writeln!(io::stderr(), "error: {error}");
    }
    ExitCode::FAILURE
}

/// A runtime with as many threads as our relays have: half as many as there are cores, or as
/// `TOKIO_WORKER_THREADS` says.
fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(thread::available_parallelism()?.get().div_ceil(2));
    }
    builder.enable_all().build()
}

async fn accept<F: Future<Output = ()> + Send + 'static>(
    flags: Flags,
    serve: impl Fn(TcpStream, bool) -> F,
) -> io::Result<()> {
    descriptors::raise()?;
    let listener = TcpListener::bind(flags.listen.listen).await?;
    let listen = upgrade::announcement(listener.local_addr()?);
    writeln!(io::stdout(), "{listen}")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream, flags.batch));
    }
}
