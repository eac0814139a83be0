//! HTTP: a relay answers a request, and a client reads an answer, as RFC 9110, 9112 and 6455 say.
//!
//! An input is a head that is good but for a few edits: fields that are gone, repeated, replaced or
//! added, in any spelling and over several lines. The judge is `rules`, which knows lists and nothing
//! else. A head may be damaged on top of that; then what is still upgraded has to be good all the same.

mod rules;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arbitrary::{Result as Read, Unstructured};
use futures_util::FutureExt as _;
use pinch_driver::{AllowedOrigins, Auth, Client, Relay};
use pinch_proto::client::{Config, Disconnect, Event, Identity};
use pinch_proto::{Address, Host, hub};
use tungstenite::handshake::derive_accept_key;

use self::rules::Settings;
use super::damage::Damage;
use super::driver_bytes::executor::Virtual;
use super::driver_bytes::socket::socket;
use super::lines;

const PUBLIC: &str = "relay.example.com";
const LISTED: &[&str] = &["https://app.example.com:443", "http://b.example:8080"];

const METHODS: &[&str] = &["GET", "GET", "GET", "HEAD", "POST", "get"];
const TARGETS: &[&str] = &[
    "/ws?address=pinch:a@b.example",
    "/ws",
    "/health",
    "http://relay.example.com/ws?x&address=pinch:a@b.example",
    "http://evil.example:8080/ws",
    "http://me@relay.example.com/ws",
    "/health?a",
    "/ws/",
];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"];
const STATUSES: &[&str] = &[
    "HTTP/1.1 101 Switching Protocols",
    "HTTP/1.1 101 ",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 101 Again",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 403 Forbidden",
    "HTTP/1.1 204 No Content",
    "HTTP/1.0 101 Old",
];

const REQUEST: &[(&str, &str)] = &[
    ("Host", "relay.example.com"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Origin", "https://app.example.com"),
];
const RESPONSE: &[(&str, &str)] = &[
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Accept", "{accept}"),
];
/// What edits write; `{accept}` becomes what answers the client's key.
const EDITS: &[(&str, &[&str])] = &[
    (
        "Host",
        &[
            "",
            "RELAY.example.com:443",
            "a:65536",
            "me@a",
            "evil.example:8080",
            "a, b",
            "a b",
        ],
    ),
    (
        "Connection",
        &[
            "keep-alive",
            "keep-alive, Upgrade",
            ",close ,\tUPGRADE,",
            "up grade",
            "",
        ],
    ),
    (
        "Upgrade",
        &[
            "WebSocket, h2c",
            "h2c",
            "websockets",
            "WebSocket",
            "websocket,,",
        ],
    ),
    ("Sec-WebSocket-Version", &["13", "13, 8", "8", ""]),
    (
        "Sec-WebSocket-Key",
        &[
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "dGhlIHNhbXBsZQ==",
            "dGhlIHNhbXBsZSBub25jZQ",
            "",
        ],
    ),
    (
        "Origin",
        &[
            "HTTPS://App.example.com:443",
            "https://relay.example.com",
            "http://evil.example:8080",
            "http://b.example",
            "http://b.example:8080",
            "https://me@app.example.com",
            "null",
            "",
        ],
    ),
    ("Content-Length", &["0", "5"]),
    ("Transfer-Encoding", &["chunked"]),
    (
        "Sec-WebSocket-Accept",
        &["{accept}", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ""],
    ),
    ("Sec-WebSocket-Extensions", &["permessage-deflate", "", ","]),
    ("Sec-WebSocket-Protocol", &["chat"]),
    ("X", &["y"]),
];

/// Reads a head, and has it answered.
///
/// # Panics
/// If it is answered otherwise than the RFCs say.
pub fn run(data: &[u8]) {
    let script = Script::read(&mut Unstructured::new(data)).unwrap_or_default();
    let played = if script.is_response {
        script.play_response()
    } else {
        script.play_request()
    };
    if let Err(broken) = played {
        panic!("{broken}\n{}", story(data));
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let script = Script::read(&mut Unstructured::new(data)).unwrap_or_default();
    let told = [
        format!("open mode: {}, {:?}", script.is_open, script.origins()),
        format!("{:?}, cut at {}", script.head, script.cut),
    ];
    lines(told) + &lines(&script.damage)
}

#[derive(Debug, Default)]
struct Script {
    is_response: bool,
    is_open: bool,
    origins: u8,
    head: String,
    /// Where the head is cut in two.
    cut: usize,
    damage: Vec<Damage>,
}

impl Script {
    fn read(input: &mut Unstructured<'_>) -> Read<Self> {
        let damage = Damage::several(input);
        let is_response = input.arbitrary()?;
        let (is_open, origins) = (input.arbitrary()?, input.int_in_range(0..=3)?);
        let cut = input.int_in_range(0..=400)?;
        let (first, good) = if is_response {
            ((*input.choose(STATUSES)?).to_owned(), RESPONSE)
        } else {
            let method = input.choose(METHODS)?;
            let target = input.choose(TARGETS)?;
            (
                format!("{method} {target} {}", input.choose(VERSIONS)?),
                REQUEST,
            )
        };
        let mut fields: Vec<_> = good
            .iter()
            .map(|&(name, value)| field(name, value, 0))
            .collect();
        for _ in 0..input.int_in_range(0..=4)? {
            let (name, values) = input.choose(EDITS)?;
            let at = input.int_in_range(0..=fields.len())?;
            match input.int_in_range(0..=2)? {
                0 if at < fields.len() => drop(fields.remove(at)),
                1 => fields.retain(|field| !field.to_lowercase().starts_with(&name.to_lowercase())),
                _ => {}
            }
            if input.arbitrary()? {
                let field = field(name, input.choose(values)?, input.arbitrary()?);
                fields.insert(at.min(fields.len()), field);
            }
        }
        Ok(Self {
            is_response,
            is_open,
            origins,
            head: format!("{first}\r\n{}\r\n", fields.concat()),
            cut,
            damage,
        })
    }

    fn origins(&self) -> AllowedOrigins {
        match self.origins {
            0 => AllowedOrigins::None,
            1 => AllowedOrigins::Any,
            2 => AllowedOrigins::List(vec!["https://a.example".into(), "*".into()]),
            _ => AllowedOrigins::List(LISTED.iter().map(|&origin| origin.into()).collect()),
        }
    }

    /// The head as it is sent, in two pieces.
    fn pieces(&self, head: &str) -> [Vec<u8>; 2] {
        let bytes = head.as_bytes().to_vec();
        let mut first = self
            .damage
            .iter()
            .fold(bytes, |bytes, damage| damage.applied(bytes));
        let second = first.split_off(self.cut.min(first.len()));
        [first, second]
    }

    fn play_request(&self) -> Result<(), String> {
        let runtime = Virtual::default();
        let host = Host::parse(PUBLIC).map_err(|error| error.to_string())?;
        let relay = Relay::builder_on(runtime.clone())
            .hub(hub::Config::new(host))
            .auth(if self.is_open {
                Auth::Open
            } else {
                Auth::Challenge
            })
            .allowed_origins(self.origins());
        let relay = relay.detached().map_err(|error| error.to_string())?;
        let (end, wire) = socket(usize::MAX);
        relay.adopt(end);
        let pieces = self.pieces(&self.head);
        for piece in &pieces {
            wire.write(piece);
            runtime.run()?;
        }
        let answer = String::from_utf8_lossy(&wire.take()).into_owned();
        let sent = pieces.concat();
        let expected = rules::request(
            &String::from_utf8_lossy(&sent),
            Settings {
                is_open: self.is_open,
                public: PUBLIC,
                origins: match self.origins {
                    0 => Some(&[]),
                    1 | 2 => None,
                    _ => Some(LISTED),
                },
            },
        );
        let status = status(&answer);
        if self.damage.is_empty() {
            check_body(&answer, self.head.starts_with("HEAD"))?;
            if status != Some(expected) {
                return Err(format!("{expected} was expected, not {answer:?}"));
            }
        } else if status == Some(101) && expected != 101 && !self.is_open {
            return Err(format!(
                "{expected} was expected of {:?}",
                sent.escape_ascii().to_string()
            ));
        }
        drop((relay, wire));
        runtime.give_back()
    }

    fn play_response(&self) -> Result<(), String> {
        let runtime = Virtual::default();
        let (end, wire) = socket(usize::MAX);
        let end = Arc::new(Mutex::new(Some(end)));
        let dial = move || {
            let end = end.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { end.ok_or(io::ErrorKind::ConnectionRefused.into()) }
        };
        let name = Address::parse("pinch:a@b.example").map_err(|error| error.to_string())?;
        let client = Client::builder_on(runtime.clone(), "wss://a/ws", Identity::Name(name))
            .config(Config::new().max_tries(Some(1)))
            .dial_with(dial);
        let mut client = client.start().map_err(|error| error.to_string())?;
        runtime.run()?;
        let request = String::from_utf8_lossy(&wire.take()).into_owned();
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = derive_accept_key(key.ok_or("no key")?.as_bytes());
        let pieces = self.pieces(&self.head.replace("{accept}", &accept));
        for piece in &pieces {
            wire.write(piece);
            runtime.run()?;
        }
        let event = client.next_event().now_or_never().flatten();
        // The body of another answer may be as long as the stream.
        wire.end();
        runtime.run()?;
        let event = event.or_else(|| client.next_event().now_or_never().flatten());
        let sent = pieces.concat();
        let expected = rules::response(&String::from_utf8_lossy(&sent), &accept);
        let is_right = match (&event, expected) {
            (Some(Event::Joined { .. }), Some((_, true))) => true,
            // Damage may spoil what the judge takes for good, but not the other way round.
            (Some(Event::GaveUp { .. }), _) if !self.damage.is_empty() => true,
            (Some(Event::GaveUp { why, .. }), Some((status, false))) => {
                if let Disconnect::UpgradeRejected(rejection) = why {
                    rejection.status == status
                } else {
                    status == 101
                }
            }
            _ => false,
        };
        if !is_right {
            let sent = sent.escape_ascii();
            return Err(format!("{event:?} after {sent}, expected {expected:?}"));
        }
        drop((client, wire));
        runtime.give_back()
    }
}

/// A field in one of the spellings that mean the same.
fn field(name: &str, value: &str, style: u8) -> String {
    let name = match style & 3 {
        1 => name.to_ascii_lowercase(),
        2 => name.to_ascii_uppercase(),
        _ => name.to_owned(),
    };
    let (before, behind) = match style >> 2 & 3 {
        1 => ("", ""),
        2 => (" \t", " "),
        _ => (" ", ""),
    };
    format!("{name}:{before}{value}{behind}\r\n")
}

fn status(answer: &str) -> Option<u16> {
    let status = answer.strip_prefix("HTTP/1.1 ")?;
    status.get(..3)?.parse().ok()
}

/// The body is as long as the head says; one to HEAD is not there.
fn check_body(answer: &str, is_head: bool) -> Result<(), String> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(format!("no answer but {answer:?}"));
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    match length {
        // A WebSocket has begun.
        None if status(answer) == Some(101) => Ok(()),
        Some(_) if is_head && body.is_empty() => Ok(()),
        Some(length) if !is_head && body.len().to_string() == length => Ok(()),
        _ => Err(format!("the body does not fit: {answer:?}")),
    }
}
