//! From text to a setting. Every error says what is accepted; who asked adds the name and the value.

use core::net::SocketAddr;
use core::num::NonZero;
use core::time::Duration;

use bytesize::ByteSize;
use pinch_driver::AllowedOrigins;
use pinch_proto::Host;
use pinch_proto::hub::{ConfigError, RateLimit, Shards};

use super::Database;
use super::environment::NO_SERVICE_LINKS;

/// How fast an agent may send, or join.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    PerSecond(f64),
    Off,
}

impl Rate {
    pub(super) fn with_burst(self, burst: u32) -> Result<Option<RateLimit>, ConfigError> {
        match self {
            Self::PerSecond(per_second) => RateLimit::new(per_second, burst).map(Some),
            Self::Off => Ok(None),
        }
    }
}

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Longer than any sensible interval, short enough for every clock.
const MAX_DURATION: Duration = HOUR.saturating_mul(24);

/// Ten years.
const MAX_TTL_HOURS: u32 = 10 * 365 * 24;

pub(super) fn localhost() -> Host {
    Host::parse("localhost").expect("localhost is a host")
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080"
            .into()
    })
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    const EXPECTED: &str = "expected a port, 0 to 65535";
    text.parse().map_err(|_| {
        if text.starts_with("tcp://") {
            format!("{EXPECTED}. {NO_SERVICE_LINKS}")
        } else {
            EXPECTED.into()
        }
    })
}

pub(super) fn host(text: &str) -> Result<Host, String> {
    Host::parse(text).map_err(|error| error.to_string())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if (Duration::from_millis(1)..=MAX_DURATION).contains(&duration) => {
            Ok(duration)
        }
        Ok(_) | Err(_) => Err("expected 1ms to 24h, such as 500ms, 25s or 1m 30s".into()),
    }
}

pub(super) fn database(text: &str) -> Result<Database, String> {
    match text {
        "" => Err("expected the path of a file, or none".into()),
        "none" => Ok(Database::None),
        path => Ok(Database::File(path.into())),
    }
}

pub(super) fn queue_max(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err(format!("expected a number of envelopes, 1 to {}", u64::MAX)),
    }
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let longest = HOUR * MAX_TTL_HOURS;
    match humantime::parse_duration(text) {
        Ok(ttl) if (Duration::from_secs(1)..=longest).contains(&ttl) => Ok(ttl),
        Ok(_) | Err(_) => Err("expected 1s to 3650days, such as 90m, 12h or 7days".into()),
    }
}

pub(super) fn ttl_hours(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(hours) if (1..=MAX_TTL_HOURS).contains(&hours) => Ok(HOUR * hours),
        Ok(_) | Err(_) => Err(format!("expected hours, 1 to {MAX_TTL_HOURS}")),
    }
}

pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    match text.parse() {
        Ok(size) if size > ByteSize(0) => Ok(size),
        Ok(_) | Err(_) => Err("expected a number of bytes, such as 500000, 64MiB or 4GiB".into()),
    }
}

pub(super) fn rate(text: &str) -> Result<Rate, String> {
    if text == "off" {
        return Ok(Rate::Off);
    }
    match text.parse() {
        // The burst is another setting; with any, the rate alone is checked here.
        Ok(per_second) if RateLimit::new(per_second, 1).is_ok() => Ok(Rate::PerSecond(per_second)),
        Ok(_) | Err(_) => {
            Err("expected envelopes per second, 0.000001 to 1000000000, or off".into())
        }
    }
}

pub(super) fn burst(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(burst) if burst > 0 => Ok(burst),
        Ok(_) | Err(_) => Err(format!("expected a number of envelopes, 1 to {}", u32::MAX)),
    }
}

pub(super) fn shards(text: &str) -> Result<NonZero<u16>, String> {
    let shards = text.parse::<NonZero<u16>>().ok();
    let shards = shards.filter(|shards| *shards <= Shards::MAX);
    shards.ok_or_else(|| format!("expected a number of hubs, 1 to {}", Shards::MAX))
}

/// Blanks and empty items are ignored, and `*` anywhere allows all.
pub(super) fn origins(text: &str) -> Result<AllowedOrigins, String> {
    if text.is_empty() {
        return origin(text).map(|origin| AllowedOrigins::List(vec![origin]));
    }
    let items: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    if items.contains(&"*") {
        return Ok(AllowedOrigins::Any);
    }
    let list = items.into_iter().map(origin).collect::<Result<Vec<_>, _>>();
    list.map(|list| {
        if list.is_empty() {
            AllowedOrigins::None
        } else {
            AllowedOrigins::List(list)
        }
    })
}

/// An origin as browsers write it: without the slash that people like to add.
fn origin(text: &str) -> Result<String, String> {
    let origin = text.strip_suffix('/').unwrap_or(text);
    let is_origin = origin.parse().is_ok_and(|uri: http::Uri| {
        let authority = uri
            .authority()
            .is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
        uri.scheme().is_some() && authority && uri.path_and_query().is_none_or(|it| it == "/")
    });
    if is_origin && !origin.contains('*') {
        Ok(origin.to_ascii_lowercase())
    } else {
        Err(
            "expected origins such as https://app.example.com, separated by commas; * for all"
                .into(),
        )
    }
}
