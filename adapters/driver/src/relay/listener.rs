//! The TCP sockets that come in.

use core::pin::pin;
use core::time::Duration;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use futures_util::future::select;

use super::counts::VitalTask;
use super::pump;
use super::reports::Report;
use super::shared::Shared;
use crate::Runtime;
use crate::session::Entry;

/// How long to wait after the system could not give a socket: usually it is out of descriptors,
/// and trying again at once would only burn the CPU.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a relay that shuts down goes on to accept: the runtime may not know yet of connections
/// that wait.
pub const LAST_ACCEPTS: Duration = Duration::from_millis(50);

/// How many handshakes give way when descriptors are short, for those that wait to be accepted.
pub const SHED: usize = 64;

/// Accepts connections until the relay shuts down or is dropped.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, listener: R::Listener) {
    let count = shared.count_task();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        // The listener is gone before the count is.
        let _count = count;
        let listener = listener;
        let _vital = VitalTask::new(&shared, "listener");
        select(pin!(over(&shared)), pin!(accept_all(&shared, &listener))).await;
    });
}

async fn accept_all<R: Runtime>(shared: &Arc<Shared<R>>, listener: &R::Listener) {
    loop {
        match shared.runtime.accept(listener).await {
            Ok((stream, peer)) => {
                pump::spawn(shared, stream, Some(peer.ip()), Entry::Accepted);
            }
            // One that has not waited to be accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if is_out_of_descriptors(&error) {
                    for _ in 0..SHED {
                        shared.shed();
                    }
                }
                shared.report(Report::NotAccepted(error));
                let until = shared.runtime.now() + ACCEPT_PAUSE;
                shared.runtime.sleep_until(until).await;
            }
        }
    }
}

/// Whether this process, or the system, has no descriptor left: `ENFILE` and `EMFILE`, which are the
/// same on all Unix systems, and `WSAEMFILE`.
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 10024))
}

/// Completes when the relay accepts no more. One that shuts down goes on for a moment: connections
/// that wait are told so, instead of being reset by the end of the listener.
async fn over<R: Runtime>(shared: &Shared<R>) {
    shared.closed().await;
    let late = shared.runtime.now() + LAST_ACCEPTS;
    let late = pin!(shared.runtime.sleep_until(late));
    select(late, pin!(shared.was_cut())).await;
}
