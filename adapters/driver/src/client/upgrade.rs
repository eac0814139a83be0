//! The upgrade to a WebSocket, as a client asks for it (RFC 6455 section 4.1).

use core::time::Duration;
use std::io;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::url::Url;
use crate::clock::within;
use crate::ends::{Turns, say};
use crate::http::{has_token, items};
use crate::{Runtime, Stream};

/// The most headers that a response may have.
const MAX_HEADERS: usize = 128;

/// The longest head of a response, in bytes, with those of status 1xx before it.
const MAX_HEAD: usize = 32 << 10;

/// How much of the body of another response is read, in bytes.
const MAX_BODY: usize = 4096;

/// How long the body of another response may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// The relay answered with another status than 101.
    #[error("the relay answered {}", .0.status())]
    Rejected(Box<Response<Vec<u8>>>),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The stream ended before the response did.
    #[error("the connection was closed before the relay answered the upgrade")]
    Eof,
    /// The answer is no HTTP/1.1.
    #[error("the answer to the upgrade is no response of HTTP/1.1")]
    Malformed,
    /// The head is too long.
    #[error("the answer to the upgrade has a head of more than {MAX_HEAD} bytes")]
    TooLarge,
    /// The 101 lacks this.
    #[error("the relay's 101 lacks `{0}`")]
    Lacks(&'static str),
    /// `Sec-WebSocket-Accept` belongs to another request.
    #[error("the relay's 101 has no Sec-WebSocket-Accept that answers this request")]
    Accept,
    /// The relay uses an extension or a subprotocol that was not asked for.
    #[error("the relay's 101 has `{0}: {1}`, which was not asked for")]
    NotAskedFor(HeaderName, String),
}

/// Upgrades `stream`; returns what came behind the response.
pub(super) async fn upgrade<R: Runtime>(
    runtime: &R,
    stream: &mut impl Stream,
    url: &Url,
) -> Result<Vec<u8>, UpgradeError> {
    let key = generate_key();
    let Url {
        authority, target, ..
    } = url;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    say(stream, request.as_bytes()).await?;
    let (mut turns, mut bytes) = (Turns::default(), Vec::new());
    let Parsed {
        mut response,
        length,
    } = loop {
        if turns.read_some(stream, &mut bytes).await? == 0 {
            return Err(UpgradeError::Eof);
        }
        if let Some(parsed) = parse_final(&bytes)? {
            break parsed;
        }
    };
    let mut rest = bytes.split_off(length);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return check(response.headers(), &key).map(|()| rest);
    }
    let length = body_length(&response);
    let body = async {
        while rest.len() < length && turns.read_some(stream, &mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // What has come by then is better than nothing.
    let _ = within(runtime, BODY_TIMEOUT, body).await;
    rest.truncate(length);
    *response.body_mut() = rest;
    Err(UpgradeError::Rejected(Box::new(response)))
}

/// A response, and where its head ends.
struct Parsed {
    response: Response<Vec<u8>>,
    length: usize,
}

/// The final response at the beginning of `bytes`, behind those of status 1xx, and where it ends;
/// `None` if its end has not come. 101 is final.
fn parse_final(bytes: &[u8]) -> Result<Option<Parsed>, UpgradeError> {
    let mut start = 0;
    while let Some(mut parsed) = parse(bytes.get(start..).unwrap_or_default())? {
        start += parsed.length;
        let status = parsed.response.status();
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            parsed.length = start;
            return Ok(Some(parsed));
        }
    }
    if bytes.len() < MAX_HEAD {
        Ok(None)
    } else {
        Err(UpgradeError::TooLarge)
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Parsed>, UpgradeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    let length = match config.parse_response(&mut parsed, bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(UpgradeError::TooLarge),
        Err(_) => return Err(UpgradeError::Malformed),
    };
    let malformed = |_| UpgradeError::Malformed;
    let mut response = Response::new(Vec::new());
    let status = parsed.code.unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| UpgradeError::Malformed)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && parsed.version != Some(1) {
        return Err(UpgradeError::Malformed);
    }
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| UpgradeError::Malformed)?;
        // A folded line is one line with blanks (RFC 9112 section 5.2).
        let unfolded: Vec<u8> = field
            .value
            .iter()
            .map(|&byte| {
                if matches!(byte, b'\r' | b'\n') {
                    b' '
                } else {
                    byte
                }
            })
            .collect();
        let value = HeaderValue::from_bytes(&unfolded).map_err(malformed)?;
        response.headers_mut().append(name, value);
    }
    Ok(Some(Parsed { response, length }))
}

/// How much of the body of `response` to read: one in chunks is not shown.
fn body_length(response: &Response<Vec<u8>>) -> usize {
    let status = response.status();
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers().contains_key(header::TRANSFER_ENCODING)
    {
        return 0;
    }
    let length = response.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.map_or(MAX_BODY, |length: usize| length.min(MAX_BODY))
}

/// Whether a response of status 101 with these headers answers the request with `key`.
fn check(headers: &HeaderMap, key: &str) -> Result<(), UpgradeError> {
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(UpgradeError::Lacks("Connection: Upgrade"));
    }
    let mut protocols = items(headers, &header::UPGRADE).peekable();
    if protocols.peek().is_none()
        || !protocols.all(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    {
        return Err(UpgradeError::Lacks("Upgrade: websocket"));
    }
    let mut accept = items(headers, &header::SEC_WEBSOCKET_ACCEPT);
    let expected = derive_accept_key(key.as_bytes());
    if accept.next() != Some(expected.as_bytes()) || accept.next().is_some() {
        return Err(UpgradeError::Accept);
    }
    for name in [
        header::SEC_WEBSOCKET_EXTENSIONS,
        header::SEC_WEBSOCKET_PROTOCOL,
    ] {
        let unasked = items(headers, &name).next();
        if let Some(item) = unasked {
            let item = String::from_utf8_lossy(item).into_owned();
            return Err(UpgradeError::NotAskedFor(name, item));
        }
    }
    Ok(())
}
