//! What is said about settings that make no sense: which one, what it is, and what is accepted.

use super::*;

#[test]
fn a_wrong_flag_is_named_with_its_value_and_what_is_accepted() {
    let cases = [
        (
            "--listen=8080",
            "'8080' for '--listen <IP:PORT>': expected an IP address and a port",
        ),
        (
            "--public-host=a b",
            "'a b' for '--public-host <HOST>': byte 1 of the host is 0x20",
        ),
        ("--auth=none", "'none' for '--auth <MODE>'"),
        (
            "--heartbeat-interval=25",
            "'25' for '--heartbeat-interval <DURATION>': expected 1ms to 24h",
        ),
        (
            "--heartbeat-interval=0s",
            "'0s' for '--heartbeat-interval <DURATION>': expected 1ms to 24h",
        ),
        (
            "--pong-timeout=-1s",
            "'-1s' for '--pong-timeout <DURATION>': expected 1ms to 24h",
        ),
        (
            "--auth-timeout=2d",
            "'2d' for '--auth-timeout <DURATION>': expected 1ms to 24h",
        ),
        (
            "--rate-limit=0",
            "'0' for '--rate-limit <NUMBER>': expected envelopes per second",
        ),
        (
            "--rate-limit=nan",
            "'nan' for '--rate-limit <NUMBER>': expected envelopes per second",
        ),
        (
            "--shards=0",
            "'0' for '--shards <NUMBER>': expected a number of hubs, 1 to 64",
        ),
        (
            "--rate-burst=0",
            "'0' for '--rate-burst <NUMBER>': expected a number of envelopes, 1 to",
        ),
        (
            "--allowed-origins=x",
            "'x' for '--allowed-origins <LIST>': expected origins such as",
        ),
        (
            "--on-duplicate=both",
            "'both' for '--on-duplicate <ACTION>'",
        ),
        (
            "--max-pending=0",
            "'0' for '--max-pending <NUMBER>': expected a number of at least 1",
        ),
        (
            "--address-connections=many",
            "'many' for '--address-connections <NUMBER>': expected a number of at least 1",
        ),
        (
            "--limit-exempt=10.0.0.0/33",
            "'10.0.0.0/33' for '--limit-exempt <LIST>': expected IP addresses and networks, such as",
        ),
        (
            "--trusted-proxies=nginx",
            "'nginx' for '--trusted-proxies <LIST>': expected IP addresses and networks, such as",
        ),
        (
            "--queue-max=0",
            "'0' for '--queue-max <NUMBER>': expected a number of envelopes, 1 to",
        ),
        (
            "--queue-ttl=168",
            "'168' for '--queue-ttl <DURATION>': expected 1s to 3650days",
        ),
        (
            "--queue-ttl=0s",
            "'0s' for '--queue-ttl <DURATION>': expected 1s to 3650days",
        ),
        (
            "--queue-sender-bytes=lots",
            "'lots' for '--queue-sender-bytes <SIZE>': expected a number of bytes, such as",
        ),
        (
            "--queue-total-bytes=0",
            "'0' for '--queue-total-bytes <SIZE>': expected a number of bytes, such as",
        ),
        ("--slow-reader=wait", "'wait' for '--slow-reader <ACTION>'"),
        (
            "--delivery=exactly-once",
            "'exactly-once' for '--delivery <HOW>'",
        ),
        ("--log=xml", "'xml' for '--log <FORM>'"),
    ];
    for (flag, expected) in cases {
        let error = error(&[flag], &[]);
        assert!(
            error.starts_with(&format!("error: invalid value {expected}")),
            "{flag}: {error}"
        );
    }
}

#[test]
fn an_empty_flag_is_an_error() {
    let names = [
        "listen",
        "shards",
        "public-host",
        "auth",
        "heartbeat-interval",
        "pong-timeout",
        "auth-timeout",
        "rate-limit",
        "rate-burst",
        "allowed-origins",
        "on-duplicate",
        "max-pending",
        "address-pending",
        "address-connections",
        "address-join-rate",
        "address-join-burst",
        "limit-exempt",
        "trusted-proxies",
        "db",
        "queue-max",
        "queue-ttl",
        "queue-sender-bytes",
        "queue-total-bytes",
        "slow-reader",
        "delivery",
        "ack-on-close",
        "log",
    ];
    for name in names {
        let error = error(&[&format!("--{name}=")], &[]);
        assert!(error.contains(&format!("'--{name} <")), "{name}: {error}");
    }
}

#[test]
fn a_wrong_variable_is_named_with_its_value_and_what_is_accepted() {
    let cases = [
        ("PINCH_RELAY_PORT", "65536", "expected a port, 0 to 65535"),
        (
            "PINCH_RELAY_PORT",
            "127.0.0.1:80",
            "expected a port, 0 to 65535",
        ),
        (
            "PINCH_RELAY_PUBLIC_HOST",
            "me@home",
            "byte 2 of the host is 0x40",
        ),
        (
            "PINCH_RELAY_RATE_LIMIT",
            "fast",
            "expected envelopes per second",
        ),
        (
            "PINCH_RELAY_RATE_LIMIT",
            "-1",
            "expected envelopes per second",
        ),
        (
            "PINCH_RELAY_RATE_LIMIT",
            "inf",
            "expected envelopes per second",
        ),
        (
            "PINCH_RELAY_RATE_BURST",
            "1.5",
            "expected a number of envelopes",
        ),
        (
            "PINCH_RELAY_RATE_BURST",
            "4294967296",
            "expected a number of envelopes",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "app.example.com",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "https://a.example.com,null",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "https://*.example.com",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "https://a.example.com/path",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "https://me@a.example.com",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_QUEUE_MAX",
            "0",
            "expected a number of envelopes",
        ),
        ("PINCH_RELAY_QUEUE_TTL", "7d", "expected hours, 1 to 87600"),
        ("PINCH_RELAY_QUEUE_TTL", "0", "expected hours, 1 to 87600"),
        (
            "PINCH_RELAY_QUEUE_TTL",
            "87601",
            "expected hours, 1 to 87600",
        ),
    ];
    for (name, value, expected) in cases {
        let error = error(&[], &[(name, value)]);
        let start = format!(
            "error: invalid value {value:?} for the environment variable {name}: {expected}"
        );
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn a_variable_must_make_sense_even_if_a_flag_wins() {
    let error = error(&["--listen=127.0.0.1:0"], &[("PINCH_RELAY_PORT", "http")]);
    assert!(error.contains("PINCH_RELAY_PORT"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_variable_is_text() {
    use std::os::unix::ffi::OsStringExt as _;

    let variable = ("PINCH_RELAY_PORT".into(), OsString::from_vec(vec![0xff]));
    let error = Invocation::parse("relay", ["relay".into()], [variable])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("for the environment variable PINCH_RELAY_PORT: expected UTF-8"),
        "{error}"
    );
}

#[test]
fn the_proxy_protocol_needs_a_trusted_proxy() {
    let error = parse(&["--proxy-protocol"], &[]).unwrap_err().to_string();
    assert!(error.contains("--trusted-proxies"), "{error}");
}

#[test]
fn an_unknown_variable_is_an_error_that_names_the_nearest() {
    let cases = [
        ("PINCH_RELAY_PROT", "; the nearest is PINCH_RELAY_PORT"),
        (
            "PINCH_RELAY_QUEUE_TLL",
            "; the nearest is PINCH_RELAY_QUEUE_TTL",
        ),
        ("PINCH_RELAY_HOST", "; the nearest is PINCH_RELAY_PORT"),
        (
            "PINCH_TURNSTILE_SECRET",
            "; the nearest is PINCH_TURNSTILE_SECRET_KEY",
        ),
        (
            "PINCH_RELAY_SERVICE_HOST",
            ": Kubernetes sets this for a service",
        ),
        (
            "PINCH_RELAY_PORT_8080_TCP_ADDR",
            ": Kubernetes sets this for a service",
        ),
    ];
    for (name, expected) in cases {
        for flags in [&[][..], &["queue", "inspect"]] {
            let error = error(flags, &[(name, "1")]);
            let start = format!("error: unknown environment variable {name}{expected}");
            assert!(error.starts_with(&start), "{error}");
        }
    }
    let error = error(&[], &[("PINCH_RELAY_PORT", "tcp://10.0.0.1:8080")]);
    assert!(
        error.contains("expected a port, 0 to 65535. Kubernetes sets this"),
        "{error}"
    );
    // Others are not meant for a relay.
    valid(
        &[],
        &[("PINCH_MIO_THREADS", "2"), ("PINCHED", "1"), ("RELAY", "1")],
    );
}

#[test]
fn a_relay_that_is_to_be_locked_does_not_start_open() {
    let error = error(
        &[],
        &[(
            "PINCH_TURNSTILE_SECRET_KEY",
            "1x0000000000000000000000000000000AA",
        )],
    );
    assert!(
        error.contains("PINCH_TURNSTILE_SECRET_KEY is set, which locks a relay"),
        "{error}"
    );
    assert!(!error.contains("1x0"), "it is a secret: {error}");
    let site = valid(
        &[],
        &[("PINCH_TURNSTILE_SITE_KEY", "1x00000000000000000000AA")],
    );
    assert_eq!(site.without_effect, ["PINCH_TURNSTILE_SITE_KEY"]);
}
