//! The little HTTP that a relay needs: one request, one response, then WebSocket or the end.
//!
//! Everything here is a pure function of bytes and settings. Parsing is httparse's, the WebSocket
//! upgrade tungstenite's; what a request *means* (protocol section 5) is decided here.

use core::fmt::Write as _;

use http::{HeaderMap, Method, Request, StatusCode, header};
use percent_encoding::percent_decode_str;
use pinch_proto::Address;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::server::{create_response, write_response};

/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;

/// The longest head of a request, in bytes.
pub(crate) const MAX_HEAD: usize = 8192;

/// The browsers' pages that may connect (header `Origin`). Requests without one are no browser's,
/// and always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// No page.
    #[default]
    None,
    /// These, such as `https://app.example.com`.
    List(Vec<String>),
    /// Every page.
    Any,
}

impl AllowedOrigins {
    fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        match self {
            Self::None => false,
            Self::List(list) => list
                .iter()
                .any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())),
            Self::Any => true,
        }
    }
}

/// How an agent shows that its address is its own (protocol section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Auth {
    /// By answering a challenge with its key.
    #[default]
    Challenge,
    /// By saying so: for development and closed networks.
    Open,
}

/// Why the head of a request cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It is no HTTP.
    Malformed,
    /// It is longer than [`MAX_HEAD`], or has more headers than a request may have.
    TooLarge,
}

impl HeadError {
    pub(crate) fn response(&self) -> Vec<u8> {
        match self {
            Self::Malformed => refuse(StatusCode::BAD_REQUEST, "malformed HTTP request", &[]),
            Self::TooLarge => refuse(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the head of a request may have 8192 bytes and 64 headers",
                &[],
            ),
        }
    }
}

/// Parses the head of a request from the beginning of `bytes`, and says how long it is; `None` if
/// its end has not come.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    let version = if parsed.version == Some(1) {
        http::Version::HTTP_11
    } else {
        http::Version::HTTP_10
    };
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(version);
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    request
        .body(())
        .map(|request| Some((request, length)))
        .map_err(|_| HeadError::Malformed)
}

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Answer with these bytes, and speak WebSocket from then on.
    Upgrade {
        response: Vec<u8>,
        /// Who it says it is, in open mode.
        name: Option<Address>,
    },
    /// Answer with a report on the relay's health.
    Health,
    /// Answer with these bytes, and close.
    Respond(Vec<u8>),
}

/// Decides what `request` leads to.
pub(crate) fn route(request: &Request<()>, auth: Auth, origins: &AllowedOrigins) -> Route {
    match (request.uri().path(), request.method()) {
        ("/ws", &Method::GET) => enter(request, auth, origins).unwrap_or_else(Route::Respond),
        ("/health", &Method::GET) => Route::Health,
        ("/ws" | "/health", _) => Route::Respond(refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here",
            &[(header::ALLOW.as_str(), "GET")],
        )),
        _ => Route::Respond(refuse(
            StatusCode::NOT_FOUND,
            "only /ws and /health are here",
            &[],
        )),
    }
}

fn enter(request: &Request<()>, auth: Auth, origins: &AllowedOrigins) -> Result<Route, Vec<u8>> {
    let response = upgrade(request)?;
    if !origins.allow(request.headers()) {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "this origin is not allowed to connect",
            &[],
        ));
    }
    let name = match auth {
        Auth::Challenge => None,
        Auth::Open => {
            Some(name(request).map_err(|reason| refuse(StatusCode::BAD_REQUEST, &reason, &[]))?)
        }
    };
    Ok(Route::Upgrade { response, name })
}

/// The response to a request for WebSocket; `Err` is the one to any other request.
pub(crate) fn upgrade(request: &Request<()>) -> Result<Vec<u8>, Vec<u8>> {
    let accepted = create_response(request).map_err(|error| refuse_upgrade(&error))?;
    let mut response = Vec::with_capacity(192);
    write_response(&mut response, &accepted).expect("a vector takes every write");
    Ok(response)
}

/// The address in the query of an open-mode request.
fn name(request: &Request<()>) -> Result<Address, String> {
    let query = request.uri().query().unwrap_or_default();
    let encoded = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("address="))
        .ok_or("the address is missing: expected /ws?address=<percent-encoded address>")?;
    let decoded = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| "the address is not UTF-8: expected /ws?address=<percent-encoded address>")?;
    Address::parse(&decoded).map_err(|error| format!("the address is malformed: {error}"))
}

fn refuse_upgrade(error: &tungstenite::Error) -> Vec<u8> {
    let missing_upgrade = matches!(
        error,
        tungstenite::Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingSecWebSocketVersionHeader
                | ProtocolError::WrongHttpVersion
        )
    );
    if missing_upgrade {
        let headers = [
            (header::UPGRADE.as_str(), "websocket"),
            (header::SEC_WEBSOCKET_VERSION.as_str(), "13"),
        ];
        refuse(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket endpoint (RFC 6455, version 13)",
            &headers,
        )
    } else {
        refuse(
            StatusCode::BAD_REQUEST,
            &format!("no WebSocket upgrade: {error}"),
            &[],
        )
    }
}

/// A response that says what is wrong, in words, and that the connection ends.
pub(crate) fn refuse(status: StatusCode, reason: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    respond(
        status,
        "text/plain; charset=utf-8",
        &format!("{reason}\n"),
        headers,
    )
}

/// A whole response with `body`, after which the connection ends.
pub(crate) fn respond(
    status: StatusCode,
    content_type: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    let length = body.len();
    let more = headers
        .iter()
        .fold(String::new(), |mut text, (name, value)| {
            let _ = write!(text, "{name}: {value}\r\n");
            text
        });
    let _ = write!(
        text,
        "content-type: {content_type}\r\ncontent-length: {length}\r\ncache-control: no-store\r\n{more}connection: close\r\n\r\n{body}"
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests;
