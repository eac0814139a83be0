//! The TCP sockets that come in.

use core::pin::pin;
use core::time::Duration;
use std::io::ErrorKind;
use std::sync::Arc;

use futures_util::future::select;
use tracing::warn;

use super::accept::{self, Entry};
use super::switchboard::Shared;
use crate::Runtime;

/// How long to wait after the system could not give a socket: usually it is out of descriptors,
/// and trying again at once would only burn the CPU.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the relay shuts down or is dropped.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, listener: R::Listener) {
    let count = shared.count_task();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        // The listener is gone before the count is.
        let _count = count;
        let listener = listener;
        select(pin!(accept_all(&shared, &listener)), pin!(shared.closed())).await;
    });
}

async fn accept_all<R: Runtime>(shared: &Arc<Shared<R>>, listener: &R::Listener) {
    loop {
        match shared.runtime.accept(listener).await {
            Ok((stream, _)) => accept::spawn(Arc::clone(shared), stream, Entry::Fresh),
            // One that has not waited to be accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                let until = shared.runtime.now() + PAUSE;
                shared.runtime.sleep_until(until).await;
            }
        }
    }
}
