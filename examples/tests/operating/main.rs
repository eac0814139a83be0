//! What happens to a relay that is operated: logs that cannot be written, signals, settings. With
//! processes and real sockets, on each runtime.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod logs;
mod queue;
mod relay;
mod settings;
mod signals;

use core::time::Duration;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);
