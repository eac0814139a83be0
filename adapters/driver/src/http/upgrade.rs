//! Which request becomes a WebSocket (RFC 6455 section 4.2), and for whom.

use core::net::IpAddr;

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use percent_encoding::percent_decode_str;
use pinch_proto::hub::JoinOptions;
use pinch_proto::{Address, Host};
use tungstenite::handshake::derive_accept_key;

use super::fields::{Authority, has_token};
use super::{AllowedOrigins, Auth, refuse};

/// The longest part of a header that a response repeats, in bytes.
const MAX_QUOTED: usize = 100;

/// An upgrade to a WebSocket that was checked: what a relay has to know of its request.
///
/// [`Relay::check_upgrade`](crate::Relay::check_upgrade) makes one from an HTTP request,
/// [`Upgrade::trusted`] one for a stream that had no request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an upgrade belongs to the stream that Relay::adopt_upgraded takes"]
pub struct Upgrade {
    /// The address that the agent joins under without a proof.
    pub(crate) address: Option<Address>,
    /// The request had an `Origin` header: its sender may be a browser.
    pub(crate) has_origin: bool,
    /// The query of the request's target, without the `?`.
    pub(crate) query: String,
    /// The address that it comes from.
    pub(crate) peer: Option<IpAddr>,
}

impl Upgrade {
    /// An upgrade that the caller answers for: nothing is checked, the `Origin` header in
    /// particular. For streams that no web page can open, such as a pipe in memory.
    pub const fn trusted() -> Self {
        Self {
            address: None,
            has_origin: false,
            query: String::new(),
            peer: None,
        }
    }

    /// Lets the agent join under `address` without a proof: the caller answers for it. Without this,
    /// it proves its key, unless it named itself in a request to a relay with [`Auth::Open`].
    pub fn vouched_for(mut self, address: Address) -> Self {
        self.address = Some(address);
        self
    }

    /// Whether the request had an `Origin` header, as those of browsers have. Default: that of the
    /// checked request; for a trusted upgrade, false.
    pub const fn has_origin(mut self, has_origin: bool) -> Self {
        self.has_origin = has_origin;
        self
    }

    /// The query of the request's target, without the `?`: `dedup=1&receive=0`. Default: that of the
    /// checked request; for a trusted upgrade, empty.
    pub fn query(mut self, query: impl Into<String>) -> Self {
        self.query = query.into();
        self
    }

    /// The address that the connection comes from; behind a reverse proxy, that of its client. The
    /// relay's limits for one address hold for it. Default: none, and no such limit.
    pub const fn peer(mut self, peer: IpAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The value of the first parameter called `name` in the query, percent-encoded as it came.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The properties of the connection that the hub decides by.
    pub(crate) fn join_options(&self) -> JoinOptions {
        JoinOptions {
            send_only: self.parameter("receive") == Some("0"),
            deduplicates: self.parameter("dedup") == Some("1"),
            browser: self.has_origin,
        }
    }

    /// Checks `request`, whatever its path, and returns the response of status 101 with it.
    pub(crate) fn check<B>(
        request: &Request<B>,
        auth: Auth,
        origins: &AllowedOrigins,
        public: &Host,
    ) -> Result<(Self, Response<()>), UpgradeError> {
        let response = accept(request)?;
        let origin = at_most_one(request, &header::ORIGIN)?;
        let authority = authority(request)?;
        if let Some(origin) = origin
            && !origins.allow(origin.as_bytes(), authority.as_ref(), public)
        {
            return Err(UpgradeError::Origin(quote(origin)));
        }
        let mut upgrade = Self {
            address: None,
            has_origin: origin.is_some(),
            query: request.uri().query().unwrap_or_default().into(),
            peer: None,
        };
        if auth == Auth::Open {
            upgrade.address = Some(upgrade.name().map_err(UpgradeError::Address)?);
        }
        Ok((upgrade, response))
    }

    /// The address in the query of an open-mode request.
    fn name(&self) -> Result<Address, String> {
        let encoded = self
            .parameter("address")
            .ok_or("the address is missing: expected /ws?address=<percent-encoded address>")?;
        let decoded = percent_decode_str(encoded).decode_utf8().map_err(
            |_| "the address is not UTF-8: expected /ws?address=<percent-encoded address>",
        )?;
        Address::parse(&decoded).map_err(|error| format!("the address is malformed: {error}"))
    }
}

/// Why a request is not upgraded to a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// A WebSocket begins with GET (status 405).
    #[error("the method is {0}, expected GET")]
    Method(Method),
    /// The `Host` header is missing, repeated or malformed (status 400).
    #[error("expected exactly one Host header with a host and perhaps a port")]
    Host,
    /// A header that may come once came several times (status 400).
    #[error("expected at most one {0} header")]
    Repeated(HeaderName),
    /// The request has a body, behind which a WebSocket cannot begin (status 400).
    #[error(
        "an upgrade request has no body: expected neither Content-Length nor Transfer-Encoding"
    )]
    Body,
    /// Another version of HTTP (status 426).
    #[error(
        "a WebSocket upgrade needs HTTP/1.1, and this request is {0:?}; a reverse proxy has to pass \
         it on as HTTP/1.1"
    )]
    HttpVersion(Version),
    /// The headers do not ask for a WebSocket (status 426).
    #[error(
        "this is a WebSocket endpoint: expected `Connection: Upgrade` and `Upgrade: websocket`, \
         which a reverse proxy has to pass on"
    )]
    NoUpgrade,
    /// Another version of WebSocket (status 426).
    #[error("expected Sec-WebSocket-Version: 13 (RFC 6455)")]
    WebSocketVersion,
    /// The `Sec-WebSocket-Key` is missing or malformed (status 400).
    #[error("expected exactly one Sec-WebSocket-Key header, 16 bytes in base64")]
    Key,
    /// The origin may not connect (status 403).
    #[error(
        "this origin is not allowed to connect: {0:?}; the operator of the relay has to allow it"
    )]
    Origin(String),
    /// In open mode, the query names no address (status 400).
    #[error("{0}")]
    Address(String),
}

impl UpgradeError {
    /// The response that says so.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        let status = match self {
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion(_) | Self::NoUpgrade | Self::WebSocketVersion => {
                StatusCode::UPGRADE_REQUIRED
            }
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Host | Self::Repeated(_) | Self::Body | Self::Key | Self::Address(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        let mut response = refuse(status, &self.to_string());
        let headers: &[(HeaderName, &'static str)] = match status {
            StatusCode::METHOD_NOT_ALLOWED => &[(header::ALLOW, "GET")],
            StatusCode::UPGRADE_REQUIRED => &[
                (header::CONNECTION, "upgrade"),
                (header::UPGRADE, "websocket"),
                (header::SEC_WEBSOCKET_VERSION, "13"),
            ],
            _ => &[],
        };
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The response of status 101 to a request for a WebSocket.
pub(crate) fn accept<B>(request: &Request<B>) -> Result<Response<()>, UpgradeError> {
    authority(request)?;
    if request.method() != Method::GET {
        return Err(UpgradeError::Method(request.method().clone()));
    }
    if request.version() != Version::HTTP_11 {
        return Err(UpgradeError::HttpVersion(request.version()));
    }
    let headers = request.headers();
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !has_token(headers, &header::UPGRADE, "websocket")
    {
        return Err(UpgradeError::NoUpgrade);
    }
    let version = at_most_one(request, &header::SEC_WEBSOCKET_VERSION)?;
    if version.is_none_or(|version| version != "13") {
        return Err(UpgradeError::WebSocketVersion);
    }
    let length = at_most_one(request, &header::CONTENT_LENGTH)?;
    if length.is_some_and(|length| length != "0") || headers.contains_key(header::TRANSFER_ENCODING)
    {
        return Err(UpgradeError::Body);
    }
    let key = at_most_one(request, &header::SEC_WEBSOCKET_KEY)?;
    let key = key
        .map(HeaderValue::as_bytes)
        .filter(|key| is_key(key))
        .ok_or(UpgradeError::Key)?;
    let accept = HeaderValue::try_from(derive_accept_key(key)).map_err(|_| UpgradeError::Key)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// Where `request` was sent to (RFC 9112 section 3.2): what its target says, if it is absolute, or
/// its `Host`, which HTTP/1.1 requires, and which may be empty.
pub(super) fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, UpgradeError> {
    let parse = |text| Authority::parse(text).ok_or(UpgradeError::Host);
    let mut lines = request.headers().get_all(header::HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(_), Some(_)) => return Err(UpgradeError::Host),
        (None, _) if request.version() == Version::HTTP_11 => return Err(UpgradeError::Host),
        (None, _) => None,
        (Some(host), None) if host.is_empty() => None,
        (Some(host), None) => {
            let host = host.to_str().map_err(|_| UpgradeError::Host)?;
            Some(parse(host)?)
        }
    };
    match request.uri().authority() {
        Some(authority) => parse(authority.as_str()).map(Some),
        None => Ok(host),
    }
}

/// The value of a header that may come once.
fn at_most_one<'a, B>(
    request: &'a Request<B>,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, UpgradeError> {
    let mut lines = request.headers().get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(UpgradeError::Repeated(name.clone())),
        (line, None) => Ok(line),
    }
}

/// Whether `key` is 16 bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.strip_suffix(b"==")
        .is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// A header's value, as far as a response may repeat it.
fn quote(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes())
        .chars()
        .take(MAX_QUOTED)
        .collect()
}
