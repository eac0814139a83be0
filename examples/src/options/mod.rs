//! The settings of a relay: flags, then environment variables, then defaults.
//!
//! All relay binaries have the same ones. A flag wins over its variable; a variable that is set must
//! make sense even then, and an empty one counts as unset. What cannot be understood ends the program
//! with code 2 and a message that names the flag or variable, the value, and what is accepted: a
//! relay never starts with other settings than it was given.

mod environment;
mod inspect;
mod limits;
mod queue;
mod values;

use core::net::{Ipv4Addr, SocketAddr};
use core::num::NonZero;
use core::time::Duration;
use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use pinch_driver::{AllowedOrigins, Auth, Builder};
use pinch_proto::Host;
use pinch_proto::hub::{Config, ConfigError, OnDuplicate};
use thiserror::Error;

use self::environment::Environment;
use self::inspect::InspectFlags;
pub use self::inspect::InspectOptions;
use self::limits::LimitFlags;
pub use self::limits::LimitOptions;
pub use self::queue::Database;
use self::queue::{QueueFlags, QueueVariables};
use self::values::Rate;
use crate::descriptors;
use crate::listening::Listen;

/// What a relay's program is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Be a relay.
    Relay(Box<Options>),
    /// Say what waits in the queue of one.
    InspectQueue(InspectOptions),
}

/// The settings of a relay.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where it listens.
    pub listen: Listen,
    /// Whether other relays may listen there, too.
    pub reuse_port: bool,
    /// The number of its hubs, unless there is one for each thread.
    pub shards: Option<NonZero<u16>>,
    /// How agents show that an address is their own.
    pub auth: Auth,
    /// The time for the HTTP request, and then again for the handshake.
    pub auth_timeout: Duration,
    /// Which browsers' pages may connect.
    pub allowed_origins: AllowedOrigins,
    /// What one source address may use, and which proxies are trusted.
    pub limits: LimitOptions,
    /// What the hub decides by.
    pub hub: Config,
    /// Where it keeps its queue.
    pub database: Database,
    /// The form of the logs.
    pub log: LogFormat,
    /// Variables that are set, and that older relays heed, but this one does not.
    pub without_effect: Vec<&'static str>,
}

/// Variables of older relays for what this one does not do: registration.
const WITHOUT_EFFECT: [&str; 5] = [
    "PINCH_RELAY_PENDING_KEY_TTL_HOURS",
    "PINCH_RELAY_PENDING_SWEEP_INTERVAL_MINUTES",
    "PINCH_RELAY_REGISTER_RATE_LIMIT",
    "PINCH_RELAY_REGISTER_RATE_BURST",
    "PINCH_TURNSTILE_SITE_KEY",
];

/// The variable that locks a relay: only approved keys may join.
const LOCK: &str = "PINCH_TURNSTILE_SECRET_KEY";

/// The form in which logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuthFlag {
    Challenge,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnDuplicateFlag {
    Refuse,
    Replace,
}

/// A Pinch relay: forwards end-to-end encrypted envelopes between agents.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
#[allow(clippy::doc_markdown, reason = "this is the text of the help")]
struct Flags {
    #[command(subcommand)]
    command: Option<Command>,

    /// Where to listen; port 0 lets the system pick one. PINCH_RELAY_PORT (or PORT, where it is
    /// absent), without this flag, sets the port and listens on every interface, with IPv4 and IPv6;
    /// with this flag, it has no effect. [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT", value_parser = values::listen)]
    listen: Option<SocketAddr>,

    /// Shares the port with other relays that have this flag, each a process of its own; the
    /// system deals connections out to them. Each has its own routing table, and needs its own
    /// queue, so agents of different processes do not reach each other unless something connects
    /// them: this is for measuring, and for relays whose agents are sharded by other means. An
    /// error on systems other than Linux and FreeBSD.
    #[arg(long)]
    reuse_port: bool,

    /// The number of hubs that share the work of this relay; each agent belongs to one of them.
    /// [default: one for each thread of the runtime]
    #[arg(long, value_name = "NUMBER", value_parser = values::shards)]
    shards: Option<NonZero<u16>>,

    /// The host in the addresses of this relay's agents. [env: PINCH_RELAY_PUBLIC_HOST]
    /// [default: localhost]
    #[arg(long, value_name = "HOST", value_parser = values::host)]
    public_host: Option<Host>,

    /// How agents show that an address is their own: by a key, or (for development and closed
    /// networks) by saying so.
    #[arg(long, value_name = "MODE", default_value = "challenge")]
    auth: AuthFlag,

    /// The time between two pings of a connection.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "25s")]
    heartbeat_interval: Duration,

    /// How long an agent may show no sign of life after a ping.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "7s")]
    pong_timeout: Duration,

    /// The time for the HTTP request, from when the connection is accepted, and then again for the
    /// handshake.
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "10s")]
    auth_timeout: Duration,

    /// How many envelopes an agent may send per second in the long run, or `off`.
    /// [env: PINCH_RELAY_RATE_LIMIT] [default: 1.0]
    #[arg(long, value_name = "NUMBER", value_parser = values::rate)]
    rate_limit: Option<Rate>,

    /// How many it may send at once. Without effect if the rate limit is off.
    /// [env: PINCH_RELAY_RATE_BURST] [default: 10]
    #[arg(long, value_name = "NUMBER", value_parser = values::burst)]
    rate_burst: Option<u32>,

    /// How often an agent may join per second in the long run, sessions that only send included, or
    /// `off`. One that joins more often is closed with 1013 and told when to try again.
    /// [env: PINCH_RELAY_JOIN_RATE] [default: 2.0]
    #[arg(long, value_name = "NUMBER", value_parser = values::rate)]
    join_rate: Option<Rate>,

    /// How often it may join at once. Without effect if the join rate is off.
    /// [env: PINCH_RELAY_JOIN_BURST] [default: 60]
    #[arg(long, value_name = "NUMBER", value_parser = values::burst)]
    join_burst: Option<u32>,

    /// The `Origin` headers that may connect, such as `https://app.example.com`, separated by
    /// commas; `*` for all. Browsers send that of the page, and some native programs (React Native,
    /// Python's websocket-client) that of the relay, which is allowed if it equals the `Host` header
    /// and its host is the public host or in this list. Requests without an `Origin` are always
    /// allowed.
    /// [env: PINCH_RELAY_ALLOWED_ORIGINS] [default: none]
    #[arg(long, value_name = "LIST", value_parser = values::origins)]
    allowed_origins: Option<AllowedOrigins>,

    /// What happens when an address joins that is connected already: the second connection is
    /// refused, or replaces the first.
    #[arg(long, value_name = "ACTION", default_value = "refuse")]
    on_duplicate: OnDuplicateFlag,

    /// The form of the logs on stderr. RUST_LOG selects what is logged (without it, info).
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: LogFormat,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    queue: QueueFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the queue of a relay that is not running.
    #[command(subcommand)]
    Queue(QueueCommand),
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Says for whom how many envelopes wait, and since when; never what is in them. Nothing in
    /// the file is changed.
    Inspect(InspectFlags),
}

/// An environment variable makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid value {value:?} for the environment variable {name}: {expected}")]
struct VariableError {
    name: &'static str,
    value: OsString,
    expected: String,
}

impl Invocation {
    /// What this process, which is a `program`, is asked to do. Prints what is asked for, or what is
    /// wrong, and ends the process if it cannot go on.
    #[must_use]
    pub fn of_process(program: &'static str) -> Self {
        Self::parse(program, std::env::args_os(), std::env::vars_os())
            .unwrap_or_else(|error| error.exit())
    }

    /// What a `program` is asked for by `arguments` (of which the first is the name that it was called
    /// by) and by environment variables.
    ///
    /// # Errors
    /// An error that prints itself. Help and version are errors of that kind, too.
    pub fn parse(
        program: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let called = arguments.first().map(Path::new).and_then(Path::file_name);
        let called = called.unwrap_or_default().to_string_lossy().into_owned();
        let command = Flags::command().name(program);
        let mut flags = Flags::from_arg_matches(&command.try_get_matches_from(arguments)?)?;
        let invalid = |message: String| {
            let mut command = Flags::command().bin_name(&called);
            command.error(ErrorKind::ValueValidation, message)
        };
        let environment = Environment::new(variables);
        environment.check_names().map_err(invalid)?;
        let variables = |name: &str| environment.get(name);
        if let Some(Command::Queue(QueueCommand::Inspect(flags))) = flags.command.take() {
            let options = flags.merge(variables).map_err(invalid)?;
            return Ok(Self::InspectQueue(options));
        }
        let without_effect = WITHOUT_EFFECT.into_iter();
        let without_effect = without_effect
            .filter(|name| variables(name).is_some())
            .collect();
        if variables(LOCK).is_some() {
            return Err(invalid(format!(
                "the environment variable {LOCK} is set, which locks a relay: only approved keys may \
                 join. This relay cannot be locked, and does not start open instead; unset it to let \
                 every key join"
            )));
        }
        let is_listening = flags.listen.is_some();
        let variables = Variables::read(variables, is_listening);
        let variables = variables.map_err(|error| invalid(error.to_string()))?;
        let options = Options::merge(flags, variables);
        let options = options.map_err(|error| invalid(error.to_string()))?;
        Ok(Self::Relay(Box::new(Options {
            without_effect,
            ..options
        })))
    }
}

impl Options {
    fn merge(flags: Flags, variables: Variables) -> Result<Self, ConfigError> {
        let by_port = variables.port.map(Listen::EveryInterface);
        let default = Listen::Address((Ipv4Addr::LOCALHOST, 8080).into());
        let rate = flags.rate_limit.or(variables.rate_limit);
        let burst = flags.rate_burst.or(variables.rate_burst);
        let rate_limit = rate.unwrap_or(Rate::PerSecond(1.0));
        let rate_limit = rate_limit.with_burst(burst.unwrap_or(10))?;
        let rate = flags.join_rate.or(variables.join_rate);
        let burst = flags.join_burst.or(variables.join_burst);
        let join_limit = rate.unwrap_or(Rate::PerSecond(2.0));
        let join_limit = join_limit.with_burst(burst.unwrap_or(60))?;
        let host = flags
            .public_host
            .or(variables.public_host)
            .unwrap_or_else(values::localhost);
        let hub = Config::new(host)
            .heartbeat_interval(flags.heartbeat_interval)
            .pong_timeout(flags.pong_timeout)
            .rate_limit(rate_limit)
            .join_limit(join_limit)
            .on_duplicate(match flags.on_duplicate {
                OnDuplicateFlag::Refuse => OnDuplicate::Refuse,
                OnDuplicateFlag::Replace => OnDuplicate::Replace,
            });
        let (database, hub) = flags.queue.merge(variables.queue, hub);
        Ok(Self {
            listen: flags
                .listen
                .map(Listen::Address)
                .or(by_port)
                .unwrap_or(default),
            reuse_port: flags.reuse_port,
            shards: flags.shards,
            auth: match flags.auth {
                AuthFlag::Challenge => Auth::Challenge,
                AuthFlag::Open => Auth::Open,
            },
            auth_timeout: flags.auth_timeout,
            allowed_origins: flags
                .allowed_origins
                .or(variables.allowed_origins)
                .unwrap_or_default(),
            limits: flags.limits.merge()?,
            hub: hub.build()?,
            database,
            log: flags.log,
            without_effect: Vec::new(),
        })
    }

    /// Lowers the limits of pending handshakes and connections, so that both have room in `limit`
    /// file descriptors, and no address gets more than a quarter of the connections.
    pub fn fit_descriptors(&mut self, limit: usize) {
        let limits = &mut self.limits.limits;
        let (pending, connections) = descriptors::share(limit, limits.max_total_pending());
        let connections = connections.min(self.hub.connection_limit());
        let of_address = limits.max_connections().min((connections / 4).max(1));
        *limits = limits
            .clone()
            .total_pending(pending)
            .connections(of_address);
        self.hub = self.hub.clone().max_connections(connections);
    }

    /// Hands the settings to a relay that is about to be bound, but for its store.
    pub fn apply<R>(&self, builder: Builder<R>) -> Builder<R> {
        let mut builder = self.limits.apply(builder);
        if let Some(shards) = self.shards {
            builder = builder.shards(shards);
        }
        builder
            .hub(self.hub.clone())
            .auth(self.auth)
            .auth_timeout(self.auth_timeout)
            .allowed_origins(self.allowed_origins.clone())
    }
}

/// What the environment says.
#[derive(Debug)]
struct Variables {
    port: Option<u16>,
    public_host: Option<Host>,
    rate_limit: Option<Rate>,
    rate_burst: Option<u32>,
    join_rate: Option<Rate>,
    join_burst: Option<u32>,
    allowed_origins: Option<AllowedOrigins>,
    queue: QueueVariables,
}

impl Variables {
    /// `is_listening` says that a flag has the address to listen on. Then `PORT` may mean anything:
    /// other programs have it, too.
    fn read(
        variables: impl Fn(&str) -> Option<OsString>,
        is_listening: bool,
    ) -> Result<Self, VariableError> {
        let mut port = variable(&variables, "PINCH_RELAY_PORT", values::port)?;
        if port.is_none() && !is_listening {
            port = variable(&variables, "PORT", values::port)?;
        }
        Ok(Self {
            port,
            public_host: variable(&variables, "PINCH_RELAY_PUBLIC_HOST", values::host)?,
            rate_limit: variable(&variables, "PINCH_RELAY_RATE_LIMIT", values::rate)?,
            rate_burst: variable(&variables, "PINCH_RELAY_RATE_BURST", values::burst)?,
            join_rate: variable(&variables, "PINCH_RELAY_JOIN_RATE", values::rate)?,
            join_burst: variable(&variables, "PINCH_RELAY_JOIN_BURST", values::burst)?,
            allowed_origins: variable(&variables, "PINCH_RELAY_ALLOWED_ORIGINS", values::origins)?,
            queue: QueueVariables::read(&variables)?,
        })
    }
}

fn variable<T>(
    variables: impl Fn(&str) -> Option<OsString>,
    name: &'static str,
    parser: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, VariableError> {
    let Some(value) = variables(name) else {
        return Ok(None);
    };
    let parsed = value
        .to_str()
        .map_or_else(|| Err("expected UTF-8".into()), parser);
    parsed.map(Some).map_err(|expected| VariableError {
        name,
        value,
        expected,
    })
}

#[cfg(test)]
mod tests;
