//! The loads that relays are compared under.

use core::num::NonZeroUsize;
use core::time::Duration;

use pinch_proto::Host;

use super::Extent;
use super::contender::Contender;
use super::results::Measured;
use super::server::{Server, StartError};
use crate::load::idle::{self, Idle};
use crate::load::throughput::{self, Throughput};
use crate::load::{Auth, LoadError, Target};

/// The ciphertext of an envelope that is just below the 64 KiB which relays take.
const LARGE: usize = 65_000;

/// Before anything is measured, the relay has this fraction of the time to warm up.
const WARMUP_DIVISOR: u32 = 4;

/// How long a relay has to come to rest: its first pings are answered by then.
const SETTLE: Duration = Duration::from_secs(2);

/// How long idle connections stay.
const HOLD: Duration = Duration::from_secs(1);

const CONCURRENCY: usize = 128;

/// One load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    Throughput(Shape, Duration),
    Idle { connections: usize },
}

/// The traffic of pairs of agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pairs: usize,
    size: usize,
    window: usize,
    spin: bool,
}

/// Many small messages, as fast as the relay takes them.
pub(crate) const BURST: Shape = Shape {
    name: "64x256x64",
    what: "64 pairs, 256 bytes, 64 in flight",
    pairs: 64,
    size: 256,
    window: 64,
    spin: false,
};

/// Small messages one by one, from many.
pub(crate) const CONVERSATION: Shape = Shape {
    name: "64x256x1",
    what: "64 pairs, 256 bytes, 1 in flight",
    window: 1,
    ..BURST
};

/// One message at a time.
pub(crate) const SINGLE: Shape = Shape {
    name: "1x256x1",
    what: "1 pair, 256 bytes, 1 in flight",
    pairs: 1,
    window: 1,
    spin: true,
    ..BURST
};

/// Large messages.
pub(crate) const LARGE_MESSAGES: Shape = Shape {
    name: "16x16384x16",
    what: "16 pairs, 16 KiB, 16 in flight",
    pairs: 16,
    size: 16_384,
    window: 16,
    ..BURST
};

/// All traffic, in the order in which it is reported.
pub(crate) const SHAPES: [Shape; 4] = [BURST, CONVERSATION, SINGLE, LARGE_MESSAGES];

/// Why a relay was not measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Load {
    pub(super) fn all(extent: Extent) -> Vec<Self> {
        let mut all: Vec<_> = SHAPES
            .map(|shape| Self::Throughput(shape, extent.seconds))
            .into();
        all.push(Self::Idle {
            connections: extent.connections,
        });
        all
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Throughput(shape, _) => shape.name,
            Self::Idle { .. } => "idle",
        }
    }

    /// Starts the relay, measures it, and adds what came of it to `relay`.
    pub(super) fn put_on(
        &self,
        contender: &Contender,
        threads: Option<NonZeroUsize>,
        relay: &mut Measured,
    ) -> Result<(), Failure> {
        let server = Server::start(contender, threads)?;
        let target = |spin| Target {
            url: server.url.clone(),
            host: Host::parse("localhost").expect("a host"),
            auth: Auth::Open,
            pid: Some(server.pid()),
            concurrency: CONCURRENCY,
            spin,
        };
        match *self {
            Self::Throughput(shape, secs) => {
                let report = throughput::run(&Throughput {
                    target: target(shape.spin),
                    pairs: shape.pairs,
                    size: shape.size,
                    window: shape.window,
                    secs,
                    warmup: secs / WARMUP_DIVISOR,
                })?;
                relay.add_throughput(shape, report);
            }
            Self::Idle { connections } => {
                let report = idle::run(&Idle {
                    target: target(false),
                    conns: connections,
                    settle: SETTLE,
                    hold: HOLD,
                    envelope: Some(LARGE),
                })?;
                relay.idle.push(report);
            }
        }
        Ok(())
    }
}
