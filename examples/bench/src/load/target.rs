//! Which relay a load is for, and how its agents join there.

use core::net::SocketAddr;
use std::net::{TcpStream, ToSocketAddrs as _};

use clap::{Args, ValueEnum};
use http::Uri;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pinch_proto::Host;
use serde::Serialize;

use super::LoadError;
use super::identity::Identity;
use crate::process::Sample;

/// The relay that is measured.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The WebSocket endpoint of the relay, ws://HOST:PORT/PATH
    #[arg(long, default_value = "ws://127.0.0.1:8080/ws")]
    pub url: String,
    /// The public host of the relay: what stands behind the @ of addresses
    #[arg(long, default_value = "localhost")]
    pub host: Host,
    /// How agents join
    #[arg(long, value_enum, default_value = "challenge")]
    pub auth: Auth,
    /// The process of the relay, to tell its CPU time and memory (Linux)
    #[arg(long)]
    pub pid: Option<u32>,
    /// How many agents join at the same time
    #[arg(long, default_value_t = 128, value_parser = at_least_one)]
    pub concurrency: usize,
    /// Never sleep: keeps one core busy, but takes the time to wake up out of the latencies
    #[arg(long)]
    pub spin: bool,
}

/// Reads a number of things of which there has to be one.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected 1 or more".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}, expected a number from 1 on")),
    }
}

/// How agents say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// They sign what the relay asks them to
    Challenge,
    /// They name themselves in the URL
    Open,
}

/// A relay that takes connections.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(super) host: Host,
    pub(super) auth: Auth,
    authority: String,
    path: String,
}

impl Target {
    /// Looks at the relay's process.
    pub(super) fn sample(&self) -> Sample {
        Sample::of(self.pid)
    }

    /// Checks what was asked for, and that somebody listens there.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, LoadError> {
        let uri: Uri = self.url.parse().map_err(|_| self.invalid_url())?;
        let (Some("ws"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(self.invalid_url());
        };
        if let Some(pid) = self.pid
            && cfg!(target_os = "linux")
            && !self.sample().is_known()
        {
            return Err(LoadError::NoProcess { pid });
        }
        let port = authority.port_u16().unwrap_or(80);
        // The brackets of an IPv6 address are no part of it.
        let host = authority.host().trim_matches(['[', ']']);
        Ok(Endpoint {
            addr: reachable(host, port)?,
            host: self.host.clone(),
            auth: self.auth,
            authority: authority.as_str().to_owned(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }

    fn invalid_url(&self) -> LoadError {
        LoadError::InvalidUrl(self.url.clone())
    }
}

/// The first address of `host` that takes a connection.
fn reachable(host: &str, port: u16) -> Result<SocketAddr, LoadError> {
    let failed = |error| LoadError::Unreachable {
        authority: format!("{host}:{port}"),
        error,
    };
    let mut last = std::io::ErrorKind::AddrNotAvailable.into();
    for addr in (host, port).to_socket_addrs().map_err(failed)? {
        match TcpStream::connect(addr) {
            Ok(_) => return Ok(addr),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

impl Endpoint {
    /// The HTTP request by which `identity` asks for a WebSocket.
    pub(super) fn upgrade_request(&self, identity: &Identity, key: &str) -> String {
        let mut path = self.path.clone();
        if self.auth == Auth::Open {
            let address = utf8_percent_encode(identity.address.as_str(), NON_ALPHANUMERIC);
            let separator = if path.contains('?') { '&' } else { '?' };
            path = format!("{path}{separator}address={address}");
        }
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
            self.authority
        )
    }
}
