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
        ("/ws", &Method::GET) => upgrade(request, auth, origins).unwrap_or_else(Route::Respond),
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

fn upgrade(request: &Request<()>, auth: Auth, origins: &AllowedOrigins) -> Result<Route, Vec<u8>> {
    let accepted = create_response(request).map_err(|error| refuse_upgrade(&error))?;
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
    let mut response = Vec::with_capacity(192);
    write_response(&mut response, &accepted).expect("a vector takes every write");
    Ok(Route::Upgrade { response, name })
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
mod tests {
    use super::*;

    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn request(head: &str) -> Request<()> {
        let parsed = parse_head(head.as_bytes()).expect("HTTP");
        parsed.expect("a whole head").0
    }

    /// The status with which `head` is answered: 101 for an upgrade, 200 for the health.
    fn status(head: &str, auth: Auth, origins: &AllowedOrigins) -> u16 {
        let bytes = match route(&request(head), auth, origins) {
            Route::Health => return 200,
            Route::Upgrade { response, .. } | Route::Respond(response) => response,
        };
        let text = String::from_utf8(bytes).expect("text");
        let status = text
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        status.expect("a status").parse().expect("a number")
    }

    #[test]
    fn every_request_has_its_status() {
        let upgrade = |from: &str, to: &str| {
            assert!(UPGRADE.contains(from));
            UPGRADE.replacen(from, to, 1)
        };
        let cases = [
            (UPGRADE.to_owned(), 101),
            (upgrade("/ws", "/ws?a=b"), 101),
            (upgrade("websocket", "WebSocket"), 101),
            (
                upgrade("Connection: Upgrade", "Connection: keep-alive, upgrade"),
                101,
            ),
            (upgrade("/ws", "/"), 404),
            (upgrade("/ws", "/wss"), 404),
            (upgrade("GET", "POST"), 405),
            (upgrade("Upgrade: websocket\r\n", ""), 426),
            (upgrade("Connection: Upgrade\r\n", ""), 426),
            (upgrade("Version: 13", "Version: 12"), 426),
            (upgrade("Sec-WebSocket-Version: 13\r\n", ""), 426),
            (upgrade("HTTP/1.1", "HTTP/1.0"), 426),
            (
                upgrade("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
                400,
            ),
            (upgrade("Host: a", "Origin: https://a.example"), 403),
            ("GET /health HTTP/1.1\r\n\r\n".into(), 200),
            ("GET /health?a HTTP/1.0\r\nOrigin: null\r\n\r\n".into(), 200),
            ("PUT /health HTTP/1.1\r\n\r\n".into(), 405),
            ("DELETE /elsewhere HTTP/1.1\r\n\r\n".into(), 404),
        ];
        for (head, expected) in cases {
            let found = status(&head, Auth::Challenge, &AllowedOrigins::None);
            assert_eq!(found, expected, "{head}");
        }
    }

    #[test]
    fn an_origin_is_compared_as_a_whole_and_without_case() {
        let list = AllowedOrigins::List(vec!["https://app.example.com".into()]);
        let cases = [
            ("https://app.example.com", 101),
            ("HTTPS://App.Example.Com", 101),
            ("https://app.example.com:444", 403),
            ("http://app.example.com", 403),
            ("https://app.example.co", 403),
            ("", 403),
        ];
        for (origin, expected) in cases {
            let head = UPGRADE.replace("Host: a", &format!("Origin: {origin}"));
            assert_eq!(status(&head, Auth::Challenge, &list), expected, "{origin}");
            assert_eq!(status(&head, Auth::Challenge, &AllowedOrigins::Any), 101);
        }
    }

    #[test]
    fn open_mode_takes_the_address_from_the_query() {
        let cases = [
            ("?address=pinch:a@b.example", Ok("pinch:a@b.example")),
            (
                "?x=1&address=pinch%3Aa%40b.example&y",
                Ok("pinch:a@b.example"),
            ),
            // The first one counts.
            (
                "?address=pinch:a@b.example&address=pinch:c@d.example",
                Ok("pinch:a@b.example"),
            ),
            ("", Err(400)),
            ("?address", Err(400)),
            ("?address=", Err(400)),
            ("?Address=pinch:a@b.example", Err(400)),
            ("?address=%ff", Err(400)),
            ("?address=a@b.example", Err(400)),
        ];
        for (query, expected) in cases {
            let head = UPGRADE.replacen("/ws", &format!("/ws{query}"), 1);
            match (
                route(&request(&head), Auth::Open, &AllowedOrigins::None),
                expected,
            ) {
                (Route::Upgrade { name, .. }, Ok(expected)) => {
                    assert_eq!(name.as_ref().map(Address::as_str), Some(expected));
                }
                (Route::Respond(response), Err(expected)) => {
                    assert!(
                        response.starts_with(format!("HTTP/1.1 {expected} ").as_bytes()),
                        "{query}"
                    );
                }
                (other, _) => panic!("{query} leads to {other:?}"),
            }
            let challenged = route(&request(&head), Auth::Challenge, &AllowedOrigins::None);
            assert!(
                matches!(challenged, Route::Upgrade { name: None, .. }),
                "{query}"
            );
        }
    }

    #[test]
    fn a_head_has_an_end_and_what_is_behind_it_is_not_its_own() {
        let bytes = [UPGRADE.as_bytes(), b"\x82\x80"].concat();
        for end in 0..UPGRADE.len() {
            assert!(
                matches!(parse_head(&bytes[..end]), Ok(None)),
                "the first {end} bytes"
            );
        }
        for end in UPGRADE.len()..=bytes.len() {
            let (request, length) = parse_head(&bytes[..end]).expect("HTTP").expect("a head");
            assert_eq!((length, request.uri().path()), (UPGRADE.len(), "/ws"));
            assert_eq!(request.headers().len(), 5);
        }
    }

    #[test]
    fn what_is_no_http_is_known_at_once() {
        for bytes in [
            &b"\x16\x03\x01"[..],
            b"GET /ws HTTP/2",
            b"GET  HTTP/1.1\r\n\r\n",
            b"GET /\n: a\r\n",
            b"\0",
        ] {
            let error = parse_head(bytes).expect_err("no HTTP");
            assert_eq!(error, HeadError::Malformed, "{bytes:x?}");
            assert!(error.response().starts_with(b"HTTP/1.1 400 "));
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_headers() {
        let of = |len: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(len - 23));
        let with = |headers| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
        assert!(matches!(
            parse_head(of(MAX_HEAD).as_bytes()),
            Ok(Some((_, MAX_HEAD)))
        ));
        assert!(matches!(
            parse_head(with(MAX_HEADERS).as_bytes()),
            Ok(Some(_))
        ));
        let endless = "G".repeat(MAX_HEAD);
        for head in [of(MAX_HEAD + 1), with(MAX_HEADERS + 1), endless] {
            let error = parse_head(head.as_bytes()).expect_err("too large");
            assert_eq!(error, HeadError::TooLarge);
            assert!(error.response().starts_with(b"HTTP/1.1 431 "));
        }
    }

    #[test]
    fn a_response_says_how_long_it_is_and_that_it_is_the_last() {
        let response = refuse(StatusCode::NOT_FOUND, "no", &[("a", "b")]);
        let expected = "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n\
            content-length: 3\r\ncache-control: no-store\r\na: b\r\nconnection: close\r\n\r\nno\n";
        assert_eq!(String::from_utf8(response).as_deref(), Ok(expected));
    }
}
