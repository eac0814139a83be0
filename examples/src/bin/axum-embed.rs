//! A web service that exists already, on axum, and gets a relay at one of its paths.
//!
//! `GET /` is the service; `GET /agents/ws` is upgraded to a WebSocket and handed to the relay. The
//! first line on stdout says where it listens; `--port` chooses the port (default: 8080).

use core::net::SocketAddr;
use std::io::{self, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::get;
use clap::Parser;
use hyper_util::rt::TokioIo;
use pinch_examples::signals::Signals;
use pinch_proto::{Host, hub};
use pinch_tokio::{AllowedOrigins, Relay};
use tokio::net::TcpListener;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

/// A web service with a relay at /agents/ws
#[derive(Parser)]
#[command(name = env!("CARGO_BIN_NAME"), version)]
struct Flags {
    /// The port on loopback; 0 lets the system pick one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Origins of web pages that may connect, separated by commas
    #[arg(long, value_delimiter = ',')]
    allowed_origins: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let Flags {
        port,
        allowed_origins,
    } = Flags::parse();
    let signals = Signals::listen()?;
    let relay = Relay::builder()
        .hub(hub::Config::new(Host::parse("localhost")?))
        .allowed_origins(AllowedOrigins::List(allowed_origins));
    let relay = Arc::new(relay.detached()?);
    let service = Router::new()
        .route("/", get(async || "a web service\n"))
        .route("/agents/ws", get(agents))
        .with_state(Arc::clone(&relay))
        .into_make_service_with_connect_info::<SocketAddr>();

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(
        io::stdout(),
        "listening on http://{}",
        listener.local_addr()?
    )?;
    tokio::select! {
        served = axum::serve(listener, service) => served?,
        _ = signals.next() => {}
    }
    relay.shutdown().await;
    Ok(())
}

/// Checks and upgrades a request, and hands its connection to the relay, which asks for the agent's
/// key.
async fn agents(
    State(relay): State<Arc<Relay>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    let upgrading = hyper::upgrade::on(&mut request);
    let (upgrade, response) = match relay.check_upgrade(&request) {
        Ok(checked) => checked,
        Err(error) => return error.response().map(Body::from),
    };
    tokio::spawn(async move {
        // If the client goes away before the upgrade, there is nobody to serve.
        if let Ok(upgraded) = upgrading.await {
            let upgrade = upgrade.peer(peer.ip());
            relay.adopt_upgraded(TokioIo::new(upgraded).compat(), upgrade);
        }
    });
    response.map(|()| Body::empty())
}
