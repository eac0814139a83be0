//! Streams that the driver knows nothing of: TLS, Unix sockets, pipes in memory, and the route of a
//! web service. The relay adopts them, the client dials them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::future::Future;
use core::time::Duration;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use futures_rustls::{TlsAcceptor, TlsConnector};
use pinch_driver::{Client, Relay, Runtime, Stream, bind, dial};
use pinch_proto::client::{Event, Identity};
use pinch_proto::wire::Envelope;
use pinch_proto::{EnvelopeView, Host, SecretKey};
use pinch_smol::Smol;
use pinch_tokio::Tokio;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn key(seed: u8) -> Identity {
    let host = Host::parse("localhost").unwrap();
    Identity::Key {
        secret: SecretKey::from_seed([seed; 32]),
        host,
    }
}

fn on_tokio(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() });
}

fn on_smol(test: impl Future<Output = ()>) {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("waited in vain");
    };
    smol::block_on(smol::future::or(test, late));
}

fn relay<R: Runtime + Default>() -> Arc<Relay<R>> {
    Arc::new(Relay::builder().detached().unwrap())
}

/// Two agents join by `dial`, one after the other, and talk to each other.
async fn talk<R: Runtime + Default, F, S>(
    url: &str,
    dial: impl Fn() -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: Stream,
{
    let alice = Client::<R>::builder(url, key(1))
        .dial_with(dial.clone())
        .connect();
    let alice = alice.await.unwrap();
    let mut bob = Client::<R>::builder(url, key(2))
        .dial_with(dial)
        .connect()
        .await
        .unwrap();
    let to_address = bob.address().to_string();
    let id = alice
        .send(Envelope {
            to_address,
            ..Envelope::default()
        })
        .await
        .unwrap();
    let Some(Event::Received(envelope)) = bob.next_event().await else {
        panic!("an envelope")
    };
    assert_eq!(EnvelopeView::parse(&envelope).unwrap().message_id(), id);
}

/// Both ends of TLS, with a certificate that was made for this.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], secret)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

/// Talks over TLS on the runtime `R`, whose own TCP is underneath.
async fn talk_over_tls<R: Runtime + Default>() {
    let (acceptor, connector) = tls();
    let runtime = R::default();
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener = runtime.listen(listener).unwrap();
    let relay = relay::<R>();
    let adopting = Arc::clone(&relay);
    runtime.spawn(async move {
        for _ in 0..2 {
            let (stream, peer) = R::default().accept(&listener).await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            adopting.adopt_from(stream, peer.ip());
        }
    });
    let dial = move || {
        let connector = connector.clone();
        async move {
            let stream = dial(&R::default(), "localhost", port).await?;
            connector
                .connect(ServerName::try_from("localhost").unwrap(), stream)
                .await
        }
    };
    talk::<R, _, _>("wss://localhost/ws", dial).await;
    relay.shutdown().await;
}

#[test]
fn tls_on_tokio() {
    on_tokio(talk_over_tls::<Tokio>());
}

#[test]
fn tls_on_smol() {
    on_smol(talk_over_tls::<Smol>());
}

#[cfg(unix)]
#[test]
fn a_unix_socket_on_tokio() {
    on_tokio(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let relay = relay::<Tokio>();
        let adopting = Arc::clone(&relay);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                adopting.adopt(stream.compat());
            }
        });
        let dial = move || {
            let path = path.clone();
            async move { Ok(tokio::net::UnixStream::connect(path).await?.compat()) }
        };
        talk::<Tokio, _, _>("ws://localhost/ws", dial).await;
    });
}

#[cfg(unix)]
#[test]
fn a_unix_socket_on_smol() {
    on_smol(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay");
        let listener = smol::net::unix::UnixListener::bind(&path).unwrap();
        let relay = relay::<Smol>();
        let adopting = Arc::clone(&relay);
        let accepting = smol::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                adopting.adopt(stream);
            }
        });
        let dial = move || smol::net::unix::UnixStream::connect(path.clone());
        talk::<Smol, _, _>("ws://localhost/ws", dial).await;
        accepting.cancel().await;
    });
}

#[test]
fn a_pipe_in_memory() {
    on_tokio(async {
        let relay = relay::<Tokio>();
        let dial = move || {
            let (near, far) = tokio::io::duplex(100);
            relay.adopt(far.compat());
            async move { Ok(near.compat()) }
        };
        talk::<Tokio, _, _>("ws://localhost/ws", dial).await;
    });
}

/// The web service, ended when the test is.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the web service with `args`; returns where it listens, too.
fn service(args: &[&str]) -> (Service, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_axum-embed"));
    let command = command.args(["--port", "0"]).args(args);
    let mut service = Service(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(service.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on http://")
        .unwrap()
        .to_owned();
    (service, address)
}

#[test]
fn a_route_of_a_web_service_allows_the_origins_that_are_listed() {
    let (_service, address) = service(&["--allowed-origins", "https://app.example.com"]);
    let cases = [
        ("", "101"),
        ("Origin: https://app.example.com\r\n", "101"),
        ("Origin: https://evil.example\r\n", "403"),
        ("Origin: null\r\n", "403"),
    ];
    for (origin, expected) in cases {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /agents/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}\r\n"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1);
        assert_eq!(status, Some(expected), "{origin}: {line}");
    }
}

#[test]
fn a_route_of_a_web_service_is_a_relay() {
    let (_service, address) = service(&[]);
    on_tokio(async move {
        let url = format!("ws://{address}/agents/ws");
        let dial = move || {
            let address = address.clone();
            async move { Ok(tokio::net::TcpStream::connect(address).await?.compat()) }
        };
        talk::<Tokio, _, _>(&url, dial).await;
    });
}
