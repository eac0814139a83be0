//! URLs of a relay: what a client asks for is what RFC 3986 and RFC 6455 say that its URL means.
//!
//! An input is a URL of parts that are good and bad, and perhaps damage. The judge cuts it into lists
//! of characters, and looks at the request that the client writes. No error repeats user info.

use core::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arbitrary::{Result as Read, Unstructured};
use pinch_driver::{Client, ConnectError, UrlError};
use pinch_proto::client::{Config, Duplicates, Identity};
use pinch_proto::{Host, SecretKey};

use super::damage::Damage;
use super::driver_bytes::executor::Virtual;
use super::driver_bytes::socket::socket;
use super::lines;

/// What must not be repeated.
const SECRET: &str = "s3cret";

const SCHEMES: &[&str] = &[
    "ws://", "ws://", "WSS://", "Ws://", "http://", "ws:", "", "1ws://",
];
const USERS: &[&str] = &["", "", "", "", "me:s3cret@", "s3cret@", "s3/cret@", "@"];
const HOSTS: &[&str] = &[
    "relay.example.com",
    "LocalHost",
    "127.0.0.1",
    "[::1]",
    "[0:0::0:1]",
    "[::1",
    "::1",
    "",
    "a b",
    "a%62",
    "a_b~!",
];
const PORTS: &[&str] = &[
    "",
    "",
    ":",
    ":80",
    ":443",
    ":8080",
    ":0080",
    ":65535",
    ":65536",
    ":99999999999",
    ":x",
    ":-1",
];
const PATHS: &[&str] = &[
    "", "/", "/ws", "/a/b@c:d", "/%41%zz", "/%C3%A4", "/a b", "/a|b", "//",
];
const QUERIES: &[&str] = &["", "", "?", "?a=b", "?a?/@:b=%20", "?a b", "?{}", "?%4"];
const FRAGMENTS: &[&str] = &["", "", "", "#", "#a"];

/// Dials a URL.
///
/// # Panics
/// If a promise about URLs is broken.
pub fn run(data: &[u8]) {
    let url = Script::read(data).url();
    if let Err(broken) = check(&url) {
        panic!("{broken}\n{}", story(data));
    }
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let script = Script::read(data);
    lines([format!("{:?}", script.text)]) + &lines(&script.damage) + &lines([script.url()])
}

struct Script {
    text: String,
    damage: Vec<Damage>,
}

impl Script {
    fn read(data: &[u8]) -> Self {
        let mut input = Unstructured::new(data);
        let damage = Damage::several(&mut input);
        let parts = [SCHEMES, USERS, HOSTS, PORTS, PATHS, QUERIES, FRAGMENTS];
        let parts = parts.map(|part| input.choose(part).copied());
        let text = parts.into_iter().collect::<Read<String>>();
        Self {
            text: text.unwrap_or_default(),
            damage,
        }
    }

    fn url(&self) -> String {
        let bytes = self.text.clone().into_bytes();
        let damaged = self
            .damage
            .iter()
            .fold(bytes, |bytes, damage| damage.applied(bytes));
        String::from_utf8_lossy(&damaged).into_owned()
    }
}

/// What a client makes of `url`: the first lines of its request, or the kind of its error.
fn dialed(url: &str) -> Result<String, &'static str> {
    let runtime = Virtual::default();
    let identity = Identity::Key {
        secret: SecretKey::from_seed([1; SecretKey::SEED_LEN]),
        host: Host::parse("relay").map_err(|_| "host")?,
    };
    let (end, wire) = socket(usize::MAX);
    let end = Arc::new(Mutex::new(Some(end)));
    let dial = move || {
        let end = end.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { end.ok_or(io::ErrorKind::ConnectionRefused.into()) }
    };
    let client = Client::builder_on(runtime.clone(), url, identity)
        // Without duplicates to drop, it announces nothing in its query.
        .config(
            Config::new()
                .max_tries(Some(1))
                .duplicates(Duplicates::Deliver),
        )
        .dial_with(dial)
        .start();
    match client {
        Ok(client) => {
            runtime.run().map_err(|_| "busy")?;
            let request = String::from_utf8_lossy(&wire.take()).into_owned();
            drop(client);
            runtime.give_back().map_err(|_| "left behind")?;
            Ok(request.lines().take(2).collect::<Vec<_>>().join("\n"))
        }
        Err(ConnectError::Url(error)) => {
            let shown = format!("{error} {error:?}");
            if shown.contains(SECRET) && is_in_user_info(url) {
                return Err("secret");
            }
            Err(match error {
                UrlError::Scheme { .. } => "scheme",
                UrlError::Port { .. } => "port",
                UrlError::UserInfo { .. } => "user info",
                UrlError::Fragment { .. } => "fragment",
                UrlError::Malformed { .. } | _ => "malformed",
            })
        }
        Err(_) => Err("something else"),
    }
}

/// Whether the secret stands before an `@` that is not in the query, and only there.
fn is_in_user_info(url: &str) -> bool {
    let (before_query, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    let (before, behind) = before_query.rsplit_once('@').unwrap_or(("", before_query));
    before.contains(SECRET) && ![behind, query].iter().any(|part| part.contains(SECRET))
}

fn check(url: &str) -> Result<(), String> {
    let (found, expected) = (dialed(url), meant(url));
    if found == expected {
        Ok(())
    } else {
        Err(format!("{url:?} leads to {found:?}, not {expected:?}"))
    }
}

/// What `url` means.
fn meant(url: &str) -> Result<String, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("malformed")?;
    let scheme = scheme.to_lowercase();
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && all(&scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.");
    let default: u32 = match scheme.as_str() {
        "ws" => 80,
        "wss" => 443,
        _ if is_scheme => return Err("scheme"),
        _ => return Err("malformed"),
    };
    let authority: String = rest
        .chars()
        .take_while(|char| !"/?#".contains(*char))
        .collect();
    let rest = rest.strip_prefix(authority.as_str()).unwrap_or_default();
    if authority.contains('@') {
        return Err("user info");
    }
    if rest.contains('#') {
        return Err("fragment");
    }
    // The port stands behind the last colon, or behind the brackets of an IPv6 address.
    let colon = match authority.find(']') {
        Some(bracket) if authority.starts_with('[') => Some(bracket + 1),
        _ => authority.rfind(':'),
    };
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let port = match port.strip_prefix(':') {
        Some(port) => port,
        None if port.is_empty() => "",
        None => return Err("malformed"),
    };
    let host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => {
            let address: core::net::Ipv6Addr = address.parse().map_err(|_| "malformed")?;
            format!("[{address}]")
        }
        None if !host.is_empty() && is_made_of(host, "") => host.to_ascii_lowercase(),
        None => return Err("malformed"),
    };
    let port = match port {
        "" => default,
        port if all(port, "0123456789") => port.parse().unwrap_or(u32::MAX),
        _ => u32::MAX,
    };
    if port > 65_535 {
        // It may be the beginning of a password.
        let before_query = url.split('?').next().unwrap_or_default();
        let is_shown = !before_query.contains('@');
        return Err(if is_shown { "port" } else { "malformed" });
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if host.contains('%') || !is_made_of(path, ":@/") || !is_made_of(query, ":@/?") {
        return Err("malformed");
    }
    let path = if matches!(path, "" | "/") {
        "/ws"
    } else {
        path
    };
    let mut request = format!("GET {path}");
    if !query.is_empty() {
        let _ = write!(request, "?{query}");
    }
    let _ = write!(request, " HTTP/1.1\nHost: {host}");
    if port != default {
        let _ = write!(request, ":{port}");
    }
    Ok(request)
}

fn all(text: &str, allowed: &str) -> bool {
    text.chars().all(|char| allowed.contains(char))
}

/// Whether `text` has only what RFC 3986 lets stand everywhere, what `others` lists, and bytes in hex.
fn is_made_of(text: &str, others: &str) -> bool {
    let mut parts = text.split('%');
    let is_plain = |part: &str| {
        part.chars().all(|char| {
            char.is_ascii_alphanumeric()
                || "-._~!$&'()*+,;=".contains(char)
                || others.contains(char)
        })
    };
    parts.next().is_none_or(is_plain)
        && parts.all(|part| {
            let mut chars = part.chars();
            let is_hex = (0..2).all(|_| chars.next().is_some_and(|char| char.is_ascii_hexdigit()));
            is_hex && is_plain(chars.as_str())
        })
}
