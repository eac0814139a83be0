//! How many messages a relay relays, among pairs of agents that always have some in flight.

use core::time::Duration;
use std::io;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::agent::{Agent, envelope};
use crate::{FloodFlags, report};

/// How long an envelope may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, reports, and returns the messages per second.
pub(crate) async fn measure(flags: &FloodFlags) -> io::Result<f64> {
    let mut pairs = Vec::new();
    for pair in 0..flags.pairs {
        let sender = Agent::join(&flags.url, 2 * pair).await?;
        let receiver = Agent::join(&flags.url, 2 * pair + 1).await?;
        pairs.push((sender, receiver));
    }
    let mut floods = JoinSet::new();
    let begin = Instant::now();
    let end = begin + Duration::from_secs(flags.seconds);
    for (pair, (sender, receiver)) in pairs.into_iter().enumerate() {
        let envelope = envelope(2 * pair, 2 * pair + 1, flags.size);
        let window = flags.window.max(1);
        floods.spawn(async move { flood(sender, receiver, &envelope, window, end).await });
    }
    let mut relayed = 0;
    while let Some(flood) = floods.join_next().await {
        relayed += flood.map_err(io::Error::other)??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    report(&format!("{relayed} messages relayed in {seconds:.1} s"))?;
    Ok(f64::from(u32::try_from(relayed).unwrap_or(u32::MAX)) / seconds)
}

/// Has `window` envelopes in flight, and whenever half of them have arrived, sends as many again, until
/// `end`. Returns how many arrived: all.
pub(crate) async fn flood(
    mut sender: Agent,
    mut receiver: Agent,
    envelope: &bytes::Bytes,
    window: usize,
    end: Instant,
) -> io::Result<usize> {
    let half = window.div_ceil(2);
    sender.send(envelope, window).await?;
    let mut sent = window;
    let mut arrived = 0;
    while arrived < sent {
        let came = timeout(PATIENCE, receiver.envelope()).await;
        came.map_err(|_| io::ErrorKind::TimedOut)??;
        arrived += 1;
        if sent - arrived == window - half && Instant::now() < end {
            sender.send(envelope, half).await?;
            sent += half;
        }
    }
    Ok(arrived)
}
