//! The settings of the sessions of a relay.

use core::net::IpAddr;
use core::time::Duration;

use http::{Request, Response};
use pinch_proto::Host;
use pinch_proto::hub::Addressing;
use pinch_proto::peers::{IpNet, contains};

use crate::http::{self as head, Route};
use crate::{AllowedOrigins, Auth, Upgrade, UpgradeError};

/// The settings that all [sessions](super::Session) of a relay share.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) auth: Auth,
    pub(crate) origins: AllowedOrigins,
    pub(crate) auth_timeout: Duration,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) proxy_protocol: bool,
    pub(crate) host: Host,
    pub(crate) message_bytes: usize,
}

impl Config {
    /// Settings of a relay whose public host is `host`, and which takes messages of `message_bytes`
    /// at most: as its hub does ([`hub::Config`](pinch_proto::hub::Config)).
    #[must_use]
    pub fn new(host: Host, message_bytes: usize) -> Self {
        Self {
            auth: Auth::default(),
            origins: AllowedOrigins::default(),
            auth_timeout: Duration::from_secs(10),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            host,
            message_bytes,
        }
    }

    /// Sets how agents prove their address. Default: [`Auth::Challenge`].
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Sets the origins that may connect besides the relay's own. Default:
    /// [`AllowedOrigins::None`].
    #[must_use]
    pub fn allowed_origins(mut self, origins: AllowedOrigins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the time for the HTTP request, and then again for the handshake. Default: 10 s
    /// (protocol section 3).
    #[must_use]
    pub const fn auth_timeout(mut self, timeout: Duration) -> Self {
        self.auth_timeout = timeout;
        self
    }

    /// Sets the networks of reverse proxies. Default: none.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: Vec<IpNet>) -> Self {
        self.trusted_proxies = networks;
        self
    }

    /// Sets whether connections of trusted proxies begin with a header of the PROXY protocol,
    /// version 2. Default: false.
    #[must_use]
    pub const fn proxy_protocol(mut self, is_expected: bool) -> Self {
        self.proxy_protocol = is_expected;
        self
    }

    /// Returns the recipients that a hub takes with this way of authentication.
    #[must_use]
    pub const fn addressing(&self) -> Addressing {
        match self.auth {
            Auth::Challenge => Addressing::Keys,
            Auth::Open => Addressing::Names,
        }
    }

    /// Checks a request for a WebSocket that was read elsewhere; see
    /// [`Relay::check_upgrade`](crate::Relay::check_upgrade).
    ///
    /// # Errors
    /// The request is not upgraded.
    pub fn check_upgrade<B>(
        &self,
        request: &Request<B>,
    ) -> Result<(Upgrade, Response<()>), UpgradeError> {
        Upgrade::check(request, self.auth, &self.origins, &self.host)
    }

    pub(super) fn route(&self, request: &Request<()>) -> Route {
        head::route(request, self.auth, &self.origins, &self.host)
    }

    /// Whether a connection that `peer` has opened begins with a PROXY header.
    pub(super) fn expects_proxy_header(&self, peer: Option<IpAddr>) -> bool {
        self.proxy_protocol && peer.is_some_and(|peer| contains(&self.trusted_proxies, peer))
    }
}
