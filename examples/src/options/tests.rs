//! Which settings come from where, and what is said about wrong ones.

use pinch_proto::hub::{Delivery, QueueConfig, SlowReader};

use super::*;

type Variable = (&'static str, &'static str);

fn parse(flags: &[&str], variables: &[Variable]) -> Result<Invocation, clap::Error> {
    let arguments = ["relay"].iter().chain(flags).map(OsString::from);
    Invocation::parse(arguments, |name| {
        variables
            .iter()
            .find(|variable| variable.0 == name)
            .map(|variable| variable.1.into())
    })
}

fn valid(flags: &[&str], variables: &[Variable]) -> Options {
    match parse(flags, variables).unwrap() {
        Invocation::Relay(options) => *options,
        Invocation::InspectQueue(options) => panic!("expected a relay, got {options:?}"),
    }
}

/// The first line of the error, which ends the program with code 2.
fn error(flags: &[&str], variables: &[Variable]) -> String {
    let error = parse(flags, variables).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.use_stderr());
    error.to_string().lines().next().unwrap().into()
}

fn hub() -> Config {
    Config::new(values::localhost()).queue(QueueConfig::new())
}

fn file(path: &str) -> Database {
    Database::File(path.into())
}

fn origins(list: &[&str]) -> AllowedOrigins {
    AllowedOrigins::List(list.iter().map(ToString::to_string).collect())
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let expected = Options {
        listen: "127.0.0.1:8080".parse().unwrap(),
        auth: Auth::Challenge,
        auth_timeout: Duration::from_secs(10),
        allowed_origins: AllowedOrigins::None,
        hub: hub(),
        database: file("./pinch-relay.db"),
        log: LogFormat::Text,
        without_effect: vec![],
    };
    assert_eq!(valid(&[], &[]), expected);
}

#[test]
fn every_flag_has_its_effect() {
    let flags = [
        "--listen=[::1]:0",
        "--public-host=relay.example.com",
        "--auth=open",
        "--heartbeat-interval=1m 30s",
        "--pong-timeout=500ms",
        "--auth-timeout=3s",
        "--rate-limit=2.5",
        "--rate-burst=3",
        "--allowed-origins=https://a.example.com, http://localhost:3000",
        "--on-duplicate=replace",
        "--db=/var/lib/pinch/queue",
        "--queue-max=50",
        "--queue-ttl=1day 12h",
        "--queue-sender-bytes=1MiB",
        "--queue-total-bytes=2000000",
        "--slow-reader=disconnect",
        "--delivery=at-most-once",
        "--log=json",
    ];
    let queue = QueueConfig::new()
        .recipient_count(50)
        .ttl(Duration::from_secs(36 * 3600))
        .sender_bytes(1 << 20)
        .total_bytes(2_000_000);
    let expected = Options {
        listen: "[::1]:0".parse().unwrap(),
        auth: Auth::Open,
        auth_timeout: Duration::from_secs(3),
        allowed_origins: origins(&["https://a.example.com", "http://localhost:3000"]),
        hub: Config::new(Host::parse("relay.example.com").unwrap())
            .heartbeat_interval(Duration::from_secs(90))
            .pong_timeout(Duration::from_millis(500))
            .rate_limit(Some(RateLimit::new(2.5, 3).unwrap()))
            .on_duplicate(OnDuplicate::Replace)
            .queue(queue)
            .slow_reader(SlowReader::Disconnect)
            .delivery(Delivery::AtMostOnce),
        database: file("/var/lib/pinch/queue"),
        log: LogFormat::Json,
        without_effect: vec![],
    };
    assert_eq!(valid(&flags, &[]), expected);
}

#[test]
fn every_variable_has_its_effect() {
    let variables = [
        ("PINCH_RELAY_PORT", "9000"),
        ("PINCH_RELAY_PUBLIC_HOST", "relay.example.com"),
        ("PINCH_RELAY_RATE_LIMIT", "0.5"),
        ("PINCH_RELAY_RATE_BURST", "20"),
        ("PINCH_RELAY_ALLOWED_ORIGINS", "*"),
        ("PINCH_RELAY_DB", "queue.db"),
        ("PINCH_RELAY_QUEUE_MAX", "10"),
        ("PINCH_RELAY_QUEUE_TTL", "12"),
    ];
    let queue = QueueConfig::new()
        .recipient_count(10)
        .ttl(Duration::from_secs(12 * 3600));
    let expected = Options {
        listen: "0.0.0.0:9000".parse().unwrap(),
        allowed_origins: AllowedOrigins::Any,
        hub: Config::new(Host::parse("relay.example.com").unwrap())
            .rate_limit(Some(RateLimit::new(0.5, 20).unwrap()))
            .queue(queue),
        database: file("queue.db"),
        ..valid(&[], &[])
    };
    assert_eq!(valid(&[], &variables), expected);

    let flags = [
        "--listen=127.0.0.1:8080",
        "--public-host=localhost",
        "--rate-limit=1",
        "--rate-burst=10",
        "--allowed-origins=https://a.example.com",
        "--db=./pinch-relay.db",
        "--queue-max=1000",
        "--queue-ttl=168h",
    ];
    let expected = Options {
        allowed_origins: origins(&["https://a.example.com"]),
        ..valid(&[], &[])
    };
    assert_eq!(valid(&flags, &variables), expected, "a flag wins");
}

#[test]
fn rate_and_burst_are_set_one_by_one() {
    let limit =
        |per_second, burst| hub().rate_limit(Some(RateLimit::new(per_second, burst).unwrap()));
    assert_eq!(valid(&["--rate-limit=5"], &[]).hub, limit(5.0, 10));
    assert_eq!(valid(&["--rate-burst=5"], &[]).hub, limit(1.0, 5));
    assert_eq!(
        valid(&["--rate-limit=5"], &[("PINCH_RELAY_RATE_BURST", "7")]).hub,
        limit(5.0, 7)
    );
    assert_eq!(
        valid(&["--rate-limit=off"], &[]).hub,
        hub().rate_limit(None)
    );
    assert_eq!(
        valid(&[], &[("PINCH_RELAY_RATE_LIMIT", "off")]).hub,
        hub().rate_limit(None)
    );
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let list = valid(
        &["--allowed-origins=HTTPS://App.Example.com/,http://[::1]:3000"],
        &[],
    );
    assert_eq!(
        list.allowed_origins,
        origins(&["https://app.example.com", "http://[::1]:3000"])
    );
}

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
        "public-host",
        "auth",
        "heartbeat-interval",
        "pong-timeout",
        "auth-timeout",
        "rate-limit",
        "rate-burst",
        "allowed-origins",
        "on-duplicate",
        "db",
        "queue-max",
        "queue-ttl",
        "queue-sender-bytes",
        "queue-total-bytes",
        "slow-reader",
        "delivery",
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
        ("PINCH_RELAY_PORT", "", "expected a port, 0 to 65535"),
        (
            "PINCH_RELAY_PUBLIC_HOST",
            "me@home",
            "byte 2 of the host is 0x40",
        ),
        ("PINCH_RELAY_PUBLIC_HOST", "", "the host is empty"),
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
            "PINCH_RELAY_RATE_LIMIT",
            "",
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
            "PINCH_RELAY_RATE_BURST",
            "",
            "expected a number of envelopes",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "app.example.com",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "https://a.example.com,",
            "expected origins such as",
        ),
        (
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "https://a.example.com,*",
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
            "PINCH_RELAY_ALLOWED_ORIGINS",
            "",
            "expected origins such as",
        ),
        ("PINCH_RELAY_DB", "", "expected the path of a file, or none"),
        (
            "PINCH_RELAY_QUEUE_MAX",
            "0",
            "expected a number of envelopes",
        ),
        (
            "PINCH_RELAY_QUEUE_MAX",
            "",
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

    let variable =
        |name: &str| (name == "PINCH_RELAY_PORT").then(|| OsString::from_vec(vec![0xff]));
    let error = Invocation::parse(["relay".into()], variable)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("for the environment variable PINCH_RELAY_PORT: expected UTF-8"),
        "{error}"
    );
}

#[test]
fn help_names_the_variables() {
    let help = parse(&["--help"], &[]).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    let help = help.to_string();
    for name in [
        "PORT",
        "PUBLIC_HOST",
        "RATE_LIMIT",
        "RATE_BURST",
        "ALLOWED_ORIGINS",
        "DB",
        "QUEUE_MAX",
        "QUEUE_TTL",
    ] {
        assert!(
            help.contains(&format!("PINCH_RELAY_{name}")),
            "{name}: {help}"
        );
    }
}

#[test]
fn variables_of_older_relays_that_do_nothing_here_are_named() {
    let variables = [("PINCH_TURNSTILE_SITE_KEY", "x"), ("PINCH_RELAY_PORT", "0")];
    let without_effect = valid(&[], &variables).without_effect;
    assert_eq!(without_effect, ["PINCH_TURNSTILE_SITE_KEY"]);
}

#[test]
fn a_relay_without_a_queue_has_none_in_its_hub() {
    let without = Options {
        database: Database::None,
        hub: Config::new(values::localhost()),
        ..valid(&[], &[])
    };
    assert_eq!(valid(&["--db=none"], &[]), without);
    assert_eq!(valid(&[], &[("PINCH_RELAY_DB", "none")]), without);
    assert_eq!(valid(&["--db=none", "--queue-max=5"], &[]), without);
    assert_eq!(
        valid(&["--db=x"], &[("PINCH_RELAY_DB", "none")]).database,
        file("x")
    );
}

fn inspection(flags: &[&str], variables: &[Variable]) -> InspectOptions {
    let flags = [&["queue", "inspect"], flags].concat();
    match parse(&flags, variables).unwrap() {
        Invocation::InspectQueue(options) => options,
        Invocation::Relay(options) => panic!("expected an inspection, got {options:?}"),
    }
}

#[test]
fn the_queue_that_is_inspected_is_the_one_that_a_relay_would_open() {
    let table = |path: &str| InspectOptions {
        path: path.into(),
        json: false,
    };
    assert_eq!(inspection(&[], &[]), table("./pinch-relay.db"));
    let variable = [("PINCH_RELAY_DB", "a.db"), ("PINCH_RELAY_PORT", "x")];
    assert_eq!(inspection(&[], &variable), table("a.db"));
    assert_eq!(inspection(&["--db=b.db"], &variable), table("b.db"));
    assert!(inspection(&["--json"], &[]).json);

    assert!(error(&["queue", "inspect", "--db=none"], &[]).contains("no queue to inspect"));
    assert!(error(&["queue", "inspect", "--db="], &[]).contains("'--db <PATH>"));
    assert!(error(&["queue", "inspect"], &[("PINCH_RELAY_DB", "")]).contains("PINCH_RELAY_DB"));
    assert!(error(&["--auth=open", "queue", "inspect"], &[]).contains("cannot be used with"));
}

#[test]
fn an_error_names_the_program_that_was_called() {
    let error = parse(&[], &[("PINCH_RELAY_PORT", "x")]).unwrap_err();
    assert!(
        error.to_string().contains("Usage: relay [OPTIONS]"),
        "{error}"
    );
}
