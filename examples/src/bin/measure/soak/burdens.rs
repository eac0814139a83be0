//! What a relay has to bear: each of these goes on until its time is over, whatever the relay does to
//! it. Agents are cut and refused here, and that is as it should be.

use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::agent::{Agent, envelope, name};
use crate::flood::flood;
use crate::relay::authority;

/// For so many agents that come and go, there is one that hardly reads.
const AGENTS_PER_SLOW_READER: usize = 10;

/// Pairs that flood.
const FLOODS: usize = 4;

/// How many a pair has in flight.
const WINDOW: usize = 64;

/// Strangers at any time.
const STRANGERS: usize = 10;

/// How long a stranger stays if it is not thrown out: longer than the relay should bear it.
const OUTSTAY: Duration = Duration::from_secs(15);

/// What the relay bears, and how much of it there was.
pub(super) struct Load {
    url: String,
    /// Agents that come and go have the first numbers, those who hardly read the next.
    agents: usize,
    end: Instant,
    joins: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    strangers: AtomicU64,
}

/// What was done so far.
pub(super) struct Done {
    joins: u64,
    sent: u64,
    received: u64,
    strangers: u64,
}

impl Done {
    /// Whether agents have joined and heard of each other.
    pub(super) const fn has_traffic(&self) -> bool {
        self.joins > 0 && self.received > 0
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} joins, {} sent, {} received, {} strangers",
            self.joins, self.sent, self.received, self.strangers
        )
    }
}

impl Load {
    pub(super) fn new(url: &str, agents: usize, end: Instant) -> Self {
        Self {
            url: url.into(),
            agents,
            end,
            joins: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
        }
    }

    pub(super) fn done(&self) -> Done {
        Done {
            joins: self.joins.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            strangers: self.strangers.load(Ordering::Relaxed),
        }
    }

    /// Begins all of it.
    pub(super) fn spawn_on(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let slow = self.first_slow()..self.first_other();
        for number in 0..self.agents {
            tasks.spawn(Arc::clone(self).come_and_go(number));
        }
        for number in slow {
            tasks.spawn(Arc::clone(self).hardly_read(number));
        }
        let others = self.first_other();
        tasks.spawn(Arc::clone(self).pester(others));
        for pair in 0..FLOODS {
            tasks.spawn(Arc::clone(self).flood(others + 1 + 2 * pair));
        }
        for _ in 0..STRANGERS {
            tasks.spawn(Arc::clone(self).be_strange());
        }
    }

    fn first_slow(&self) -> usize {
        self.agents
    }

    fn first_other(&self) -> usize {
        self.agents + self.agents.div_ceil(AGENTS_PER_SLOW_READER)
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    /// Joins, unless the relay does not want that just now: a former life may not have ended.
    async fn join(&self, number: usize) -> Option<Agent> {
        if let Ok(agent) = Agent::join(&self.url, number).await {
            self.joins.fetch_add(1, Ordering::Relaxed);
            return Some(agent);
        }
        pause(100..1000).await;
        None
    }

    /// One agent, many lives; each ends in another way.
    async fn come_and_go(self: Arc<Self>, number: usize) {
        while self.goes_on() {
            let Some(mut agent) = self.join(number).await else {
                continue;
            };
            if self.live(&mut agent, number).await.is_ok() {
                // What the relay has not heard of it by then is of no interest.
                let _ = match fastrand::u8(..3) {
                    0 => agent.leave().await,
                    1 => agent.reset(),
                    _ => Ok(()),
                };
            }
            pause(0..1000).await;
        }
    }

    async fn live(&self, agent: &mut Agent, number: usize) -> io::Result<()> {
        let death = Instant::now() + millis(100..5000);
        while Instant::now() < death {
            let to = fastrand::usize(..self.first_other());
            let bytes = 200 << fastrand::u8(..8);
            agent.send(&envelope(number, to, bytes), 1).await?;
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.listen(agent, millis(10..300)).await?;
        }
        Ok(())
    }

    async fn listen(&self, agent: &mut Agent, duration: Duration) -> io::Result<()> {
        let end = Instant::now() + duration;
        while let Ok(heard) = timeout_at(end, agent.envelope()).await {
            heard?;
            self.received.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads for a moment, then for up to 40 s nothing: more than a heartbeat allows.
    async fn hardly_read(self: Arc<Self>, number: usize) {
        while self.goes_on() {
            let Some(mut agent) = self.join(number).await else {
                continue;
            };
            while self.goes_on() && self.listen(&mut agent, millis(0..3000)).await.is_ok() {
                pause(0..40_000).await;
            }
        }
    }

    /// Sends more to those who hardly read than they can take.
    async fn pester(self: Arc<Self>, number: usize) {
        while self.goes_on() {
            let Some(mut agent) = self.join(number).await else {
                continue;
            };
            while self.goes_on() {
                let to = fastrand::usize(self.first_slow()..self.first_other());
                let burst = agent.send(&envelope(number, to, 8192), 50).await;
                self.sent.fetch_add(50, Ordering::Relaxed);
                if burst.is_err() || self.listen(&mut agent, millis(50..200)).await.is_err() {
                    break;
                }
            }
        }
    }

    async fn flood(self: Arc<Self>, number: usize) {
        let partner = number + 1;
        while self.goes_on() {
            let (Some(sender), Some(receiver)) =
                (self.join(number).await, self.join(partner).await)
            else {
                continue;
            };
            let envelope = envelope(number, partner, 256);
            let end = self.end.min(Instant::now() + Duration::from_secs(10));
            if let Ok(relayed) = flood(sender, receiver, &envelope, WINDOW, end).await {
                let relayed = u64::try_from(relayed).unwrap_or(u64::MAX);
                self.sent.fetch_add(relayed, Ordering::Relaxed);
                self.received.fetch_add(relayed, Ordering::Relaxed);
            }
        }
    }

    /// Connects, and is no agent.
    async fn be_strange(self: Arc<Self>) {
        while self.goes_on() {
            self.strangers.fetch_add(1, Ordering::Relaxed);
            // However that ends, the next one comes.
            let _ = timeout(OUTSTAY, self.strange()).await;
        }
    }

    async fn strange(&self) -> io::Result<()> {
        let authority = authority(&self.url)?;
        let mut stream = TcpStream::connect(authority).await?;
        let noise: Vec<u8> = core::iter::repeat_with(|| fastrand::u8(..))
            .take(500)
            .collect();
        let stranger = name(usize::MAX - fastrand::usize(..1000));
        let head = format!(
            "GET /ws?address={stranger} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let (half, _) = head.split_at(head.len() / 2);
        let said = match fastrand::u8(..5) {
            0 => Vec::new(),
            1 => half.into(),
            2 => noise,
            3 => head.into(),
            _ => [head.as_bytes(), &noise].concat(),
        };
        stream.write_all(&said).await?;
        // Until it is thrown out.
        stream.read_to_end(&mut Vec::new()).await.map(drop)
    }
}

fn millis(range: Range<u64>) -> Duration {
    Duration::from_millis(fastrand::u64(range))
}

async fn pause(range: Range<u64>) {
    sleep(millis(range)).await;
}
