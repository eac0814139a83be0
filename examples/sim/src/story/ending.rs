//! The end of every story: everybody reads what there is, and leaves; then nothing is held, and nothing
//! was lost.

use core::time::Duration;

use pinch_proto::hub::{ConnId, HubStats, Input, Output, ShardId, WakeupReason};

use super::run::{Run, Station};
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
        self.settle()?;
        if self.shut_down {
            self.scene("everybody goes");
        } else {
            self.scene("everybody catches up");
            self.everybody_catches_up()?;
        }
        self.everybody_goes()?;
        self.settle()?;
        // Whatever can fall due has; only what expires in the store goes on for ever. An hour at
        // once is a pause: it makes no answer of the store late.
        let latest = self.stations().map(|(_, station)| station.latest).max();
        self.now = latest.map_or(self.now, |latest| self.now.max(latest));
        self.pass(LONGEST_TIMEOUT)?;
        self.settle()?;
        self.now = self.now + Duration::from_secs(3600);
        self.for_each_shard(Self::timeout)?;
        self.settle()?;
        self.for_each_shard(Self::timeout)?;
        self.check_nothing_is_held()?;
        self.check_replay()?;
        self.ledger
            .end(&self.settings, &self.shelf.queue)
            .map_err(|what| self.broken(what))
    }

    /// The store and the bus do everything that they are to do, but for what they have lost.
    fn settle(&mut self) -> Result<(), Box<Broken>> {
        self.settle_store()?;
        while !self.bus.is_empty() {
            self.settle_bus()?;
            self.settle_store()?;
        }
        Ok(())
    }

    /// Everybody comes back and reads, until there is nothing more to read.
    fn everybody_catches_up(&mut self) -> Result<(), Box<Broken>> {
        // Before a clock that went back is where it was, nothing falls due.
        let latest = self.stations().map(|(_, station)| station.latest).max();
        let behind = latest.map_or(Duration::ZERO, |latest| latest.since(self.now));
        self.pass(behind)?;
        // Who waits for an answer that was lost has to begin anew; the others may stay.
        if !self.shelf.lost.is_empty() {
            self.everybody_goes()?;
            self.settle()?;
        }
        let (mut moved, mut patience) = (0, PATIENCE);
        while patience > 0 {
            self.for_each_shard(Self::those_here_catch_up)?;
            self.settle()?;
            let stats: Vec<_> = self.stations().map(|(_, it)| it.hub.stats()).collect();
            let is_open = |stats: &HubStats| {
                let open = [
                    stats.backlogged,
                    stats.queued,
                    stats.in_flight,
                    stats.storing,
                    stats.unanswered,
                ];
                open != [0; 5]
            };
            if !stats.iter().any(is_open) {
                return Ok(());
            }
            let moves = |stats: &HubStats| stats.read + stats.delivered + stats.stored;
            let moves = stats.iter().map(moves).sum();
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

    fn those_here_catch_up(&mut self) -> Result<(), Box<Broken>> {
        for conn in self.everybody() {
            // Whom nobody wakes hears nothing: so a wake that is missing shows.
            if self.here.hub.holds(conn) && self.is_awake(conn) {
                self.catch_up(conn)?;
            }
            if self.here.hub.holds(conn) && !self.here.hub.is_open(conn) {
                self.give(&Input::PeerClosed { conn, close: None })?;
                let clean = true;
                self.give(&Input::Closed { conn, clean })?;
            }
        }
        Ok(())
    }

    fn everybody(&self) -> Vec<ConnId> {
        self.here.people.iter().map(|person| person.conn).collect()
    }

    fn is_awake(&self, conn: ConnId) -> bool {
        self.here
            .people
            .iter()
            .any(|person| person.conn == conn && person.awake)
    }

    fn everybody_goes(&mut self) -> Result<(), Box<Broken>> {
        self.for_each_shard(|run| {
            for conn in run.everybody() {
                if run.here.hub.holds(conn) {
                    let clean = false;
                    run.give(&Input::Closed { conn, clean })?;
                }
            }
            Ok(())
        })
    }

    fn check_nothing_is_held(&self) -> Result<(), Box<Broken>> {
        let (mut forwarded, mut arrived) = (0, 0);
        for (shard, station) in self.stations() {
            self.check_nothing_is_held_by(shard, station)?;
            let stats = station.hub.stats();
            forwarded += stats.forwarded;
            arrived += stats.arrived;
        }
        if forwarded != arrived {
            return Err(self.broken(format!("{forwarded} were forwarded, and {arrived} came")));
        }
        Ok(())
    }

    fn check_nothing_is_held_by(
        &self,
        shard: ShardId,
        station: &Station,
    ) -> Result<(), Box<Broken>> {
        let stats = station.hub.stats();
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
            stats.unanswered,
            stats.shares,
            stats.held_bytes,
        ];
        let lost = self.shelf.lost.iter().filter(|(of, _)| *of == shard);
        let owed = lost.count() as u64;
        // A request that was lost holds its memory.
        let is_held = held[..11] != [0; 11] || (owed == 0 && held[11..] != [0; 2]);
        if is_held || stats.store_unanswered != owed {
            return Err(self.broken(format!(
                "Everybody has gone, and something is held: {stats:?}"
            )));
        }
        let expires = |reason| reason == WakeupReason::Expiry;
        let wakeup = station.wakeup;
        if wakeup.is_some_and(|wakeup| !expires(wakeup.reason)) {
            return Err(self.broken(format!("Everybody has gone, and yet: {wakeup:?}")));
        }
        let own = self.turns().filter(|turn| turn.shard == shard);
        let ends = own.flat_map(|turn| &turn.said.outputs);
        let ends = ends.filter(|output| **output == Output::ShutDown).count();
        if ends != usize::from(self.shut_down) {
            return Err(self.broken(format!("The relay said {ends} times that it is down.")));
        }
        Ok(())
    }
}
