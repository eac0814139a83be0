//! The settings of [`Peers`](super::Peers), each with the reason for its default.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::hub::{ConfigError, RateLimit};

/// How much one source address may use of a relay, and all of them before they have joined.
///
/// An IPv6 address counts as its /64, since a subscriber has all of that; an IPv4 address in an IPv6
/// one (IPv4-mapped, or behind NAT64) counts as itself.
///
/// ```
/// use pinch_proto::peers::Limits;
///
/// let limits = Limits::new().connections(100).exempt(vec!["10.0.0.0/8".parse()?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub(super) total_pending: usize,
    pub(super) pending: usize,
    pub(super) connections: usize,
    pub(super) join_rate: Option<RateLimit>,
    pub(super) exempt: Vec<IpNet>,
    pub(super) retained_sources: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// The defaults, for a relay on the internet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            total_pending: 4096,
            pending: 1024,
            connections: 1024,
            join_rate: Some(RateLimit::JOINS),
            exempt: loopback(),
            retained_sources: 1 << 16,
        }
    }

    /// Maximum number of pending handshakes of all addresses together. Default: 4096, whose requests
    /// of up to 8 KiB take 32 MiB at worst. At the limit, a newcomer replaces the handshake without
    /// progress for longest of the address that has most.
    #[must_use]
    pub fn total_pending(mut self, limit: usize) -> Self {
        self.total_pending = limit;
        self
    }

    /// Maximum number of pending handshakes of one address. Default: 1024: a thousand agents behind
    /// one NAT, whose handshakes take half a second on a mobile network, may all come back within
    /// that. At the limit, a newcomer replaces the one of the same address that is without progress
    /// for longest.
    #[must_use]
    pub fn pending(mut self, limit: usize) -> Self {
        self.pending = limit;
        self
    }

    /// Maximum number of connections of one address that have joined, or have been upgraded and are
    /// joining. Default: 1024, an office or a carrier's NAT with a thousand agents.
    #[must_use]
    pub fn connections(mut self, limit: usize) -> Self {
        self.connections = limit;
        self
    }

    /// How many connections of one address may be upgraded per second, and at once; `None` for no
    /// limit. Default: 20 per second and 1024 at once, so that all [`connections`](Self::connections)
    /// of an address may come back together after an outage, and then some programs that join for
    /// every message.
    #[must_use]
    pub fn join_rate(mut self, limit: Option<RateLimit>) -> Self {
        self.join_rate = limit;
        self
    }

    /// Networks whose addresses have no limit of their own, such as those of proxies. Replaces the
    /// default: loopback, where local programs and a reverse proxy on the same machine come from. A
    /// connection without an address (a pipe, a Unix socket) is always exempt. The
    /// [total](Self::total_pending) counts for all.
    #[must_use]
    pub fn exempt(mut self, networks: Vec<IpNet>) -> Self {
        self.exempt = networks;
        self
    }

    /// Adds `networks` to those that are [exempt](Self::exempt).
    #[must_use]
    pub fn also_exempt(mut self, networks: &[IpNet]) -> Self {
        self.exempt.extend_from_slice(networks);
        self
    }

    /// Maximum number of addresses without a connection whose [join rate](Self::join_rate) is
    /// remembered. Default: 65,536, some 8 MB; beyond it the oldest is forgotten.
    #[must_use]
    pub fn retained_sources(mut self, limit: usize) -> Self {
        self.retained_sources = limit;
        self
    }

    /// The maximum of all pending handshakes.
    #[must_use]
    pub const fn max_total_pending(&self) -> usize {
        self.total_pending
    }

    /// The maximum of connections of one address.
    #[must_use]
    pub const fn max_connections(&self) -> usize {
        self.connections
    }

    /// Whether `ip` has no limits of its own.
    #[must_use]
    pub fn is_exempt(&self, ip: IpAddr) -> bool {
        contains(&self.exempt, ip)
    }

    /// Checks that no limit forbids everything.
    ///
    /// # Errors
    /// [`ConfigError::Zero`] names the limit that is 0.
    pub fn build(self) -> Result<Self, ConfigError> {
        let limits = [
            ("limit of pending handshakes", self.total_pending),
            ("limit of pending handshakes per address", self.pending),
            ("limit of connections per address", self.connections),
        ];
        match limits.iter().find(|(_, limit)| *limit == 0) {
            Some(&(setting, _)) => Err(ConfigError::Zero { setting }),
            None => Ok(self),
        }
    }
}

/// Whether one of `networks` has `ip`; an IPv4-mapped address is an IPv4 address.
#[must_use]
pub fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

fn loopback() -> Vec<IpNet> {
    let v4 = Ipv4Net::new(Ipv4Addr::LOCALHOST, 8).expect("a length of at most 32");
    let v6 = Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).expect("a length of at most 128");
    alloc::vec![v4.trunc().into(), v6.into()]
}
