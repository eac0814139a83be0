//! The thread that has the store do what the hubs want.
//!
//! It takes all that was asked for since it looked before as one batch, so that a store which
//! commits a batch at once makes one commit for however many senders wait.

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::Wake;
use std::thread::{self, Thread};

use pinch_driver::Store;
use pinch_driver::parts::Batch;
use tracing::error;

use crate::shared::{Message, Shared, lock};
use crate::worker::Wanted;

/// Runs until nobody asks any more, or the relay has ended without the store's answer.
pub(crate) fn run(shared: &Shared, store: &dyn Store, wanted: &Receiver<Wanted>) {
    while let Ok(first) = wanted.recv() {
        let (mut shards, mut requests) = (Vec::new(), Vec::new());
        for (shard, some) in core::iter::once(first).chain(wanted.try_iter()) {
            shards.resize(shards.len() + some.len(), shard);
            requests.extend(some);
        }
        let (batch, operations) = Batch::new(requests);
        let Some(outcomes) = block_on(shared, store.execute(operations)) else {
            let store = store.name();
            error!(store, "the store did not answer before the end");
            return;
        };
        let mut health = lock(&shared.store_health);
        let (inputs, reports) = batch.complete(outcomes, store.name(), &mut health);
        drop(health);
        reports.into_iter().for_each(|report| shared.report(report));
        let mut answers: Vec<_> = shared.mailboxes.iter().map(|_| Vec::new()).collect();
        for (shard, input) in shards.into_iter().zip(inputs) {
            answers[shard.index()].push(input);
        }
        for (mailbox, answers) in shared.mailboxes.iter().zip(answers) {
            if !answers.is_empty() {
                mailbox.post(Message::Stored(answers));
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for `future`, unless the relay ends without it.
fn block_on<T>(shared: &Shared, future: impl Future<Output = T>) -> Option<T> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        match shared.store_patience() {
            None => thread::park(),
            Some(patience) if patience.is_zero() => return None,
            Some(patience) => thread::park_timeout(patience),
        }
    }
}
