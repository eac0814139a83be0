//! What one source address may use of a relay, and which proxies are believed where others come from.

use core::net::IpAddr;

use clap::Args;
use pinch_driver::Builder;
use pinch_proto::hub::ConfigError;
use pinch_proto::peers::{IpNet, Limits};

use super::values::{self, Rate};

/// Networks, as a flag takes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Networks(Vec<IpNet>);

/// `none`, or addresses and networks separated by commas; blanks and empty items are ignored.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    const EXPECTED: &str =
        "expected IP addresses and networks, such as 10.0.0.0/8,2001:db8::1, or none";
    if text.trim() == "none" {
        return Ok(Networks::default());
    }
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let parse = |item: &str| {
        let network = item.parse::<IpNet>().ok();
        network.or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from))
    };
    let networks: Option<Vec<IpNet>> = items.map(parse).collect();
    match networks {
        Some(networks) if !networks.is_empty() => Ok(Networks(networks)),
        Some(_) | None => Err(EXPECTED.into()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err("expected a number of at least 1".into()),
    }
}

#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, reason = "this is the text of the help")]
pub(super) struct LimitFlags {
    /// Maximum number of connections that have not joined yet. At the limit, a newcomer replaces
    /// the one without progress for longest of the address that has most. At most a sixteenth of
    /// the file descriptors.
    #[arg(long, value_name = "NUMBER", value_parser = count, default_value = "4096")]
    max_pending: usize,

    /// Maximum number of them from one address (IPv6: from one /64).
    #[arg(long, value_name = "NUMBER", value_parser = count, default_value = "1024")]
    address_pending: usize,

    /// Maximum number of connections from one address (IPv6: from one /64), and never more than a
    /// quarter of all. Raise it where more agents share an address behind a NAT.
    #[arg(long, value_name = "NUMBER", value_parser = count, default_value = "1024")]
    address_connections: usize,

    /// How many connections from one address may join per second in the long run, or `off`.
    #[arg(long, value_name = "NUMBER", value_parser = values::rate, default_value = "20")]
    address_join_rate: Rate,

    /// How many may join at once. Without effect if the rate is off.
    #[arg(long, value_name = "NUMBER", value_parser = values::burst, default_value = "1024")]
    address_join_burst: u32,

    /// Addresses and networks, separated by commas, for which the limits of one address do not
    /// hold, or `none`. The default is loopback, so that a reverse proxy on the same machine that
    /// is not among the trusted proxies is not taken for one agent.
    #[arg(long, value_name = "LIST", value_parser = networks, default_value = "127.0.0.0/8,::1")]
    limit_exempt: Networks,

    /// Addresses and networks, separated by commas, of reverse proxies that say where a connection
    /// comes from, by X-Forwarded-For or Forwarded, or by the PROXY protocol. From other
    /// addresses these are not read. The limits of one address do not hold for them. [default: none]
    #[arg(long, value_name = "LIST", value_parser = networks)]
    trusted_proxies: Option<Networks>,

    /// Connections from trusted proxies begin with a header of the PROXY protocol, version 2
    /// (HAProxy: `send-proxy-v2`). Without one, they are closed.
    #[arg(long, requires = "trusted_proxies")]
    proxy_protocol: bool,
}

impl LimitFlags {
    pub(super) fn merge(self) -> Result<LimitOptions, ConfigError> {
        let join_rate = self.address_join_rate.with_burst(self.address_join_burst)?;
        let limits = Limits::new()
            .total_pending(self.max_pending)
            .pending(self.address_pending)
            .connections(self.address_connections)
            .join_rate(join_rate)
            .exempt(self.limit_exempt.0)
            .build()?;
        Ok(LimitOptions {
            limits,
            trusted_proxies: self.trusted_proxies.unwrap_or_default().0,
            proxy_protocol: self.proxy_protocol,
        })
    }
}

/// What one source address may use, and which proxies are believed where others come from.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitOptions {
    /// The limits.
    pub limits: Limits,
    /// The networks of these proxies.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether their connections begin with a PROXY header.
    pub proxy_protocol: bool,
}

impl LimitOptions {
    pub(super) fn apply<R>(&self, builder: Builder<R>) -> Builder<R> {
        builder
            .limits(self.limits.clone())
            .trusted_proxies(self.trusted_proxies.clone())
            .proxy_protocol(self.proxy_protocol)
    }
}
