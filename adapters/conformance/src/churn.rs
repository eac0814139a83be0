//! Agents that live many short lives at random and die most of them abruptly.

use core::iter::Sum;

use fastrand::Rng;

use crate::envelopes::{address, message};
use crate::peer::Heard;
use crate::raw::{
    BINARY, CLOSE, PONG, Raw, TEXT, close_payload, frame, named_target, upgrade_request,
};
use crate::starter::Running;

/// How many addresses there are: few, so that some lives begin where others have not ended.
const ADDRESSES: u64 = 64;

/// What has happened to an agent, or to many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    pub(crate) lives: u64,
    /// The relay has said 101 and sent a ping.
    pub(crate) joined: u64,
}

impl Sum for Census {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            lives: sum.lives + one.lives,
            joined: sum.joined + one.joined,
        })
    }
}

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    random: Rng,
    census: Census,
}

impl Agent {
    /// The same seed leads to the same decisions.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            census: Census::default(),
        }
    }

    /// Lives `lives` lives, one after the other.
    pub(crate) async fn live(mut self, relay: &impl Running, lives: u64) -> Census {
        for _ in 0..lives {
            let raw = Raw::connect(relay).await;
            let remains = self.life(raw).await;
            if self.random.bool() {
                remains.reset();
            }
            self.census.lives += 1;
        }
        self.census
    }

    fn name(&mut self) -> String {
        format!("peer{}", self.random.u64(..ADDRESSES))
    }

    /// One life; returns what is left of it to bury.
    async fn life(&mut self, mut raw: Raw) -> Raw {
        let own = address(&self.name());
        let request = upgrade_request(&named_target(&own));
        if self.random.u8(..8) == 0 {
            let cut = self.random.usize(..request.len());
            raw.write(&request.as_bytes()[..cut]).await;
            return raw;
        }
        raw.write(request.as_bytes()).await;
        if self.random.u8(..8) == 0 {
            return raw;
        }
        raw.upgraded_response().await;
        let Heard::Ping(ping) = raw.hear().await else {
            // Somebody has this address.
            return raw;
        };
        self.census.joined += 1;
        if self.random.u8(..8) == 0 {
            return raw;
        }
        raw.send(PONG, &ping).await;
        for number in 0..self.random.u64(..8) {
            let to = address(&self.name());
            let len = self.random.usize(..5000);
            let frame = frame(BINARY, &message(&own, &to, number, len));
            if self.random.u8(..16) == 0 {
                let cut = self.random.usize(..frame.len());
                raw.write(&frame[..cut]).await;
                return raw;
            }
            raw.write(&frame).await;
        }
        match self.random.u8(..4) {
            0 => raw.send(TEXT, b"a breach").await,
            1 => raw.send(CLOSE, &close_payload(1000, "")).await,
            _ => return raw,
        }
        // To the end, or not.
        if self.random.bool() {
            raw.rest().await;
        }
        raw
    }
}
