//! What a relay's memory may hold, by the limits in the README's table.

use serde::Serialize;

const MIB: u64 = 1 << 20;

/// One of the limits.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// What it limits.
    pub what: &'static str,
    /// How many bytes.
    pub bytes: u64,
}

/// The limits of a relay with its default settings and so many connections.
#[must_use]
pub fn bounds(connections: u64) -> Vec<Bound> {
    let bound = |what, bytes| Bound { what, bytes };
    vec![
        bound("the program", 30 * MIB),
        bound("what the queue's file keeps in memory", 16 * MIB),
        bound("envelopes that wait or are not acknowledged", 256 * MIB),
        bound("messages that have begun", 64 * MIB),
        bound("blocks, in lists of 1,000", 20 * MIB),
        bound("joins that are remembered", 10 * MIB),
        bound("connections, 2 KiB each", connections * 2048),
    ]
}
