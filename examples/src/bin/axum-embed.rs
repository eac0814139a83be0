//! A web service that exists already, on axum, and gets a relay at one of its paths.
//!
//! `GET /` is the service; `GET /agents/ws` is upgraded to a WebSocket and handed to the relay. The
//! first line on stdout says where it listens; `--port` chooses the port (default: 8080).

use std::io::{self, Write as _};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use clap::Parser;
use hyper_util::rt::TokioIo;
use pinch_proto::{Host, hub};
use pinch_tokio::Relay;
use tokio::net::TcpListener;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tungstenite::handshake::server::create_response_with_body;

/// A web service with a relay at /agents/ws
#[derive(Parser)]
struct Flags {
    /// The port on loopback; 0 lets the system pick one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let Flags { port } = Flags::parse();
    let hub = hub::Config::new(Host::parse("localhost")?);
    let relay = Arc::new(Relay::builder().hub(hub).detached()?);
    let service = Router::new()
        .route("/", get(async || "a web service\n"))
        .route("/agents/ws", get(agents))
        .with_state(Arc::clone(&relay));

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(
        io::stdout(),
        "listening on http://{}",
        listener.local_addr()?
    )?;
    tokio::select! {
        served = axum::serve(listener, service) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    relay.shutdown().await;
    Ok(())
}

/// Upgrades a request, and hands its connection to the relay, which asks for the agent's key.
async fn agents(State(relay): State<Arc<Relay>>, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    let response = match create_response_with_body(&request, axum::body::Body::empty) {
        Ok(response) => response,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    tokio::spawn(async move {
        // If the client goes away before the upgrade, there is nobody to serve.
        if let Ok(upgraded) = upgrade.await {
            relay.adopt_upgraded(TokioIo::new(upgraded).compat(), None);
        }
    });
    response
}
