//! The settings of a [`Client`](super::Client), each with the reason for its default.

use core::time::Duration;

/// Why a [`Config`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting is 0 where that would stop the client from working.
    #[error("{setting} is 0, expected more")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
    /// The backoff would begin above its cap.
    #[error("a backoff that begins at {base:?} is above its cap of {cap:?}")]
    BackoffAboveCap {
        /// The backoff after the first failure.
        base: Duration,
        /// Its cap.
        cap: Duration,
    },
    /// The largest envelope would not fit an empty outbox, so that it could never be sent.
    #[error(
        "an outbox of {outbox_bytes} bytes cannot hold an envelope of {envelope_bytes}; raise the outbox or lower the envelope limit"
    )]
    OutboxTooSmall {
        /// Bytes that the outbox may hold.
        outbox_bytes: usize,
        /// Bytes of the largest envelope.
        envelope_bytes: usize,
    },
}

/// What happens to an envelope that comes again.
///
/// A relay delivers at least once: an envelope of which it does not know that it has arrived when a
/// link ends comes again after the next join. The client knows, so that a program need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// It is dropped, and counted
    /// ([`Client::dropped_duplicates`](super::Client::dropped_duplicates)). What counts as a
    /// duplicate, and what can still come twice, is told
    /// [there](super#what-happens-to-an-envelope-that-comes).
    Drop {
        /// How many of the envelopes that were handed over last are remembered. Each takes some 30
        /// bytes, whatever its size, and none before it has come.
        remembered: u32,
    },
    /// It is handed over like any other: for a program that does this by itself, and over restarts.
    Deliver,
}

/// The last 8192 are remembered, in at most 300 KiB. A relay has by default up to 1 MiB or 4096
/// envelopes unconfirmed at one agent: twice as many are remembered.
impl Default for Duplicates {
    fn default() -> Self {
        Self::Drop { remembered: 8192 }
    }
}

/// The settings of a [`Client`](super::Client).
///
/// ```
/// use core::time::Duration;
/// use pinch_proto::client::{Config, ConfigError};
///
/// let config = Config::new().heartbeat_interval(Duration::from_secs(10)).max_tries(None).build()?;
/// assert!(Config::new().dial_timeout(Duration::ZERO).build().is_err());
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(super) dial_timeout: Duration,
    pub(super) join_timeout: Duration,
    pub(super) heartbeat_interval: Duration,
    pub(super) pong_timeout: Duration,
    pub(super) stall_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) backoff_base: Duration,
    pub(super) backoff_cap: Duration,
    pub(super) max_tries: Option<u32>,
    pub(super) stable_after: Duration,
    pub(super) rejoin_when_replaced: bool,
    pub(super) envelope_bytes: usize,
    pub(super) outbox_bytes: usize,
    pub(super) outbox_count: usize,
    pub(super) duplicates: Duplicates,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            dial_timeout: Duration::from_secs(10),
            join_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(7),
            stall_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(30),
            max_tries: Some(20),
            stable_after: Duration::from_secs(30),
            rejoin_when_replaced: false,
            envelope_bytes: 65_536,
            outbox_bytes: 1 << 20,
            outbox_count: 1024,
            duplicates: Duplicates::default(),
        }
    }

    /// Whether redelivered envelopes are [dropped](Duplicates::Drop), so that redelivery is welcome.
    #[must_use]
    pub const fn drops_duplicates(&self) -> bool {
        matches!(self.duplicates, Duplicates::Drop { .. })
    }

    /// How long it may take from [`Output::Dial`](super::Output::Dial) until the WebSocket is up.
    /// Default: 10 s, three transmissions of a lost SYN (1 s, 2 s, 4 s) and the TLS handshake.
    #[must_use]
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.dial_timeout = timeout;
        self
    }

    /// How long it may take from then until the relay's AUTH_RESULT. Default: 10 s, as long as a
    /// challenge is valid (protocol section 3).
    #[must_use]
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.join_timeout = timeout;
        self
    }

    /// The longest time without a ping. Default: 25 s, below the 30 s after which many NATs forget
    /// an idle flow.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// How long the relay may show no sign of life after a heartbeat. Default: 7 s, as the relay
    /// does with its clients (protocol section 4).
    #[must_use]
    pub fn pong_timeout(mut self, timeout: Duration) -> Self {
        self.pong_timeout = timeout;
        self
    }

    /// How long the socket may need to take one batch. Default: 30 s, in which even a link of
    /// 20 kbit/s takes 64 KiB.
    #[must_use]
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// How long closing waits for what is unconfirmed, and then once more at most for the relay's
    /// close frame. Default: 5 s, so that both end within what supervisors grant (10 s).
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// The backoff: after the n-th failure in a row, the next try comes at a random moment of the
    /// next `base` · 2ⁿ⁻¹, but `cap` at most ("full jitter", so that the clients of a relay that
    /// restarts don't come all at once). Default: 500 ms, which a person hardly notices, and 30 s,
    /// which a person is willing to wait for.
    #[must_use]
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.backoff_base = base;
        self.backoff_cap = cap;
        self
    }

    /// After how many tries in a row the client gives up; `None` for never. Default: 20, three to
    /// four minutes: longer than a relay's restart, and then somebody should hear of it.
    #[must_use]
    pub fn max_tries(mut self, tries: Option<u32>) -> Self {
        self.max_tries = tries;
        self
    }

    /// How long a join must last until earlier failures are forgotten. Default: 30 s, the backoff's
    /// cap, so that a relay that admits and drops at once is not dialled more often than that.
    #[must_use]
    pub fn stable_after(mut self, lifetime: Duration) -> Self {
        self.stable_after = lifetime;
        self
    }

    /// Whether to join again when another connection took the address over (close code 4001).
    /// Default: no, because two clients with one key would take it from each other without end.
    #[must_use]
    pub fn rejoin_when_replaced(mut self, rejoin: bool) -> Self {
        self.rejoin_when_replaced = rejoin;
        self
    }

    /// The largest envelope that is taken for sending, in bytes. Default: 65,536, what relays take
    /// (protocol section 4). Of what comes, the drivers of this project read messages of 131,072
    /// bytes, and larger ones if they may be sent.
    #[must_use]
    pub fn envelope_bytes(mut self, limit: usize) -> Self {
        self.envelope_bytes = limit;
        self
    }

    /// How many bytes of envelopes may be unconfirmed. Default: 1 MiB, 16 of the largest.
    #[must_use]
    pub fn outbox_bytes(mut self, limit: usize) -> Self {
        self.outbox_bytes = limit;
        self
    }

    /// How many envelopes may be unconfirmed. Default: 1024, so that small ones cannot make the
    /// bookkeeping larger than the bytes.
    #[must_use]
    pub fn outbox_count(mut self, limit: usize) -> Self {
        self.outbox_count = limit;
        self
    }

    /// What happens to an envelope that comes again. Default: [`Duplicates::default`], it is dropped,
    /// because a program that acts on what it is told should not act twice.
    #[must_use]
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// The largest envelope that is taken, in bytes.
    #[must_use]
    pub const fn max_envelope_bytes(&self) -> usize {
        self.envelope_bytes
    }

    /// The shortest of the timeouts, none of which a pause of the process uses up.
    pub(super) fn shortest_timeout(&self) -> Duration {
        let timeouts = [
            self.dial_timeout,
            self.join_timeout,
            self.pong_timeout,
            self.stall_timeout,
            self.close_timeout,
        ];
        timeouts.into_iter().min().unwrap_or_default()
    }

    /// Checks that the settings fit each other.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the setting that does not, and what is accepted.
    pub fn build(self) -> Result<Self, ConfigError> {
        let zeros = [
            ("dial timeout", self.dial_timeout.is_zero()),
            ("join timeout", self.join_timeout.is_zero()),
            ("heartbeat interval", self.heartbeat_interval.is_zero()),
            ("pong timeout", self.pong_timeout.is_zero()),
            ("stall timeout", self.stall_timeout.is_zero()),
            ("close timeout", self.close_timeout.is_zero()),
            ("backoff", self.backoff_base.is_zero()),
            ("number of tries", self.max_tries == Some(0)),
            ("envelope limit", self.envelope_bytes == 0),
            ("outbox count", self.outbox_count == 0),
            (
                "number of remembered envelopes",
                self.duplicates == Duplicates::Drop { remembered: 0 },
            ),
        ];
        if let Some((setting, _)) = zeros.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero { setting });
        }
        if self.backoff_base > self.backoff_cap {
            return Err(ConfigError::BackoffAboveCap {
                base: self.backoff_base,
                cap: self.backoff_cap,
            });
        }
        let Self {
            outbox_bytes,
            envelope_bytes,
            ..
        } = self;
        if outbox_bytes < envelope_bytes {
            return Err(ConfigError::OutboxTooSmall {
                outbox_bytes,
                envelope_bytes,
            });
        }
        Ok(self)
    }
}
