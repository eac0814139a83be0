//! The end of every story: everybody reads what there is, and leaves; then nothing is held, and nothing
//! was lost.

use core::time::Duration;

use pinch_proto::hub::{ConnId, Input, Output, WakeupReason};

use super::run::Run;
use super::settings::Settings;
use super::turn::Broken;

/// So often everybody looks again at the end where nothing moves: longer than any timeout takes.
const PATIENCE: usize = 40;

/// Longer than the longest timeout with its grace.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(4);

impl Run {
    /// Lets everybody read what there is, and leave: then nothing is held, and nothing was lost.
    ///
    /// # Errors
    /// [`Broken`] if that is not so.
    pub fn finish(mut self) -> Result<(), Box<Broken>> {
        self.settle_store()?;
        if self.shut_down {
            self.scene("everybody goes");
        } else {
            self.scene("everybody catches up");
            self.everybody_catches_up()?;
        }
        self.everybody_goes()?;
        self.settle_store()?;
        // Whatever can fall due has; only what expires in the store goes on for ever. An hour at
        // once is a pause: it makes no answer of the store late.
        self.now = self.now.max(self.latest);
        self.pass(LONGEST_TIMEOUT)?;
        self.now = self.now + Duration::from_secs(3600);
        self.timeout()?;
        self.settle_store()?;
        self.timeout()?;
        self.check_nothing_is_held()?;
        self.check_replay()?;
        self.ledger
            .end(&self.settings, &self.shelf.queue)
            .map_err(|what| self.broken(what))
    }

    /// Everybody comes back and reads, until there is nothing more to read.
    fn everybody_catches_up(&mut self) -> Result<(), Box<Broken>> {
        // Before a clock that went back is where it was, nothing falls due.
        self.pass(self.latest.since(self.now))?;
        // Who waits for an answer that was lost has to begin anew; the others may stay.
        if !self.shelf.lost.is_empty() {
            self.everybody_goes()?;
            self.settle_store()?;
        }
        let (mut moved, mut patience) = (0, PATIENCE);
        while patience > 0 {
            for conn in self.everybody() {
                // Whom nobody wakes hears nothing: so a wake that is missing shows.
                if self.hub.holds(conn) && self.is_awake(conn) {
                    self.catch_up(conn)?;
                }
                if self.hub.holds(conn) && !self.hub.is_open(conn) {
                    self.give(&Input::PeerClosed { conn, close: None })?;
                    let clean = true;
                    self.give(&Input::Closed { conn, clean })?;
                }
            }
            self.settle_store()?;
            let stats = self.hub.stats();
            let open = [
                stats.backlogged,
                stats.queued,
                stats.in_flight,
                stats.storing,
            ];
            if open == [0; 4] {
                return Ok(());
            }
            let moves = stats.read + stats.delivered + stats.stored;
            patience = if moves > moved {
                PATIENCE
            } else {
                patience - 1
            };
            moved = moves;
            self.pass(Duration::from_millis(Settings::RETRY_INTERVAL))?;
        }
        // A read that was lost holds its memory: then others may wait for it.
        if self.shelf.lost.is_empty() {
            return Err(self.broken("Everybody reads, and there is no end to it."));
        }
        Ok(())
    }

    fn everybody(&self) -> Vec<ConnId> {
        self.people.iter().map(|person| person.conn).collect()
    }

    fn is_awake(&self, conn: ConnId) -> bool {
        self.people
            .iter()
            .any(|person| person.conn == conn && person.awake)
    }

    fn everybody_goes(&mut self) -> Result<(), Box<Broken>> {
        for conn in self.everybody() {
            if self.hub.holds(conn) {
                let clean = false;
                self.give(&Input::Closed { conn, clean })?;
            }
        }
        Ok(())
    }

    fn check_nothing_is_held(&self) -> Result<(), Box<Broken>> {
        let stats = self.hub.stats();
        let held = [
            stats.connections,
            stats.closing,
            stats.queued,
            stats.queued_bytes,
            stats.in_flight,
            stats.in_flight_bytes,
            stats.storing,
            stats.backlogged,
            stats.parked_buckets,
            stats.join_buckets,
        ];
        let owed = self.shelf.lost.len() as u64;
        if held != [0; 10] || stats.store_unanswered != owed {
            return Err(self.broken(format!(
                "Everybody has gone, and something is held: {stats:?}"
            )));
        }
        let expires = |reason| reason == WakeupReason::Expiry;
        if self.wakeup.is_some_and(|wakeup| !expires(wakeup.reason)) {
            return Err(self.broken(format!("Everybody has gone, and yet: {:?}", self.wakeup)));
        }
        let ends = self.turns().flat_map(|turn| &turn.said.outputs);
        let ends = ends.filter(|output| **output == Output::ShutDown).count();
        if ends != usize::from(self.shut_down) {
            return Err(self.broken(format!("The relay said {ends} times that it is down.")));
        }
        Ok(())
    }
}
