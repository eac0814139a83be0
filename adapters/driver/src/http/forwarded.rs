//! Where a request comes from that trusted proxies have passed on: `X-Forwarded-For`, and `Forwarded`
//! (RFC 7239).
//!
//! Each proxy appends the address that it was connected from. So the list is read from its end, as
//! far as the addresses in it are those of trusted proxies: what stands before the first other
//! address may be forged.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, header};
use pinch_proto::peers::{IpNet, contains};

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Why it is not known where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardedError {
    #[error("{0}: expected a list of IP addresses")]
    Malformed(&'static str),
    #[error("Forwarded and X-Forwarded-For name different addresses")]
    Contradiction,
}

/// The address that a request comes from, which `peer` sent: the last one that is not of a `trusted`
/// proxy.
///
/// With both fields, they must say the same: a proxy that sets one may pass on what a client has
/// written into the other.
pub(crate) fn source(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: &[IpNet],
) -> Result<IpAddr, ForwardedError> {
    if !contains(trusted, peer) {
        return Ok(peer);
    }
    let by_list = last_untrusted(x_forwarded_for(headers).into_iter(), trusted)?;
    let by_standard = last_untrusted(forwarded(headers)?.into_iter(), trusted)?;
    match (by_list, by_standard) {
        (Some(one), Some(other)) if one != other => Err(ForwardedError::Contradiction),
        (one, other) => Ok(one.or(other).unwrap_or(peer)),
    }
}

type Hop = Result<IpAddr, ForwardedError>;

/// The last of `hops` that is not trusted, or the first if all are; what stands before is not looked
/// at.
fn last_untrusted(
    hops: impl DoubleEndedIterator<Item = Hop>,
    trusted: &[IpNet],
) -> Result<Option<IpAddr>, ForwardedError> {
    let mut last = None;
    for hop in hops.rev() {
        let ip = hop?;
        last = Some(ip);
        if !contains(trusted, ip) {
            break;
        }
    }
    Ok(last)
}

fn x_forwarded_for(headers: &HeaderMap) -> Vec<Hop> {
    let malformed = ForwardedError::Malformed("X-Forwarded-For");
    let lines = headers.get_all(X_FORWARDED_FOR).iter();
    let items = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let items = items.map(|item| core::str::from_utf8(item).unwrap_or("?").trim());
    // Empty items of a list are ignored (RFC 9110 section 5.6.1).
    let items = items.filter(|item| !item.is_empty());
    items.map(|item| node(item).ok_or(malformed)).collect()
}

fn forwarded(headers: &HeaderMap) -> Result<Vec<Hop>, ForwardedError> {
    let malformed = ForwardedError::Malformed("Forwarded");
    let mut hops = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        let line = line.to_str().map_err(|_| malformed)?;
        for element in split(line, ',').ok_or(malformed)? {
            if element.is_empty() {
                continue;
            }
            let mut by = None;
            for pair in split(element, ';').ok_or(malformed)? {
                let (name, value) = pair.split_once('=').ok_or(malformed)?;
                if name.trim().eq_ignore_ascii_case("for") {
                    by = Some(unquote(value.trim()).ok_or(malformed)?);
                }
            }
            hops.push(by.as_deref().and_then(node).ok_or(malformed));
        }
    }
    Ok(hops)
}

/// The parts of `text` between `separator`s that stand outside of quoted strings, without the blanks
/// around them; `None` if a quoted string does not end, or stands in the middle of a value.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped, mut has_ended) = (false, false, false);
    let mut before = separator;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' if is_quoted => (is_quoted, has_ended) = (false, true),
            _ if is_quoted => {}
            '"' if before == '=' => is_quoted = true,
            '"' => return None,
            ',' | ';' | ' ' | '\t' => {
                has_ended &= matches!(character, ' ' | '\t');
                if character == separator {
                    parts.push(text.get(start..at)?.trim());
                    start = at + 1;
                }
            }
            _ if has_ended => return None,
            _ => {}
        }
        before = character;
    }
    if is_quoted {
        return None;
    }
    parts.push(text.get(start..)?.trim());
    Some(parts)
}

/// A token, or what a quoted string says.
fn unquote(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let quoted = quoted.strip_suffix('"')?;
    let mut said = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        said.push(match character {
            '\\' => characters.next()?,
            character => character,
        });
    }
    Some(said)
}

/// An IP address, with or without a port, and IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || -> Option<IpAddr> {
        let ip: Ipv6Addr = text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
        Some(ip.into())
    };
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    let ip = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const LIST: ForwardedError = ForwardedError::Malformed("X-Forwarded-For");
    const STANDARD: ForwardedError = ForwardedError::Malformed("Forwarded");

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// What is found if 10.0.0.1, a trusted proxy in 10.0.0.0/8, passes `lines` on.
    fn found(lines: &[(&'static str, &'static str)]) -> Result<IpAddr, ForwardedError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let unchanged = source(&headers, ip("192.0.2.1"), &trusted);
        assert_eq!(unchanged, Ok(ip("192.0.2.1")), "a stranger is not believed");
        source(&headers, ip("10.0.0.1"), &trusted)
    }

    #[test]
    fn the_last_address_counts_that_is_not_of_a_trusted_proxy() {
        let cases = [
            ("203.0.113.5", Ok("203.0.113.5")),
            ("1.2.3.4, 203.0.113.5", Ok("203.0.113.5")),
            ("1.2.3.4,203.0.113.5, 10.9.9.9 ,10.0.0.2", Ok("203.0.113.5")),
            // What a client has written, and then a proxy what it knows.
            ("unknown, \u{20}, 203.0.113.5", Ok("203.0.113.5")),
            ("203.0.113.5:4711", Ok("203.0.113.5")),
            ("2001:db8::1", Ok("2001:db8::1")),
            ("[2001:db8::1]", Ok("2001:db8::1")),
            ("[2001:db8::1]:80", Ok("2001:db8::1")),
            ("::ffff:203.0.113.5", Ok("203.0.113.5")),
            ("10.0.0.3, 10.0.0.2", Ok("10.0.0.3")),
            ("", Ok("10.0.0.1")),
            (",", Ok("10.0.0.1")),
            ("unknown", Err(LIST)),
            ("203.0.113.5, unknown", Err(LIST)),
            ("203.0.113.5 10.0.0.2", Err(LIST)),
            ("203.0.113.256", Err(LIST)),
        ];
        for (value, expected) in cases {
            let found = found(&[("x-forwarded-for", value)]);
            assert_eq!(found, expected.map(ip), "{value}");
        }
        let lines = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "203.0.113.5"),
        ];
        assert_eq!(found(&lines), Ok(ip("203.0.113.5")), "lines are one list");
        assert_eq!(found(&[]), Ok(ip("10.0.0.1")));
    }

    #[test]
    fn the_standard_field_is_read_too() {
        let cases = [
            ("for=203.0.113.5", Ok("203.0.113.5")),
            (
                "For=1.2.3.4, FOR=203.0.113.5;proto=https;by=10.0.0.2",
                Ok("203.0.113.5"),
            ),
            (
                "proto=https; for=\"[2001:db8::1]:4711\" , for=10.1.1.1",
                Ok("2001:db8::1"),
            ),
            ("host=\"a, b; c\\\"\";for=203.0.113.5", Ok("203.0.113.5")),
            ("for=\"203.0.113.\\5\"", Ok("203.0.113.5")),
            ("for=unknown", Err(STANDARD)),
            ("for=_hidden", Err(STANDARD)),
            ("proto=https", Err(STANDARD)),
            ("for", Err(STANDARD)),
            // A quote that a client has left open swallows nothing that a proxy appends.
            ("for=1.2.3.4;x=\", for=203.0.113.5", Err(STANDARD)),
            ("for=1.2.3.4;x=\", for=\"[2001:db8::1]\"", Err(STANDARD)),
            ("for=1.2.3.4;x=\"y\"z, for=203.0.113.5", Err(STANDARD)),
            ("for=1.2.3.4;x=y\", for=203.0.113.5", Err(STANDARD)),
        ];
        for (value, expected) in cases {
            let found = found(&[("forwarded", value)]);
            assert_eq!(found, expected.map(ip), "{value}");
        }
    }

    #[test]
    fn two_fields_must_say_the_same() {
        let both = |standard| found(&[("x-forwarded-for", "203.0.113.5"), ("forwarded", standard)]);
        assert_eq!(both("for=203.0.113.5"), Ok(ip("203.0.113.5")));
        assert_eq!(both("for=1.2.3.4"), Err(ForwardedError::Contradiction));
        assert_eq!(both("for=nonsense"), Err(STANDARD));
    }
}
