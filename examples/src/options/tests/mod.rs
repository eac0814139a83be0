//! Which settings come from where, and what is said about wrong ones.

use pinch_proto::hub::{AckOnClose, Delivery, QueueConfig, RateLimit, SlowReader};
use pinch_proto::peers::{IpNet, Limits};

use super::*;

mod wrong;

type Variable = (&'static str, &'static str);

fn parse(flags: &[&str], variables: &[Variable]) -> Result<Invocation, clap::Error> {
    let arguments = ["relay"].iter().chain(flags).map(OsString::from);
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    Invocation::parse("relay-test", arguments, variables)
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

fn networks(list: &[&str]) -> Vec<IpNet> {
    list.iter()
        .map(|network| network.parse().unwrap())
        .collect()
}

#[test]
fn the_limits_of_one_address_can_be_switched_off() {
    let off = valid(&["--address-join-rate=off", "--limit-exempt=none"], &[]);
    let expected = Limits::new().join_rate(None).exempt(vec![]);
    assert_eq!(off.limits.limits, expected);
    let all = valid(&["--limit-exempt=0.0.0.0/0,::/0"], &[]);
    assert!(all.limits.limits.is_exempt([203, 0, 113, 1].into()));
}

#[test]
fn handshakes_and_connections_fit_the_descriptors() {
    let mut options = valid(&[], &[]);
    options.fit_descriptors(1024);
    let fitted = Limits::new().total_pending(60).connections(225);
    assert_eq!(options.limits.limits, fitted);
    assert_eq!(options.hub, hub().max_connections(900));
    let mut options = valid(&[], &[]);
    options.fit_descriptors(usize::MAX);
    assert_eq!(options, valid(&[], &[]));
}

#[test]
fn the_defaults_are_those_of_the_protocol() {
    let expected = Options {
        listen: Listen::Address("127.0.0.1:8080".parse().unwrap()),
        reuse_port: false,
        shards: None,
        auth: Auth::Challenge,
        auth_timeout: Duration::from_secs(10),
        allowed_origins: AllowedOrigins::None,
        limits: LimitOptions {
            limits: Limits::new(),
            trusted_proxies: vec![],
            proxy_protocol: false,
        },
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
        "--reuse-port",
        "--shards=3",
        "--public-host=relay.example.com",
        "--auth=open",
        "--heartbeat-interval=1m 30s",
        "--pong-timeout=500ms",
        "--auth-timeout=3s",
        "--rate-limit=2.5",
        "--rate-burst=3",
        "--join-rate=0.25",
        "--join-burst=7",
        "--allowed-origins=https://a.example.com, http://localhost:3000",
        "--on-duplicate=replace",
        "--max-pending=1000",
        "--address-pending=100",
        "--address-connections=50",
        "--address-join-rate=0.5",
        "--address-join-burst=60",
        "--limit-exempt=10.0.0.0/8, 192.0.2.1,",
        "--trusted-proxies=2001:db8::/32",
        "--proxy-protocol",
        "--db=/var/lib/pinch/queue",
        "--queue-max=50",
        "--queue-ttl=1day 12h",
        "--queue-sender-bytes=1MiB",
        "--queue-total-bytes=2000000",
        "--slow-reader=disconnect",
        "--delivery=at-most-once",
        "--ack-on-close=never",
        "--log=json",
    ];
    let queue = QueueConfig::new()
        .recipient_count(50)
        .ttl(Duration::from_secs(36 * 3600))
        .sender_bytes(1 << 20)
        .total_bytes(2_000_000);
    let expected = Options {
        listen: Listen::Address("[::1]:0".parse().unwrap()),
        reuse_port: true,
        shards: NonZero::new(3),
        auth: Auth::Open,
        auth_timeout: Duration::from_secs(3),
        allowed_origins: origins(&["https://a.example.com", "http://localhost:3000"]),
        limits: LimitOptions {
            limits: Limits::new()
                .total_pending(1000)
                .pending(100)
                .connections(50)
                .join_rate(Some(RateLimit::new(0.5, 60).unwrap()))
                .exempt(networks(&["10.0.0.0/8", "192.0.2.1/32"])),
            trusted_proxies: networks(&["2001:db8::/32"]),
            proxy_protocol: true,
        },
        hub: Config::new(Host::parse("relay.example.com").unwrap())
            .heartbeat_interval(Duration::from_secs(90))
            .pong_timeout(Duration::from_millis(500))
            .rate_limit(Some(RateLimit::new(2.5, 3).unwrap()))
            .join_limit(Some(RateLimit::new(0.25, 7).unwrap()))
            .on_duplicate(OnDuplicate::Replace)
            .queue(queue)
            .slow_reader(SlowReader::Disconnect)
            .delivery(Delivery::AtMostOnce)
            .ack_on_close(AckOnClose::Never),
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
        ("PINCH_RELAY_JOIN_RATE", "5"),
        ("PINCH_RELAY_JOIN_BURST", "100"),
        ("PINCH_RELAY_ALLOWED_ORIGINS", "*"),
        ("PINCH_RELAY_DB", "queue.db"),
        ("PINCH_RELAY_QUEUE_MAX", "10"),
        ("PINCH_RELAY_QUEUE_TTL", "12"),
    ];
    let queue = QueueConfig::new()
        .recipient_count(10)
        .ttl(Duration::from_secs(12 * 3600));
    let expected = Options {
        listen: Listen::EveryInterface(9000),
        allowed_origins: AllowedOrigins::Any,
        hub: Config::new(Host::parse("relay.example.com").unwrap())
            .rate_limit(Some(RateLimit::new(0.5, 20).unwrap()))
            .join_limit(Some(RateLimit::new(5.0, 100).unwrap()))
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
        "--join-rate=2",
        "--join-burst=60",
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
    assert_eq!(valid(&["--join-rate=off"], &[]).hub, hub().join_limit(None));
    let limit = Some(RateLimit::new(2.0, 7).unwrap());
    assert_eq!(valid(&["--join-burst=7"], &[]).hub, hub().join_limit(limit));
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
fn help_names_the_variables() {
    let help = parse(&["--help"], &[]).unwrap_err();
    assert_eq!(help.exit_code(), 0);
    let help = help.to_string();
    for name in [
        "PORT",
        "PUBLIC_HOST",
        "RATE_LIMIT",
        "RATE_BURST",
        "JOIN_RATE",
        "JOIN_BURST",
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
    let empty = [("PINCH_RELAY_DB", "")];
    assert_eq!(inspection(&[], &empty), table("./pinch-relay.db"));
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

#[test]
fn an_empty_variable_counts_as_unset() {
    let names = [
        "PINCH_RELAY_PORT",
        "PINCH_RELAY_PUBLIC_HOST",
        "PINCH_RELAY_RATE_LIMIT",
        "PINCH_RELAY_RATE_BURST",
        "PINCH_RELAY_JOIN_RATE",
        "PINCH_RELAY_JOIN_BURST",
        "PINCH_RELAY_ALLOWED_ORIGINS",
        "PINCH_RELAY_DB",
        "PINCH_RELAY_QUEUE_MAX",
        "PINCH_RELAY_QUEUE_TTL",
        "PINCH_TURNSTILE_SITE_KEY",
        "PINCH_TURNSTILE_SECRET_KEY",
        "PINCH_RELAY_UNKNOWN",
        "PORT",
    ];
    let empty = names.map(|name| (name, ""));
    assert_eq!(valid(&[], &empty), valid(&[], &[]));
}

#[test]
fn the_port_of_a_hosting_platform_counts_where_there_is_no_other() {
    let on = |flags, variables: &[Variable]| valid(flags, variables).listen;
    let port = ("PORT", "10000");
    assert_eq!(on(&[], &[port]), Listen::EveryInterface(10000));
    let own = on(&[], &[port, ("PINCH_RELAY_PORT", "9000")]);
    assert_eq!(own, Listen::EveryInterface(9000));
    let empty = on(&[], &[port, ("PINCH_RELAY_PORT", "")]);
    assert_eq!(empty, Listen::EveryInterface(10000));
    // Where it does not count, it may be anything.
    for (flags, variable) in [
        (&["--listen=127.0.0.1:1"][..], ("PINCH_RELAY_DB", "none")),
        (&[], ("PINCH_RELAY_PORT", "1")),
    ] {
        on(flags, &[variable, ("PORT", "/dev/ttyS0")]);
    }
    let wrong = error(&[], &[("PORT", "/dev/ttyS0")]);
    assert!(
        wrong.contains("for the environment variable PORT: expected a port"),
        "{wrong}"
    );
}

#[test]
fn the_list_of_origins_is_read_with_patience() {
    let of = |list| valid(&[], &[("PINCH_RELAY_ALLOWED_ORIGINS", list)]).allowed_origins;
    for all in ["*", " * ", "https://a.example.com,*", ",*,,"] {
        assert_eq!(of(all), AllowedOrigins::Any, "{all:?}");
    }
    for none in [" ", ",", " , ,"] {
        assert_eq!(of(none), AllowedOrigins::None, "{none:?}");
    }
    let expected = origins(&["https://a.example.com", "http://localhost:3000"]);
    assert_eq!(
        of("HTTPS://A.Example.Com/ ,, http://localhost:3000,"),
        expected
    );
}

#[test]
fn a_program_names_itself() {
    let version = parse(&["--version"], &[]).unwrap_err();
    assert_eq!(
        version.to_string(),
        format!("relay-test {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(version.exit_code(), 0);
}
