//! Where a relay is: the parts of its URL (RFC 3986, and RFC 6455 section 3).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pinch_proto::client::Identity;

use crate::http::{Authority, is_made_of};

/// What may stand in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a relay's URL cannot be used. No message repeats user info.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not parse.
    #[error("`{url}` is no URL, expected ws://HOST:PORT/ws")]
    Malformed {
        /// The URL, without user info.
        url: String,
    },
    /// Its scheme is not spoken.
    #[error(
        "`{url}` has the scheme `{scheme}`, expected ws, or wss with a `dial_with` that does the TLS"
    )]
    Scheme {
        /// The URL, without user info.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// Its port is no number up to 65,535.
    #[error("`{url}` has the port `{port}`, expected a number up to 65535")]
    Port {
        /// The URL.
        url: String,
        /// Its port.
        port: String,
    },
    /// It has user info: agents are known by their keys, and a password in a URL ends up in logs.
    #[error("`{url}` has user info before its host, expected ws://HOST:PORT/ws")]
    UserInfo {
        /// The URL, without user info.
        url: String,
    },
    /// It has a fragment, which has no meaning for a WebSocket.
    #[error("`{url}` has a fragment, expected `%23` in place of `#`, or nothing from there on")]
    Fragment {
        /// The URL.
        url: String,
    },
}

/// A relay's URL, and what to ask it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Without brackets, in lower case.
    pub(super) host: String,
    pub(super) port: u16,
    /// The `Host` of the upgrade request: without a port that is the default.
    pub(super) authority: String,
    /// The target of the upgrade request: the path and the query.
    pub(super) target: String,
    /// The URL for logs: without the query, which may be secret.
    pub(super) shown: String,
}

impl Url {
    /// Parses `url`, and adds to its query who asks, in open mode, and `announcements` (protocol
    /// section 4). It may be `wss` if somebody else `dials`.
    pub(super) fn parse(
        url: &str,
        identity: &Identity,
        announcements: &[&str],
        dials: bool,
    ) -> Result<Self, UrlError> {
        let shown = without_user_info(url);
        let malformed = || UrlError::Malformed { url: shown.clone() };
        let (scheme, rest) = url.split_once("://").ok_or_else(malformed)?;
        let scheme = scheme.to_ascii_lowercase();
        if !is_scheme(&scheme) {
            return Err(malformed());
        }
        let default_port = match scheme.as_str() {
            "ws" => 80,
            "wss" if dials => 443,
            _ => return Err(UrlError::Scheme { url: shown, scheme }),
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::UserInfo { url: shown });
        }
        if rest.contains('#') {
            return Err(UrlError::Fragment { url: shown });
        }
        let Some(Authority { host, port }) = Authority::parse(authority) else {
            // Where an `@` follows, this port is the beginning of a password with a slash in it.
            let port = authority.rsplit_once(':').filter(|(host, _)| {
                Authority::parse(&format!("{host}:")).is_some() && shown == url
            });
            return Err(match port {
                Some((_, port)) => UrlError::Port {
                    url: shown,
                    port: port.into(),
                },
                None => malformed(),
            });
        };
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let query = query.strip_prefix('?').unwrap_or_default();
        // A host is looked up as it is written.
        if host.contains('%') || !is_made_of(path, b":@/") || !is_made_of(query, b":@/?") {
            return Err(malformed());
        }
        let path = match path {
            "" | "/" => "/ws",
            path => path,
        };
        let address = match identity {
            Identity::Name(address) => Some(format!(
                "address={}",
                utf8_percent_encode(address.as_str(), QUERY)
            )),
            Identity::Key { .. } => None,
        };
        let query: Vec<&str> = Some(query)
            .filter(|query| !query.is_empty())
            .into_iter()
            .chain(address.as_deref())
            .chain(announcements.iter().copied())
            .collect();
        let target = match &query[..] {
            [] => path.to_owned(),
            query => format!("{path}?{}", query.join("&")),
        };
        let port = port.unwrap_or(default_port);
        let authority = if port == default_port {
            host.clone()
        } else {
            format!("{host}:{port}")
        };
        Ok(Self {
            shown: format!("{scheme}://{authority}{path}"),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority,
            target,
        })
    }
}

/// Whether `text` is the scheme of a URL.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// `url` for errors, without whatever may be user info.
fn without_user_info(url: &str) -> String {
    // A password may have any character in it, unless it is one that ends a URL for everybody.
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| scheme);
            let scheme = scheme.filter(|scheme| is_scheme(scheme));
            let scheme = scheme.map(|scheme| format!("{scheme}://"));
            format!("{}…@{after}", scheme.unwrap_or_default())
        }
        None => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use pinch_proto::{Address, Host, SecretKey};

    use super::*;

    fn key() -> Identity {
        Identity::Key {
            secret: SecretKey::from_seed([1; 32]),
            host: Host::parse("r").unwrap(),
        }
    }

    #[test]
    fn a_url_has_a_host_a_port_and_a_target() {
        let cases = [
            ("ws://a.example", "a.example", 80, "a.example", "/ws"),
            ("WS://A.example/", "a.example", 80, "a.example", "/ws"),
            ("Wss://a", "a", 443, "a", "/ws"),
            ("ws://a:/", "a", 80, "a", "/ws"),
            ("ws://a:80/b", "a", 80, "a", "/b"),
            ("ws://a:443", "a", 443, "a:443", "/ws"),
            ("wss://a:80", "a", 80, "a:80", "/ws"),
            ("ws://a:65535", "a", 65_535, "a:65535", "/ws"),
            ("ws://a:0008", "a", 8, "a:8", "/ws"),
            ("ws://a?b=c", "a", 80, "a", "/ws?b=c"),
            ("ws://a/?", "a", 80, "a", "/ws"),
            ("ws://a/ws/", "a", 80, "a", "/ws/"),
            ("ws://a/b@c?d@e?", "a", 80, "a", "/b@c?d@e?"),
            ("ws://a/%c3%A4?%23", "a", 80, "a", "/%c3%A4?%23"),
            ("ws://[::1]:8080/b?c=d", "::1", 8080, "[::1]:8080", "/b?c=d"),
            ("ws://[0:0::1]", "::1", 80, "[::1]", "/ws"),
        ];
        for (text, host, port, authority, target) in cases {
            let url = Url::parse(text, &key(), &[], true).unwrap();
            let found = (&*url.host, url.port, &*url.authority, &*url.target);
            assert_eq!(found, (host, port, authority, target), "{text}");
            assert!(!url.shown.contains('?'), "{}", url.shown);
        }
    }

    #[test]
    fn in_open_mode_the_name_is_in_the_query() {
        let name = Identity::Name(Address::parse("pinch:a&b@r").unwrap());
        for (text, target) in [
            ("ws://localhost:1/ws", "/ws?address=pinch%3Aa%26b%40r"),
            ("ws://localhost:1/ws?", "/ws?address=pinch%3Aa%26b%40r"),
            ("ws://localhost?a=b", "/ws?a=b&address=pinch%3Aa%26b%40r"),
        ] {
            assert_eq!(Url::parse(text, &name, &[], false).unwrap().target, target);
        }
    }

    #[test]
    fn announcements_follow_what_the_url_asks_for() {
        let both = ["dedup=1", "receive=0"];
        for (text, target) in [
            ("ws://a", "/ws?dedup=1&receive=0"),
            ("ws://a/b?dedup=0", "/b?dedup=0&dedup=1&receive=0"),
        ] {
            let url = Url::parse(text, &key(), &both, false).unwrap();
            assert_eq!(url.target, target);
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let malformed = [
            "",
            "localhost",
            "ws:localhost",
            "ws://",
            "/ws",
            "ws://:80/",
            "ws://a b/",
            "ws://a/b c",
            "ws://a/%4",
            "ws://a/?%zz",
            "ws://a/?a|b",
            "ws://ä/",
            "ws://%61/",
            "ws://[::1/",
            "ws://[a]/",
            "ws://::1/",
            "ws://a::1/",
            "ws://a:1:/",
            " ws://a",
            "1ws://a",
        ];
        for url in malformed {
            let error = Url::parse(url, &key(), &[], false).unwrap_err();
            assert_eq!(error, UrlError::Malformed { url: url.into() });
        }
        for port in ["65536", "99999", "080808", "http", "-1", "+1", "4294967376"] {
            let url = format!("ws://a:{port}/ws");
            let error = Url::parse(&url, &key(), &[], false).unwrap_err();
            let port = port.into();
            assert_eq!(error, UrlError::Port { url, port });
        }
        for (url, scheme) in [("wss://r/ws", "wss"), ("HTTP://r", "http")] {
            let error = Url::parse(url, &key(), &[], false).unwrap_err();
            let (url, scheme) = (url.into(), scheme.into());
            assert_eq!(error, UrlError::Scheme { url, scheme });
        }
        let url = "ws://a/ws#b".to_owned();
        let error = Url::parse(&url, &key(), &[], false).unwrap_err();
        assert_eq!(error, UrlError::Fragment { url });
    }

    #[test]
    fn user_info_is_an_error_that_does_not_repeat_it() {
        let cases = [
            "ws://me:secret@a/ws",
            "ws://secret@a:99999/ws?b=c",
            "ws://@a",
            "ws://me:se/cret@a/ws",
            "ws://me:secret/@a/ws",
            "ws://me:secret@a@b",
            "http://me:secret@a/ws",
            "me:secret@a",
            "ws://me:secret@a/ws#b",
            "ws://me:secret@[::1",
            "ws:/secret@a://b@c",
        ];
        for url in cases {
            let error = Url::parse(url, &key(), &[], false).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("cret"), "{url}: {text}");
        }
        let error = Url::parse(cases[0], &key(), &[], false).unwrap_err();
        let url = "ws://…@a/ws".into();
        assert_eq!(error, UrlError::UserInfo { url });
    }
}
