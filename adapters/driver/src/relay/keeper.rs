//! The one task that has the store do what the hub wants.
//!
//! It takes all that was asked for since it looked before as one batch, so that a store which
//! commits a batch at once makes one commit for however many senders wait. What the operations mean
//! is the hub's business; here they are carried there and back.

use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use futures_util::future::{Either, select};
use pinch_proto::hub::Input;
use pinch_proto::queue::{Failure, Operation, Outcome, Request, Ticket};
use tracing::error;

use super::counts::VitalTask;
use super::reports::Report;
use super::switchboard::{Shared, Wakes};
use crate::clock::within;
use crate::{Runtime, Store};

/// How long a store may take for what a relay that is dropped leaves behind.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How many outcomes are handed in before others get the hub's lock.
const ANSWERS: usize = 256;

/// How the store of a relay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// The relay has no store.
    #[default]
    None,
    /// It did what it was last asked.
    Working,
    /// It did, but an operator has to see to this: see [`Store::warning`].
    Warning(&'static str),
    /// It has failed, and has written nothing since.
    Failing(Failure),
}

impl StoreHealth {
    /// A few words for it, as `/health` says them.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Working => "ok",
            Self::Warning(warning) => warning,
            Self::Failing(Failure::DiskFull) => "disk full",
            Self::Failing(Failure::ReadOnly) => "read-only",
            Self::Failing(Failure::Broken) => "broken",
        }
    }
}

/// Starts the keeper of `store`. It ends when the relay has shut down, or was dropped and
/// everything that its connections left behind is stored.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, store: Arc<dyn Store>) {
    let count = shared.count_task();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        keep(&shared, &*store).await;
        drop(count);
    });
}

async fn keep<R: Runtime>(shared: &Shared<R>, store: &dyn Store) {
    let _vital = VitalTask::new(shared, "store");
    while let Some(batch) = next_batch(shared).await {
        let (tickets, operations) = unzip(batch);
        let writes: Vec<bool> = operations.iter().map(is_write).collect();
        let Some(outcomes) = unless_over(shared, store.execute(operations)).await else {
            error!(
                store = store.name(),
                "the store did not answer before the end"
            );
            break;
        };
        let outcomes = complete(outcomes, tickets.len());
        note(shared, store, &writes, &outcomes);
        answer(shared, &tickets, outcomes);
    }
}

/// What the hub wants next; `None` if it will want nothing more.
async fn next_batch<R: Runtime>(shared: &Shared<R>) -> Option<Vec<Request>> {
    poll_fn(|cx| {
        let mut switchboard = shared.lock();
        let batch = switchboard.take_requests(cx.waker());
        if !batch.is_empty() {
            return Poll::Ready(Some(batch));
        }
        // Whoever else is left may have something to leave behind.
        if switchboard.has_shut_down() || (shared.is_cut() && shared.is_last_task()) {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Awaits `work`, unless the relay ends without it: the hub waits for no answer any more, or the
/// relay was dropped, and the store takes too long.
async fn unless_over<R: Runtime, T>(
    shared: &Shared<R>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let over = async {
        poll_fn(|cx| {
            let mut switchboard = shared.lock();
            switchboard.wait_for_end(cx.waker());
            if switchboard.has_shut_down() || shared.is_cut() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        if shared.is_cut() {
            let _ = within(&shared.runtime, LAST_WORDS, pending::<()>()).await;
        }
    };
    match select(pin!(work), pin!(over)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

fn unzip(batch: Vec<Request>) -> (Vec<Ticket>, Vec<Operation>) {
    batch
        .into_iter()
        .map(|Request { ticket, operation }| (ticket, operation))
        .unzip()
}

const fn is_write(operation: &Operation) -> bool {
    match operation {
        Operation::Append(_)
        | Operation::Remove { .. }
        | Operation::Block { .. }
        | Operation::Unblock { .. }
        | Operation::Seen { .. }
        | Operation::ForgetBlocks { .. } => true,
        // There may have been nothing to write.
        Operation::Read(_) | Operation::Expire { .. } => false,
    }
}

/// Makes up for outcomes that a store has forgotten: an operation without one has failed.
fn complete(mut outcomes: Vec<Outcome>, operations: usize) -> Vec<Outcome> {
    let count = outcomes.len();
    outcomes.resize_with(operations, || Outcome::Failed {
        failure: Failure::Broken,
        detail: format!("{count} outcomes for {operations} operations").into(),
    });
    outcomes
}

/// Keeps the health up to date, and says when it changes.
fn note<R: Runtime>(shared: &Shared<R>, store: &dyn Store, writes: &[bool], outcomes: &[Outcome]) {
    let name = || store.name().to_owned();
    let mut failed = Vec::new();
    let mut switchboard = shared.lock();
    let before = switchboard.store_health();
    for (is_write, outcome) in writes.iter().zip(outcomes) {
        match outcome {
            Outcome::Failed { failure, detail } => {
                let health = StoreHealth::Failing(*failure);
                if switchboard.store_health() != health {
                    failed.push(Report::StoreFailed {
                        store: name(),
                        failure: *failure,
                        detail: detail.clone(),
                    });
                    switchboard.set_store_health(health);
                }
            }
            Outcome::Done | Outcome::Appended { .. } if *is_write => {
                switchboard.set_store_health(StoreHealth::Working);
            }
            Outcome::Done
            | Outcome::Appended { .. }
            | Outcome::Entries { .. }
            | Outcome::Expired { .. }
            | Outcome::Refused(_) => {}
        }
    }
    let after = switchboard.store_health();
    drop(switchboard);
    failed.into_iter().for_each(|report| shared.report(report));
    if before != StoreHealth::Working && after == StoreHealth::Working {
        shared.report(Report::StoreWorks { store: name() });
    }
}

fn answer<R: Runtime>(shared: &Shared<R>, tickets: &[Ticket], outcomes: Vec<Outcome>) {
    let mut answers = tickets.iter().copied().zip(outcomes).peekable();
    while answers.peek().is_some() {
        let mut wakes = Wakes::default();
        let mut switchboard = shared.lock();
        for (ticket, outcome) in answers.by_ref().take(ANSWERS) {
            let input = Input::Stored { ticket, outcome };
            switchboard.handle(input, shared.clock.now(), &mut wakes, |_| ());
        }
        drop(switchboard);
        shared.after_lock(&mut wakes);
    }
}
