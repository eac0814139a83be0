//! Where a relay is: the parts of its URL.

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pinch_proto::client::Identity;

/// What may stand in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a relay's URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not parse.
    #[error("`{url}` is no URL, expected ws://HOST:PORT/ws")]
    Malformed {
        /// The URL.
        url: String,
    },
    /// Its scheme is not spoken.
    #[error(
        "`{url}` has the scheme `{scheme}`, expected ws, or wss with a `dial_with` that does the TLS"
    )]
    Scheme {
        /// The URL.
        url: String,
        /// Its scheme.
        scheme: String,
    },
}

/// A relay's URL, and what to ask it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The whole URL of the upgrade.
    pub(super) request: String,
}

impl Url {
    /// Parses `url`; in open mode, adds who asks. It may be `wss` if somebody else `dials`.
    pub(super) fn parse(url: &str, identity: &Identity, dials: bool) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed { url: url.into() };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let scheme = uri.scheme_str().ok_or_else(malformed)?;
        if scheme != "ws" && !(dials && scheme == "wss") {
            return Err(UrlError::Scheme {
                url: url.into(),
                scheme: scheme.into(),
            });
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(malformed());
        }
        let path = match uri.path() {
            "" | "/" => "/ws",
            path => path,
        };
        let mut request = format!("ws://{authority}{path}");
        let address = match identity {
            Identity::Name(address) => Some(format!(
                "address={}",
                utf8_percent_encode(address.as_str(), QUERY)
            )),
            Identity::Key { .. } => None,
        };
        let query: Vec<&str> = uri.query().into_iter().chain(address.as_deref()).collect();
        if !query.is_empty() {
            request = format!("{request}?{}", query.join("&"));
        }
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(80),
            request,
        })
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
    fn port_and_path_have_defaults() {
        let url = Url::parse("ws://relay.example.com", &key(), false).unwrap();
        assert_eq!((url.host.as_str(), url.port), ("relay.example.com", 80));
        assert_eq!(url.request, "ws://relay.example.com/ws");
        let url = Url::parse("ws://[::1]:8080/relay?a=b", &key(), false).unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 8080));
        assert_eq!(url.request, "ws://[::1]:8080/relay?a=b");
    }

    #[test]
    fn in_open_mode_the_name_is_in_the_query() {
        let name = Identity::Name(Address::parse("pinch:a&b@r").unwrap());
        let url = Url::parse("ws://localhost:1/ws", &name, false).unwrap();
        assert_eq!(url.request, "ws://localhost:1/ws?address=pinch%3Aa%26b%40r");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for url in ["", "localhost", "ws://", "/ws", "ws://:80/"] {
            assert_eq!(
                Url::parse(url, &key(), false),
                Err(UrlError::Malformed { url: url.into() }),
                "{url}"
            );
        }
        let error = Url::parse("wss://r/ws", &key(), false).unwrap_err();
        assert_eq!(
            error,
            UrlError::Scheme {
                url: "wss://r/ws".into(),
                scheme: "wss".into()
            }
        );
    }
}
