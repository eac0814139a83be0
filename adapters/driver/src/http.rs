//! The little HTTP that a relay needs: one request, one response, then WebSocket or the end.
//!
//! Everything here is a pure function of bytes and settings. Parsing is httparse's; what a request
//! *means* (protocol section 5) is decided here.

mod fields;
mod origin;
mod upgrade;

mod forwarded;

use core::fmt::Write as _;

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use pinch_proto::Host;

pub(crate) use self::fields::{Authority, has_token, is_made_of, items};
pub use self::origin::AllowedOrigins;
#[cfg(feature = "echo")]
pub(crate) use self::upgrade::accept;
pub use self::upgrade::{Upgrade, UpgradeError};

pub(crate) use self::forwarded::source;

/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;

/// The longest head of a request, in bytes.
pub(crate) const MAX_HEAD: usize = 8192;

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
    pub(crate) fn response(&self) -> Response<String> {
        match self {
            Self::Malformed => refuse(StatusCode::BAD_REQUEST, "malformed HTTP request"),
            Self::TooLarge => refuse(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the head of a request may have 8192 bytes and 64 headers",
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
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    let target = parsed.path.unwrap_or_default();
    if target.contains('#') {
        // A fragment is for the client alone (RFC 9110 section 4.1).
        return Err(HeadError::Malformed);
    }
    let mut request = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(target)
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
#[derive(Debug)]
pub(crate) enum Route {
    /// Answer with this, and speak WebSocket from then on.
    Upgrade(Upgrade, Response<()>),
    /// Answer with a report on the relay's health.
    Health,
    /// Answer with this, and close.
    Respond(Response<String>),
}

/// Decides what `request` leads to, at a relay whose public host is `public`.
pub(crate) fn route(
    request: &Request<()>,
    auth: Auth,
    origins: &AllowedOrigins,
    public: &Host,
) -> Route {
    if let Err(error) = upgrade::authority(request) {
        return Route::Respond(error.response());
    }
    match (request.uri().path(), request.method()) {
        ("/ws", &Method::GET) => match Upgrade::check(request, auth, origins, public) {
            Ok((upgrade, response)) => Route::Upgrade(upgrade, response),
            Err(error) => Route::Respond(error.response()),
        },
        // A WebSocket begins with GET only.
        ("/ws", &Method::HEAD) => Route::Respond(UpgradeError::NoUpgrade.response()),
        ("/health", &Method::GET | &Method::HEAD) => Route::Health,
        ("/ws" | "/health", _) => {
            let mut response = refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "expected GET or HEAD at this path",
            );
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
            Route::Respond(response)
        }
        _ => Route::Respond(refuse(
            StatusCode::NOT_FOUND,
            "only /ws and /health are here",
        )),
    }
}

/// A response that says what is wrong, in words.
pub(crate) fn refuse(status: StatusCode, reason: &str) -> Response<String> {
    respond(status, "text/plain; charset=utf-8", format!("{reason}\n"))
}

/// A response with `body`.
pub(crate) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: String,
) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Encodes the last response of a connection. The one to a HEAD request has no body.
pub(crate) fn encode_last(response: &Response<String>, is_head: bool) -> Vec<u8> {
    let body = response.body();
    let mut last = Response::new(());
    *last.status_mut() = response.status();
    last.headers_mut().clone_from(response.headers());
    let headers = last.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    let close = match headers.get(header::CONNECTION) {
        Some(option) if option == "upgrade" => "upgrade, close",
        Some(_) | None => "close",
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static(close));
    let mut bytes = encode(&last);
    if !is_head {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

/// Encodes a response that has no body.
pub(crate) fn encode(response: &Response<()>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status());
    for (name, value) in response.headers() {
        // Values of ours are ASCII.
        let _ = write!(text, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    text.push_str("\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests;
