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
use pinch_proto::hub::{Input, ShardId};
use pinch_proto::queue::{Failure, Operation, Outcome, Request, Ticket};
use tracing::error;

use super::counts::VitalTask;
use super::hubs::Left;
use super::reports::Report;
use super::shared::Shared;
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

    /// The same, with what the store warns of if it works.
    #[must_use]
    pub fn with_warning(self, warning: Option<&'static str>) -> Self {
        match (self, warning) {
            (Self::Working, Some(warning)) => Self::Warning(warning),
            (health, _) => health,
        }
    }
}

/// Operations that a store executes together, and what to do with their outcomes.
#[derive(Debug)]
pub struct Batch {
    tickets: Vec<Ticket>,
    /// The operations that write something in any case.
    writes: Vec<bool>,
}

impl Batch {
    /// Makes a batch of what a hub wants; returns the operations with it.
    #[must_use]
    pub fn new(requests: Vec<Request>) -> (Self, Vec<Operation>) {
        let unzipped = requests
            .into_iter()
            .map(|Request { ticket, operation }| (ticket, operation));
        let (tickets, operations): (_, Vec<Operation>) = unzipped.unzip();
        let writes = operations.iter().map(is_write).collect();
        (Self { tickets, writes }, operations)
    }

    /// Keeps `health` of the store `name` up to date; returns the answers for the hub, and what is
    /// to be reported. An operation whose outcome the store has forgotten has failed.
    #[must_use]
    pub fn complete(
        self,
        mut outcomes: Vec<Outcome>,
        name: &str,
        health: &mut StoreHealth,
    ) -> (Vec<Input>, Vec<Report>) {
        let (count, operations) = (outcomes.len(), self.tickets.len());
        outcomes.resize_with(operations, || Outcome::Failed {
            failure: Failure::Broken,
            detail: format!("{count} outcomes for {operations} operations").into(),
        });
        let mut reports = Vec::new();
        let before = *health;
        for (is_write, outcome) in self.writes.iter().zip(&outcomes) {
            match outcome {
                Outcome::Failed { failure, detail } => {
                    let failing = StoreHealth::Failing(*failure);
                    if *health != failing {
                        reports.push(Report::StoreFailed {
                            store: name.to_owned(),
                            failure: *failure,
                            detail: detail.clone(),
                        });
                        *health = failing;
                    }
                }
                Outcome::Done | Outcome::Appended { .. } if *is_write => {
                    *health = StoreHealth::Working;
                }
                Outcome::Done
                | Outcome::Appended { .. }
                | Outcome::Entries { .. }
                | Outcome::Expired { .. }
                | Outcome::Refused(_) => {}
            }
        }
        if before != StoreHealth::Working && *health == StoreHealth::Working {
            reports.push(Report::StoreWorks {
                store: name.to_owned(),
            });
        }
        let answers = self.tickets.into_iter().zip(outcomes);
        let answers = answers.map(|(ticket, outcome)| Input::Stored { ticket, outcome });
        (answers.collect(), reports)
    }
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
    while let Some((counts, requests)) = next_requests(shared).await {
        let (batch, operations) = Batch::new(requests);
        let Some(outcomes) = unless_over(shared, store.execute(operations)).await else {
            error!(
                store = store.name(),
                "the store did not answer before the end"
            );
            break;
        };
        let (answers, reports) = batch.complete(outcomes, store.name(), &mut shared.store_health());
        reports.into_iter().for_each(|report| shared.report(report));
        let mut answers = answers.into_iter();
        for (shard, count) in counts {
            answer(shared, shard, answers.by_ref().take(count));
        }
    }
}

/// What hubs want of the store, together, and how much of it is of which.
type Requests = (Vec<(ShardId, usize)>, Vec<Request>);

/// What the hubs want next; `None` if they will want nothing more.
async fn next_requests<R: Runtime>(shared: &Shared<R>) -> Option<Requests> {
    poll_fn(|cx| {
        // Looked at first: what other tasks leave behind at their end is found below.
        let is_over = shared.wait_for_requests(cx.waker()) || shared.has_shut_down();
        let (mut counts, mut requests) = (Vec::new(), Vec::new());
        for shard in shared.shards.all() {
            let mut own = shared.visit(shard, &mut Left::default(), |state, _| {
                state.take_requests()
            });
            counts.push((shard, own.len()));
            requests.append(&mut own);
        }
        match requests.is_empty() {
            false => Poll::Ready(Some((counts, requests))),
            true if is_over => Poll::Ready(None),
            true => Poll::Pending,
        }
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
        shared.is_over().await;
        if shared.is_cut() {
            let _ = within(&shared.runtime, LAST_WORDS, pending::<()>()).await;
        }
    };
    match select(pin!(work), pin!(over)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// Hands answers of the store to the hub that has asked.
fn answer<R: Runtime>(shared: &Shared<R>, shard: ShardId, answers: impl Iterator<Item = Input>) {
    let mut answers = answers.peekable();
    let mut left = Left::default();
    while answers.peek().is_some() {
        shared.visit(shard, &mut left, |state, now| {
            for answer in answers.by_ref().take(ANSWERS) {
                state.handle(answer, now);
            }
        });
    }
}
