//! Reaching a host by TCP: the first of its addresses that answers.
//!
//! Several addresses are tried as RFC 8305 ("Happy Eyeballs") says: families alternate, each attempt
//! has 250 ms for itself before the next one starts beside it, and the first connection wins. A client
//! tries an address last whose connection did not lead to a join: something else may answer there.

use core::fmt;
use core::net::SocketAddr;
use core::pin::pin;
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::Runtime;

/// Time that an attempt has for itself (RFC 8305, section 5: "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Why a host was not reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no addresses that the system knows.
    #[error(
        "cannot resolve `{host}`: {error}; check the name, and that this machine reaches a name server"
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// Every address has failed.
    #[error("cannot connect to {host}:{port}: {}", List(attempts))]
    Connect {
        /// The name or the address.
        host: String,
        /// The port.
        port: u16,
        /// Each address, and why its attempt failed, in the order in which they failed.
        attempts: Vec<(SocketAddr, io::Error)>,
    },
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        let kind = match &error {
            DialError::Resolve { error, .. } => error.kind(),
            DialError::Connect { attempts, .. } => attempts
                .last()
                .map_or(io::ErrorKind::NotFound, |(_, error)| error.kind()),
        };
        Self::new(kind, error)
    }
}

/// The failed attempts, one after the other.
struct List<'a>(&'a [(SocketAddr, io::Error)]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("the name has no address"),
            [(_, error)] => error.fmt(f),
            [(addr, error), others @ ..] => {
                write!(f, "{addr}: {error}")?;
                others
                    .iter()
                    .try_for_each(|(addr, error)| write!(f, "; {addr}: {error}"))
            }
        }
    }
}

/// Connects to `host` (a name or an address, without brackets) by TCP, as a client does unless it
/// [dials otherwise](super::ClientBuilder::dial_with): for one that speaks TLS over TCP, say.
///
/// Addresses that do not answer cost 250 ms each and not the whole try: the next one is tried beside
/// them, IPv6 and IPv4 in turn (RFC 8305). The first connection wins; the others are closed.
///
/// # Errors
/// The name cannot be resolved, or no address answers: the error tells why for each.
///
/// # Cancel safety
/// Dropping the future closes what has begun.
pub async fn dial<R: Runtime>(runtime: &R, host: &str, port: u16) -> Result<R::Stream, DialError> {
    dial_with_history(runtime, host, port, &History::default()).await
}

/// Like [`dial`], for one who comes back: the addresses in `history` are tried last. The one that wins
/// is added to it.
pub(super) async fn dial_with_history<R: Runtime>(
    runtime: &R,
    host: &str,
    port: u16,
    history: &History,
) -> Result<R::Stream, DialError> {
    let resolved = runtime.resolve(host, port).await;
    let addrs = resolved.map_err(|error| DialError::Resolve {
        host: host.into(),
        error,
    })?;
    let addrs = history.defer(ordered(addrs));
    let delay = || runtime.sleep_until(runtime.now() + ATTEMPT_DELAY);
    match race(&addrs, |addr| runtime.connect(addr), delay).await {
        Ok((addr, stream)) => {
            history.connected(addr);
            Ok(stream)
        }
        Err(attempts) => Err(DialError::Connect {
            host: host.into(),
            port,
            attempts,
        }),
    }
}

/// The addresses to which a client has connected since it last joined, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Arc<Mutex<Vec<SocketAddr>>>);

impl History {
    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves those that it holds behind all others, and forgets those that are not in `addrs`.
    fn defer(&self, mut addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut tried = self.lock();
        tried.retain(|addr| addrs.contains(addr));
        addrs.sort_by_key(|addr| tried.iter().position(|tried| tried == addr));
        addrs
    }

    fn connected(&self, addr: SocketAddr) {
        let mut tried = self.lock();
        tried.retain(|tried| *tried != addr);
        tried.push(addr);
    }

    /// Forgets all of them: the client has joined.
    pub(super) fn joined(&self) {
        self.lock().clear();
    }
}

/// Lets the families alternate, beginning with that of the first address (RFC 8305, section 4). Within
/// a family the resolver's order stays, which is that of preference (RFC 6724). Repeats are left out.
fn ordered(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::with_capacity(addrs.len());
    for addr in addrs {
        if !unique.contains(&addr) {
            unique.push(addr);
        }
    }
    let is_preferred_v6 = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) = unique
        .into_iter()
        .partition(|addr| addr.is_ipv6() == is_preferred_v6);
    let mut others = others.into_iter();
    let mut ordered = Vec::with_capacity(preferred.len() + others.len());
    for addr in preferred {
        ordered.push(addr);
        ordered.extend(others.next());
    }
    ordered.extend(others);
    ordered
}

/// The first connection and its address, or why each attempt failed. The next attempt starts when one fails, or when
/// the last one started a `delay` ago. Attempts that lose are dropped.
async fn race<T, C, D>(
    addrs: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> C,
    delay: impl Fn() -> D,
) -> Result<(SocketAddr, T), Vec<(SocketAddr, io::Error)>>
where
    C: Future<Output = io::Result<T>>,
    D: Future<Output = ()>,
{
    let mut attempts = FuturesUnordered::new();
    let mut failed = Vec::new();
    let mut waiting = addrs.iter().copied();
    loop {
        let next = waiting.next();
        attempts.extend(next.map(|addr| connect(addr).map(move |result| (addr, result))));
        let ended = if waiting.len() == 0 {
            attempts.next().await
        } else {
            match select(attempts.next(), pin!(delay())).await {
                Either::Left((ended, _)) => ended,
                Either::Right(((), _)) => continue,
            }
        };
        match ended {
            Some((addr, Ok(stream))) => return Ok((addr, stream)),
            Some((addr, Err(error))) => failed.push((addr, error)),
            None => return Err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};
    use core::future::{pending, poll_fn};
    use core::task::{Context, Poll, Waker};

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_alternate_and_keep_their_order() {
        let cases: [(&[&str], &[&str]); 6] = [
            (&[], &[]),
            (&["1.1.1.1:1"], &["1.1.1.1:1"]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"],
            ),
            (
                &["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"],
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"],
            ),
            (
                &["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"],
                &["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"],
            ),
            (
                &["1.1.1.1:1", "1.1.1.1:1", "[::1]:1", "1.1.1.1:1"],
                &["1.1.1.1:1", "[::1]:1"],
            ),
        ];
        for (resolved, expected) in cases {
            let resolved = resolved.iter().map(|text| addr(text)).collect();
            let expected: Vec<_> = expected.iter().map(|text| addr(text)).collect();
            assert_eq!(ordered(resolved), expected);
        }
    }

    /// What becomes of an attempt at each of the addresses, in delays after the begin.
    #[derive(Clone, Copy)]
    enum Fate {
        Connects(u32),
        Fails(u32),
        Hangs,
    }

    /// The winner, or how many have failed; `None` if it does not end.
    type Outcome = Option<Result<usize, usize>>;

    /// Runs a race in virtual time. Returns what came of it, and when each attempt started.
    fn run(fates: &[Fate]) -> (Outcome, Vec<u32>) {
        let addrs: Vec<_> = (1..=fates.len())
            .map(|number| SocketAddr::from(([127, 0, 0, 1], u16::try_from(number).unwrap())))
            .collect();
        let now = Cell::new(0);
        let started = RefCell::new(Vec::new());
        let until = |at: u32| {
            let now = &now;
            poll_fn(move |cx| {
                if now.get() >= at {
                    return Poll::Ready(());
                }
                // To be asked again at the next moment.
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        };
        let connect = |addr: SocketAddr| {
            started.borrow_mut().push(now.get());
            let number = usize::from(addr.port()) - 1;
            let until = &until;
            async move {
                match fates[number] {
                    Fate::Connects(at) => until(at).await,
                    Fate::Fails(at) => {
                        until(at).await;
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Fate::Hangs => pending().await,
                }
                Ok(number)
            }
        };
        let delay = || until(now.get() + 10);
        let mut racing = pin!(race(&addrs, connect, delay));
        for at in 0..1000 {
            now.set(at);
            let polled = racing
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(result) = polled {
                let result = result.map(|(_, number)| number);
                return (Some(result.map_err(|failed| failed.len())), started.take());
            }
        }
        (None, started.take())
    }

    #[test]
    fn an_address_that_does_not_answer_costs_one_delay() {
        use Fate::{Connects, Fails, Hangs};
        let cases: [(&[Fate], Outcome, &[u32]); 8] = [
            (&[], Some(Err(0)), &[]),
            (&[Connects(5), Hangs], Some(Ok(0)), &[0]),
            (&[Hangs, Connects(0)], Some(Ok(1)), &[0, 10]),
            (&[Hangs, Hangs, Connects(0)], Some(Ok(2)), &[0, 10, 20]),
            // A failure starts the next attempt at once.
            (&[Fails(3), Connects(4), Hangs], Some(Ok(1)), &[0, 3]),
            // The first may still win.
            (&[Connects(12), Connects(30)], Some(Ok(0)), &[0, 10]),
            (&[Fails(0), Fails(0), Fails(7)], Some(Err(3)), &[0, 0, 0]),
            (&[Hangs, Fails(0), Fails(0)], None, &[0, 10, 10]),
        ];
        for (case, (fates, expected, starts)) in cases.into_iter().enumerate() {
            assert_eq!(run(fates), (expected, starts.to_vec()), "case {case}");
        }
    }

    #[test]
    fn an_address_without_a_join_is_tried_last() {
        let history = History::default();
        let [first, second, third] = ["[::1]:1", "1.1.1.1:1", "[::2]:1"].map(addr);
        let order = || history.defer(vec![first, second, third]);
        assert_eq!(order(), [first, second, third]);
        history.connected(first);
        assert_eq!(order(), [second, third, first]);
        history.connected(third);
        assert_eq!(order(), [second, first, third]);
        history.connected(second);
        history.connected(first);
        assert_eq!(
            order(),
            [third, second, first],
            "the one of the last try comes last"
        );
        // The name has another address now, and has the old one back later.
        assert_eq!(history.defer(vec![second]), [second]);
        assert_eq!(order(), [first, third, second]);
        history.joined();
        assert_eq!(order(), [first, second, third]);
    }

    #[test]
    fn every_attempt_is_in_the_error() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let error = |attempts| DialError::Connect {
            host: "relay.example.com".into(),
            port: 80,
            attempts,
        };
        let begin = "cannot connect to relay.example.com:80: ";
        for (attempts, rest) in [
            (vec![], "the name has no address".to_owned()),
            (vec![(addr("[::1]:80"), refused())], refused().to_string()),
            (
                vec![
                    (addr("[::1]:80"), refused()),
                    (addr("127.0.0.1:80"), refused()),
                ],
                format!("[::1]:80: {0}; 127.0.0.1:80: {0}", refused()),
            ),
        ] {
            assert_eq!(error(attempts).to_string(), format!("{begin}{rest}"));
        }
        let one = error(vec![(addr("[::1]:80"), refused())]);
        assert_eq!(
            io::Error::from(one).kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
