//! The one timer of a shard: sleeps until its hub's next deadline, whatever that is for.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use pinch_proto::hub::ShardId;

use super::counts::VitalTask;
use super::hubs::{Due, Left};
use super::shared::Shared;
use crate::Runtime;

/// How `/health` names its task.
pub(super) const NAME: &str = "timer";

/// Starts the timer. It ends when the relay has shut down, or is dropped.
pub(super) fn spawn<R: Runtime>(shared: Arc<Shared<R>>, shard: ShardId) {
    let count = shared.count_task();
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        {
            let _vital = VitalTask::new(&shared, NAME);
            let mut sleep = None;
            poll_fn(|cx| poll(&shared, shard, &mut sleep, cx)).await;
            shared.log_all_reports();
        }
        drop(count);
    });
}

fn poll<R: Runtime>(
    shared: &Shared<R>,
    shard: ShardId,
    sleep: &mut Option<Pin<Box<R::Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let (due, cut) = shared.visit(shard, &mut Left::default(), |state, now| {
            // Looked at under the lock: a cut takes it afterwards, and finds this waker.
            (state.handle_timeout(now, cx.waker()), shared.is_cut())
        });
        // A shard that has shut down takes what others still have for it.
        if cut || shared.has_shut_down() {
            return Poll::Ready(());
        }
        // The first of them sees to the log as well.
        let is_first = shard == ShardId::default();
        let log_at = is_first.then(|| shared.log_due_reports());
        match due.or_at(log_at.flatten()) {
            Due::Unknown => {
                *sleep = None;
                return Poll::Pending;
            }
            Due::Now => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Due::At(at) => {
                let timer = sleep.insert(Box::pin(
                    shared.runtime.sleep_until(shared.clock.instant(at)),
                ));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
    }
}
