//! Why connections are rejected before they join, and how often.

macro_rules! rejected {
    ($($(#[$doc:meta])* $reason:ident: $variant:ident,)*) => {
        /// Connections that were rejected before they joined, by reason.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Rejected {
            /// They gave way to newcomers, without progress for longest.
            pub evicted: u64,
            $($(#[$doc])* pub $reason: u64,)*
        }

        /// Why a connection is rejected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// How logs and `/health` name it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($reason),)*
                }
            }
        }

        impl Rejected {
            /// All of them.
            #[must_use]
            pub const fn total(&self) -> u64 {
                self.evicted $(+ self.$reason)*
            }

            /// Each reason and its count.
            pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [("evicted", self.evicted) $(, (stringify!($reason), self.$reason))*].into_iter()
            }

            pub(crate) const fn count(&mut self, reason: Reason) {
                let count = match reason {
                    $(Reason::$variant => &mut self.$reason,)*
                };
                *count += 1;
            }
        }
    };
}

rejected! {
    /// Their address has too many connections.
    connections: Connections,
    /// Their address had too many joins lately.
    join_rate: JoinRate,
    /// The head of the request did not come in time, or the answer to the challenge.
    timeout: Timeout,
    /// No HTTP, no PROXY header where one is expected, or no address of a proxy's client.
    malformed: Malformed,
    /// A request for something else than an upgrade or `/health`.
    request: Request,
    /// The page of a browser that may not connect.
    origin: Origin,
    /// The handshake failed: a wrong signature, or no answer to the challenge.
    authentication: Authentication,
    /// A violation of the WebSocket protocol in the handshake.
    protocol: Protocol,
    /// The relay was shutting down.
    shutting_down: ShuttingDown,
    /// The hub refused them: see `joins_refused_duplicate` and `joins_refused_capacity` in
    /// [`HubStats`](pinch_proto::hub::HubStats).
    hub: Hub,
}
