//! Which origins may connect (protocol section 6).

use pinch_proto::Host;

use super::fields::Authority;

/// The `Origin` headers with which an agent may connect.
///
/// Browsers send the origin of the page, and some libraries for native programs (React Native,
/// Python's websocket-client) that of the relay itself. A request without the header is always
/// allowed. So is one whose origin is the request's own `Host`, if that host is the relay's public
/// host or the host of an origin in the list: a host that the operator has not named proves nothing,
/// since any name may resolve to the relay (DNS rebinding).
///
/// Scheme and host are compared in lower case, and a default port equals none. `Origin: null` is
/// allowed only by [`Any`](Self::Any).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// No others.
    #[default]
    None,
    /// These too, such as `https://app.example.com`. An item `*` is every origin.
    List(Vec<String>),
    /// Every origin.
    Any,
}

impl AllowedOrigins {
    /// Whether a request with this `Origin`, sent to `authority`, may connect to the relay whose
    /// public host is `public`.
    pub(super) fn allow(
        &self,
        origin: &[u8],
        authority: Option<&Authority>,
        public: &Host,
    ) -> bool {
        let list: &[String] = match self {
            Self::None => &[],
            Self::List(list) => list,
            Self::Any => return true,
        };
        if list.iter().any(|item| item == "*") {
            return true;
        }
        let origin = core::str::from_utf8(origin).ok().and_then(Origin::parse);
        let Some(origin) = origin else {
            return false;
        };
        let listed = || {
            list.iter()
                .filter_map(|item| Origin::parse(item.strip_suffix('/').unwrap_or(item)))
        };
        let is_named = || {
            let public = Authority::parse(public.as_str());
            public.is_some_and(|public| public.host == origin.host)
                || listed().any(|named| named.host == origin.host)
        };
        listed().any(|listed| listed == origin)
            || (authority.is_some_and(|authority| origin.is_at(authority)) && is_named())
    }
}

/// A scheme, a host and a port.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    /// The default port of the scheme, if none is given.
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let Authority { host, port } = Authority::parse(authority)?;
        let port = port.or_else(|| default_port(&scheme));
        Some(Self { scheme, host, port })
    }

    fn is_at(&self, authority: &Authority) -> bool {
        let port = authority.port.or_else(|| default_port(&self.scheme));
        self.host == authority.host && self.port == port
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "relay.example.com";

    fn list(items: &[&str]) -> AllowedOrigins {
        AllowedOrigins::List(items.iter().map(|&item| item.into()).collect())
    }

    fn allows(allowed: &AllowedOrigins, origin: &str, host: &str) -> bool {
        let authority = Authority::parse(host);
        let public = Host::parse(PUBLIC).unwrap();
        allowed.allow(origin.as_bytes(), authority.as_ref(), &public)
    }

    #[test]
    fn an_origin_equals_a_listed_one_whatever_its_case_and_default_port() {
        let allowed = list(&[
            "https://App.Example.com",
            "http://b.example:8080",
            "http://c.example:80/",
            "https://[0:0:0:0:0:0:0:1]",
            "tauri://localhost",
            "no origin",
            "null",
        ]);
        let cases = [
            ("https://app.example.com", true),
            ("HTTPS://APP.example.COM:443", true),
            ("https://app.example.com:", true),
            ("http://app.example.com", false),
            ("http://app.example.com:443", false),
            ("https://app.example.com:444", false),
            ("https://app.example.com.evil.example", false),
            ("https://app.example.co", false),
            ("https://evil.example/https://app.example.com", false),
            ("https://me@app.example.com", false),
            ("https://app.example.com/", false),
            ("https://app.example.com https://app.example.com", false),
            ("http://b.example:8080", true),
            ("http://b.example", false),
            ("http://c.example", true),
            ("https://[::1]:443", true),
            ("tauri://localhost", true),
            ("tauri://localhost:80", false),
            ("no origin", false),
            ("null", false),
            ("", false),
            ("*", false),
        ];
        for (origin, expected) in cases {
            assert_eq!(allows(&allowed, origin, "127.0.0.1"), expected, "{origin}");
            assert!(!allows(&AllowedOrigins::None, origin, "127.0.0.1"));
            for any in [AllowedOrigins::Any, list(&["https://d.example", "*"])] {
                assert!(allows(&any, origin, "127.0.0.1"), "{origin}");
            }
        }
    }

    #[test]
    fn the_relays_own_host_is_allowed_if_the_operator_named_it() {
        let listed = list(&["https://second.example"]);
        let cases = [
            ("https://relay.example.com", "relay.example.com", true),
            ("https://Relay.example.com", "RELAY.example.com:443", true),
            (
                "http://relay.example.com:8080",
                "relay.example.com:8080",
                true,
            ),
            ("http://relay.example.com", "relay.example.com:80", true),
            ("https://relay.example.com:8443", "relay.example.com", false),
            ("https://relay.example.com", "relay.example.com:8443", false),
            // As a proxy writes it that does not pass the host on.
            ("https://relay.example.com", "127.0.0.1:8080", false),
            // Any name may resolve to the relay.
            ("http://evil.example:8080", "evil.example:8080", false),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", false),
            (
                "https://relay.example.com.evil.example",
                "relay.example.com",
                false,
            ),
            ("null", "null", false),
        ];
        for (origin, host, expected) in cases {
            for allowed in [&AllowedOrigins::None, &listed] {
                assert_eq!(allows(allowed, origin, host), expected, "{origin} {host}");
            }
        }
        let (origin, host) = ("http://second.example:8080", "second.example:8080");
        assert!(allows(&listed, origin, host));
        assert!(!allows(&listed, origin, "second.example"));
        assert!(!allows(&AllowedOrigins::None, origin, host));
    }
}
