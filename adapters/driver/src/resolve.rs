//! Addresses of a name, from the system's resolver.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::io;
use std::net::ToSocketAddrs as _;
use std::thread;

use event_listener::Event;
use futures_channel::oneshot;

/// Maximum number of lookups at a time in this process; others wait. A resolver that hangs for good
/// costs so many threads, however often it is asked.
const MAX_LOOKUPS: usize = 64;

static LOOKUPS: Slots = Slots::new(MAX_LOOKUPS);

/// Asks the system for the addresses of `host`. An address needs no resolver.
///
/// The system's function blocks, for minutes if no name server answers, and cannot be cancelled. So it
/// has a thread of its own, for which nobody waits: the blocking pool of a runtime may keep the
/// runtime, and with it the process, from ending.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    let lookup = move || Ok((host.as_str(), port).to_socket_addrs()?.collect());
    on_thread(&LOOKUPS, lookup).await
}

async fn on_thread<T: Send + 'static>(
    slots: &'static Slots,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let slot = slots.take().await;
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().name("pinch-resolve".into());
    thread.spawn(move || {
        let result = work();
        drop(slot);
        // Nobody may be there to take it.
        drop(sender.send(result));
    })?;
    receiver.await.map_err(io::Error::other)?
}

/// Counts threads.
struct Slots {
    free: AtomicUsize,
    freed: Event,
}

/// The right to have a thread.
struct Slot(&'static Slots);

impl Slots {
    const fn new(slots: usize) -> Self {
        Self {
            free: AtomicUsize::new(slots),
            freed: Event::new(),
        }
    }

    async fn take(&'static self) -> Slot {
        loop {
            let freed = self.freed.listen();
            let taken = self
                .free
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| {
                    free.checked_sub(1)
                });
            if taken.is_ok() {
                return Slot(self);
            }
            freed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::SeqCst);
        self.0.freed.notify(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn an_address_needs_no_thread() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let resolved = resolve(host, 7)
                .now_or_never()
                .expect("it is there at once");
            assert_eq!(resolved.unwrap(), [expected.parse().unwrap()]);
        }
    }

    #[test]
    fn a_name_has_addresses() {
        let addrs = async_io::block_on(resolve("localhost", 7)).unwrap();
        assert!(
            addrs
                .iter()
                .all(|addr| addr.ip().is_loopback() && addr.port() == 7)
        );
        assert!(!addrs.is_empty());
    }

    #[test]
    fn a_resolver_that_hangs_can_be_left_and_is_not_asked_without_end() {
        static TWO: Slots = Slots::new(2);
        let asked = Arc::new(AtomicUsize::new(0));
        let (let_go, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let ask = || {
            let (asked, held) = (Arc::clone(&asked), Arc::clone(&held));
            Box::pin(on_thread(&TWO, move || {
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = held.lock().unwrap().recv();
                Ok(())
            }))
        };
        // They hang, and nobody waits for them any longer.
        for _ in 0..10 {
            assert!(ask().now_or_never().is_none());
        }
        let mut last = ask();
        assert!(last.as_mut().now_or_never().is_none());
        drop(let_go);
        async_io::block_on(last).unwrap();
        assert_eq!(
            asked.load(Ordering::SeqCst),
            3,
            "two hung, one was answered"
        );
    }
}
