//! The lines of stdin, read by a thread of their own: a read of stdin cannot be cancelled, and would
//! keep a runtime from ending.

use std::io;
use std::thread;

use tokio::sync::mpsc::{Receiver, channel};

/// How many lines are read ahead.
const AHEAD: usize = 16;

/// The lines of stdin, until its end or an error.
pub(crate) fn lines() -> io::Result<Receiver<io::Result<String>>> {
    let (sender, receiver) = channel(AHEAD);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        for line in io::stdin().lines() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}
