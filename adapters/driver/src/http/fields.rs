//! Parts of HTTP fields that requests and responses share: lists (RFC 9110 section 5.6.1) and
//! authorities (RFC 3986 section 3.2).

use core::net::Ipv6Addr;

use http::{HeaderMap, HeaderName};

/// Whether the list of tokens in the fields called `name`, which may span several lines, has
/// `token` in any letter case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// The items of the list in the fields called `name`, which may span several lines. Empty ones do
/// not count.
pub(crate) fn items<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let lines = headers.get_all(name).into_iter();
    let items = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    items.map(trim).filter(|item| !item.is_empty())
}

/// `value` without the blanks around it.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A host and a port, without user info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// In lower case; an IPv6 address in its canonical form, between brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Parses `host [":" port]`. The host is not empty; the port may be, which means none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(literal) => {
                let (address, rest) = literal.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (format!("[{address}]"), rest)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                if host.is_empty() || !is_made_of(host, b"") {
                    return None;
                }
                (host.to_ascii_lowercase(), port)
            }
        };
        let port = match port {
            "" | ":" => None,
            port => {
                let digits = port.strip_prefix(':')?;
                // What `parse` takes besides digits is a sign.
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                Some(digits.parse().ok().filter(|_| is_number)?)
            }
        };
        Some(Self { host, port })
    }
}

/// Whether `text` has only unreserved characters, delimiters within a part, percent-encoded bytes
/// and `others`: those of a name, a path or a query (RFC 3986 section 3).
pub(crate) fn is_made_of(text: &str, others: &[u8]) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_part = match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            byte => {
                byte.is_ascii_alphanumeric()
                    || b"-._~!$&'()*+,;=".contains(&byte)
                    || others.contains(&byte)
            }
        };
        if !is_part {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn a_list_spans_lines_and_has_blanks_and_empty_items() {
        let cases: [(&[&str], bool); 10] = [
            (&["Upgrade"], true),
            (&["keep-alive, upgrade"], true),
            (&["keep-alive", "UPGRADE"], true),
            (&[",, \t upgrade\t,"], true),
            (&["keep-alive,upgrade,close"], true),
            (&[], false),
            (&[""], false),
            (&["up grade"], false),
            (&["upgrades", "upgrad"], false),
            (&["\"upgrade\""], false),
        ];
        for (lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONNECTION, HeaderValue::from_static(line));
            }
            let found = has_token(&headers, &header::CONNECTION, "Upgrade");
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn an_authority_has_a_host_and_may_have_a_port() {
        let cases = [
            ("Relay.Example.com", Some(("relay.example.com", None))),
            ("a:8080", Some(("a", Some(8080)))),
            ("a:", Some(("a", None))),
            ("a:0", Some(("a", Some(0)))),
            ("a:65535", Some(("a", Some(65_535)))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("[::1]", Some(("[::1]", None))),
            ("[0:0:0:0:0:0:0:1]:80", Some(("[::1]", Some(80)))),
            ("%61-_~", Some(("%61-_~", None))),
            ("", None),
            (":80", None),
            ("a:65536", None),
            ("a:80a", None),
            ("a:+1", None),
            ("a:-1", None),
            ("a:1:2", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[a]", None),
            ("user@a", None),
            ("a b", None),
            ("a/b", None),
            ("a%4", None),
            ("ä", None),
        ];
        for (text, expected) in cases {
            let found = Authority::parse(text);
            let found = found
                .as_ref()
                .map(|found| (found.host.as_str(), found.port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
