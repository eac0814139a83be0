//! Settings of a hub: what is refused, and what it says about itself.

use core::time::Duration;

use pinch_proto::Host;
use pinch_proto::hub::{Config, ConfigError, ENVELOPE_OVERHEAD, QueueConfig, RateLimit};

fn config() -> Config {
    let host = Host::parse("relay.example.com").expect("a host");
    Config::new(host)
}

fn queued(change: impl FnOnce(QueueConfig) -> QueueConfig) -> Config {
    config().queue(change(QueueConfig::new()))
}

#[test]
fn what_would_stop_the_relay_from_working_is_refused_by_name() {
    assert!(config().build().is_ok());
    let cases = [
        (
            config().heartbeat_interval(Duration::ZERO),
            "heartbeat interval",
        ),
        (config().pong_timeout(Duration::ZERO), "pong timeout"),
        (config().join_timeout(Duration::ZERO), "join timeout"),
        (config().stall_timeout(Duration::ZERO), "stall timeout"),
        (config().close_timeout(Duration::ZERO), "close timeout"),
        (
            config().ack_probe_interval(Duration::ZERO),
            "ack probe interval",
        ),
        (config().envelope_bytes(0), "envelope limit"),
        (config().outbox_count(0), "outbox count"),
        (config().refusal_bytes(0), "refusal limit"),
        (config().unconfirmed_bytes(0), "limit of unconfirmed bytes"),
        (
            config().unconfirmed_count(0),
            "limit of unconfirmed envelopes",
        ),
        (config().max_connections(0), "connection limit"),
        (config().max_parked_buckets(0), "limit of parked buckets"),
        (
            queued(|queue| queue.recipient_count(0)),
            "queue of one recipient",
        ),
        (queued(|queue| queue.sender_bytes(0)), "queue of one sender"),
        (queued(|queue| queue.total_bytes(0)), "queue of all"),
        (
            queued(|queue| queue.unanswered_bytes(0)),
            "limit of unanswered bytes",
        ),
        (
            queued(|queue| queue.ttl(Duration::ZERO)),
            "time that a queue keeps envelopes",
        ),
        (
            queued(|queue| queue.answer_timeout(Duration::ZERO)),
            "answer timeout",
        ),
        (
            queued(|queue| queue.retry_interval(Duration::ZERO)),
            "retry interval",
        ),
        (
            queued(|queue| queue.expiry_interval(Duration::ZERO)),
            "expiry interval",
        ),
    ];
    for (config, setting) in cases {
        assert_eq!(config.build(), Err(ConfigError::Zero { setting }));
    }
}

#[test]
fn limits_have_to_fit_each_other() {
    let too_small = |outbox_bytes| {
        Err(ConfigError::OutboxTooSmall {
            outbox_bytes,
            envelope_bytes: 65_536,
        })
    };
    assert!(config().outbox_bytes(65_536).build().is_ok());
    assert_eq!(
        config().outbox_bytes(65_535).build(),
        too_small(65_535),
        "of one connection"
    );
    let total = 65_536 + ENVELOPE_OVERHEAD;
    assert!(config().total_outbox_bytes(total).build().is_ok());
    assert_eq!(
        config().total_outbox_bytes(total - 1).build(),
        too_small(65_535),
        "of all together"
    );
    assert!(config().message_bytes(65_536).build().is_ok());
    assert_eq!(
        config().message_bytes(65_535).build(),
        Err(ConfigError::MessageTooSmall {
            message_bytes: 65_535,
            envelope_bytes: 65_536,
        })
    );
}

#[test]
fn a_rate_limit_is_a_number_that_can_be_counted() {
    for per_second in [1e-6, 1.0, 1e9] {
        assert!(RateLimit::new(per_second, 1).is_ok(), "{per_second}");
    }
    for per_second in [9e-7, 0.0, -1.0, 1.1e9, f64::INFINITY] {
        let refused = Err(ConfigError::RateOutOfRange { per_second });
        assert_eq!(RateLimit::new(per_second, 1), refused);
    }
    assert!(RateLimit::new(f64::NAN, 1).is_err());
    let setting = "rate limit burst";
    assert_eq!(RateLimit::new(1.0, 0), Err(ConfigError::Zero { setting }));
}

#[test]
fn a_driver_can_ask_for_what_concerns_it() {
    let config = config().message_bytes(100_000);
    assert_eq!(config.host().as_str(), "relay.example.com");
    assert_eq!(config.max_message_bytes(), 100_000);
    assert!(!config.has_queue());
    assert!(config.queue(QueueConfig::new()).has_queue());
}
