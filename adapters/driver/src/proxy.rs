//! The PROXY protocol, version 2: how a proxy that passes bytes on says where a connection comes from.
//!
//! The header is a pure function of bytes, of bounded length. Its text form (version 1) is not read.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;

/// The longest header, in bytes: addresses, and more of what a proxy may add (TLVs) than any does.
const MAX: usize = 4096;

/// Why the beginning of a connection is no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("expected a PROXY protocol header of version 2")]
    Signature,
    #[error("unknown command in the PROXY protocol header: expected LOCAL or PROXY")]
    Command,
    #[error("PROXY protocol header too long: at most {MAX} bytes")]
    TooLong,
    #[error("PROXY protocol header too short for its addresses")]
    TooShort,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Where the connection comes from; `None` if it is the proxy's own, or not over TCP.
    pub(crate) source: Option<IpAddr>,
    /// Its length, in bytes.
    pub(crate) length: usize,
}

/// Parses the header at the beginning of `bytes`; `None` if its end has not come.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let begins = SIGNATURE.iter().zip(bytes).all(|(a, b)| a == b);
    if !begins {
        return Err(ProxyError::Signature);
    }
    let Some((&[.., command, family, high, low], rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        0x22..=0x2f => return Err(ProxyError::Command),
        _ => return Err(ProxyError::Signature),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(None);
    };
    let source = match family {
        _ if is_local => None,
        0x11 => Some(v4(rest).ok_or(ProxyError::TooShort)?),
        0x21 => Some(v6(rest).ok_or(ProxyError::TooShort)?),
        // Unspecified, a Unix socket, or datagrams: the specification has them ignored.
        _ => None,
    };
    Ok(Some(Header {
        source,
        length: FIXED + length,
    }))
}

/// The source address comes first, then the destination's, then both ports.
fn v4(rest: &[u8]) -> Option<IpAddr> {
    let (addresses, _) = rest.split_first_chunk::<12>()?;
    let (ip, _) = addresses.split_first_chunk::<4>()?;
    Some(Ipv4Addr::from(*ip).into())
}

fn v6(rest: &[u8]) -> Option<IpAddr> {
    let (addresses, _) = rest.split_first_chunk::<36>()?;
    let (ip, _) = addresses.split_first_chunk::<16>()?;
    Some(IpAddr::from(Ipv6Addr::from(*ip)).to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family, high, low], rest].concat()
    }

    /// From 192.0.2.7:4660 to 198.51.100.1:443.
    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 1, 187];

    fn v6_addresses() -> Vec<u8> {
        let from = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        [&from[..], &[0; 16], &[0x12, 0x34, 1, 187]].concat()
    }

    #[test]
    fn the_source_is_read_and_what_follows_it_is_skipped() {
        let tlv = [3, 0, 4, 1, 2, 3, 4];
        let from = Some("192.0.2.7".parse().unwrap());
        let cases = [
            (header(0x21, 0x11, &V4), from),
            (header(0x21, 0x11, &[&V4[..], &tlv].concat()), from),
            (
                header(0x21, 0x21, &v6_addresses()),
                Some("2001:db8::7".parse().unwrap()),
            ),
            // A health check of the proxy itself, whatever it says of addresses.
            (header(0x20, 0x11, &V4), None),
            (header(0x20, 0, &[]), None),
            (header(0x21, 0, &tlv), None),
            (header(0x21, 0x12, &V4), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ];
        for (bytes, source) in cases {
            let length = bytes.len();
            let expected = Ok(Some(Header { source, length }));
            assert_eq!(parse(&bytes), expected, "{bytes:x?}");
            assert_eq!(parse(&[&bytes[..], b"GET / "].concat()), expected);
            for end in 0..length {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} of {bytes:x?}");
            }
        }
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_one_is_an_ipv4_address() {
        let from = "::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets();
        let rest = [&from[..], &[0; 16], &[0, 1, 0, 2]].concat();
        let parsed = parse(&header(0x21, 0x21, &rest)).unwrap().unwrap();
        assert_eq!(parsed.source, Some("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn anything_else_is_an_error_as_soon_as_it_shows() {
        let cases = [
            (b"G".to_vec(), ProxyError::Signature),
            (b"PROXY TCP4 1.2.3.4".to_vec(), ProxyError::Signature),
            (b"\r\n\r\nG".to_vec(), ProxyError::Signature),
            (header(0x11, 0x11, &V4), ProxyError::Signature),
            (header(0x31, 0x11, &V4), ProxyError::Signature),
            (header(0x22, 0x11, &V4), ProxyError::Command),
            (header(0x21, 0x11, &V4[..11]), ProxyError::TooShort),
            (header(0x21, 0x21, &[0; 35]), ProxyError::TooShort),
            (
                header(0x21, 0x11, &[0; 4081])[..16].to_vec(),
                ProxyError::TooLong,
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse(&bytes), Err(error), "{bytes:x?}");
        }
        assert!(parse(&header(0x21, 0x11, &[0; 4080])).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_behind_the_signature_give_a_bounded_header(rest in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&SIGNATURE[..], &rest].concat();
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!((FIXED..=bytes.len()).contains(&header.length));
            }
        }
    }
}
