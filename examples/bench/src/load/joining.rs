//! How many agents join, some at a time, and how long that takes.

use core::time::Duration;
use std::time::Instant;

use serde::Serialize;

use super::LoadError;
use super::clients::Clients;
use super::connection::{Ending, Event};
use super::identity::Identity;
use super::tally::Tally;

/// When nobody has joined for so long, those who have not will not.
const PATIENCE: Duration = Duration::from_secs(15);

const TICK: Duration = Duration::from_millis(50);

/// How joining went.
#[derive(Clone, Debug, Serialize)]
pub struct Joins {
    /// How many agents have joined.
    pub joined: usize,
    /// Why the others have not.
    pub failed: Tally,
    /// How long it took, all in all.
    pub seconds: f64,
    /// Joins per second.
    pub per_second: f64,
}

/// Lets all `identities` join, `concurrency` at a time. Their numbers are those of their places.
pub(super) fn join_all(
    clients: &mut Clients,
    identities: &[Identity],
    concurrency: usize,
) -> Result<Joins, LoadError> {
    let begin = Instant::now();
    let mut progress = Progress::new(identities.len());
    let mut waiting = identities.iter();
    while progress.settled < identities.len() {
        let under_way = identities.len() - waiting.len() - progress.settled;
        for identity in waiting.by_ref().take(concurrency - under_way) {
            clients.join(identity)?;
        }
        clients.poll(TICK, |number, event| progress.take(number, event))?;
        if progress.last.elapsed() > PATIENCE {
            progress.give_up(clients);
            break;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let joined = identities.len() - progress.failed.total();
    Ok(Joins {
        joined,
        failed: progress.failed,
        seconds,
        per_second: joined as f64 / seconds,
    })
}

struct Progress {
    fates: Vec<Fate>,
    /// How many have joined or failed.
    settled: usize,
    failed: Tally,
    last: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Joined,
    Failed,
}

impl Progress {
    fn new(count: usize) -> Self {
        Self {
            fates: vec![Fate::Open; count],
            settled: 0,
            failed: Tally::default(),
            last: Instant::now(),
        }
    }

    fn take(&mut self, number: usize, event: Event<'_>) {
        match event {
            Event::Joined => self.settle(number, Fate::Joined),
            Event::Ended(ending) => {
                self.failed.add(&ending);
                self.settle(number, Fate::Failed);
            }
            Event::Received { .. } | Event::Drained => {}
        }
    }

    fn settle(&mut self, number: usize, fate: Fate) {
        if self.fates[number] == Fate::Open {
            self.settled += 1;
            self.last = Instant::now();
        }
        self.fates[number] = fate;
    }

    fn give_up(&mut self, clients: &mut Clients) {
        for number in 0..self.fates.len() {
            if self.fates[number] == Fate::Open {
                clients.cut(number);
                self.take(number, Event::Ended(Ending::TooSlow));
            }
        }
    }
}
