//! The environment variables of a relay: those that operators of the Go relay already use, and some more.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// All that a relay knows, and `PORT`.
const KNOWN: [&str; 16] = [
    "PINCH_RELAY_ALLOWED_ORIGINS",
    "PINCH_RELAY_DB",
    "PINCH_RELAY_JOIN_BURST",
    "PINCH_RELAY_JOIN_RATE",
    "PINCH_RELAY_PENDING_KEY_TTL_HOURS",
    "PINCH_RELAY_PENDING_SWEEP_INTERVAL_MINUTES",
    "PINCH_RELAY_PORT",
    "PINCH_RELAY_PUBLIC_HOST",
    "PINCH_RELAY_QUEUE_MAX",
    "PINCH_RELAY_QUEUE_TTL",
    "PINCH_RELAY_RATE_BURST",
    "PINCH_RELAY_RATE_LIMIT",
    "PINCH_RELAY_REGISTER_RATE_BURST",
    "PINCH_RELAY_REGISTER_RATE_LIMIT",
    "PINCH_TURNSTILE_SECRET_KEY",
    "PINCH_TURNSTILE_SITE_KEY",
];

/// Names that begin like this are meant for a relay.
const PREFIXES: [&str; 2] = ["PINCH_RELAY_", "PINCH_TURNSTILE_"];

/// How Kubernetes names what it says of a service `pinch-relay` to every container.
const KUBERNETES: [&str; 2] = ["PINCH_RELAY_SERVICE_", "PINCH_RELAY_PORT_"];

/// What to do about variables that Kubernetes sets.
pub(super) const NO_SERVICE_LINKS: &str = "Kubernetes sets this for a service named pinch-relay: \
     set enableServiceLinks to false, or name the service otherwise";

/// The variables that are set, and not empty: an empty one counts as unset.
#[derive(Debug)]
pub(super) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter();
        Self(variables.filter(|(_, value)| !value.is_empty()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<OsString> {
        self.0.get(OsStr::new(name)).cloned()
    }

    /// Looks for names that are meant for a relay, and which it does not know.
    pub(super) fn check_names(&self) -> Result<(), String> {
        let names = self.0.keys().map(|name| name.to_string_lossy());
        let mut meant = names.filter(|name| PREFIXES.iter().any(|it| name.starts_with(it)));
        let Some(unknown) = meant.find(|name| !KNOWN.contains(&name.as_ref())) else {
            return Ok(());
        };
        let message = format!("unknown environment variable {unknown}");
        if KUBERNETES.iter().any(|prefix| unknown.starts_with(prefix)) {
            return Err(format!("{message}: {NO_SERVICE_LINKS}"));
        }
        let distance = |name: &&&str| strsim::damerau_levenshtein(name, &unknown);
        let nearest = KNOWN.iter().min_by_key(distance);
        let nearest = nearest.map_or_else(String::new, |name| format!("; the nearest is {name}"));
        Err(format!("{message}{nearest}"))
    }
}
