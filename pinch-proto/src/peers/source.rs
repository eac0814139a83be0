//! What counts as one source address.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The unit that limits hold for: an IPv4 address, an IPv6 /64, or no address at all.
///
/// ```
/// use pinch_proto::peers::Source;
///
/// let source = |ip: &str| Source::of(ip.parse().ok()).to_string();
/// assert_eq!(source("192.0.2.7"), "192.0.2.7");
/// assert_eq!(source("::ffff:192.0.2.7"), "192.0.2.7");
/// assert_eq!(source("64:ff9b::192.0.2.7"), "192.0.2.7");
/// assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(Inner);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Inner {
    Unknown,
    V4(u32),
    /// The upper half of the address.
    V6(u64),
}

/// The well-known prefix of NAT64 (RFC 6052), behind which an IPv4 address follows.
const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

impl Source {
    /// The source that `ip` belongs to.
    #[must_use]
    pub fn of(ip: Option<IpAddr>) -> Self {
        Self(match ip.map(|ip| ip.to_canonical()) {
            None => Inner::Unknown,
            Some(IpAddr::V4(ip)) => Inner::V4(ip.to_bits()),
            Some(IpAddr::V6(ip)) => match ip.octets() {
                [prefix @ .., a, b, c, d] if prefix == NAT64 => {
                    Inner::V4(u32::from_be_bytes([a, b, c, d]))
                }
                [a, b, c, d, e, f, g, h, ..] => {
                    Inner::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
                }
            },
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Inner::Unknown => f.write_str("unknown"),
            Inner::V4(ip) => Ipv4Addr::from_bits(ip).fmt(f),
            Inner::V6(prefix) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(prefix) << 64))
            }
        }
    }
}
