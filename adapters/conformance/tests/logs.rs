//! Logs are written without a lock of the relay, and a flood of strangers writes a bounded number of
//! lines.

use core::fmt::Debug;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;
use std::time::Instant;

#[allow(unreachable_pub, reason = "it is written for the documentation")]
#[path = "../../driver/docs/own_adapter.rs"]
mod adapter;

use adapter::OneThread;
use pinch_driver::proto::{Host, hub};
use pinch_driver::{Auth, Relay};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The relay that every log line looks at.
static RELAY: OnceLock<Relay<OneThread>> = OnceLock::new();

/// Takes the relay's lock for each event, which never returns where the lock is held already.
#[derive(Default)]
struct Locking {
    debug: AtomicUsize,
    ends: AtomicUsize,
    counted: AtomicUsize,
}

impl Locking {
    fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    count: usize,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "count" {
            self.count = usize::try_from(value).expect("a small number");
        }
    }
}

static LOGS: OnceLock<&'static Locking> = OnceLock::new();

struct Handle;

impl Subscriber for Handle {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pinch_")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if let Some(relay) = RELAY.get() {
            let _ = relay.stats();
        }
        let Some(logs) = LOGS.get() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        if *event.metadata().level() >= Level::DEBUG {
            logs.debug.fetch_add(1, Ordering::SeqCst);
        } else if fields.message == "connection ended abnormally" {
            logs.ends.fetch_add(1, Ordering::SeqCst);
            logs.counted.fetch_add(fields.count, Ordering::SeqCst);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Joins as `name`, sends a text message, which is a violation, and waits for the end.
fn violate(relay: &Relay<OneThread>, name: &str) {
    let addr = relay.local_addr().expect("it listens");
    let mut stream = TcpStream::connect(addr).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let request = format!(
        "GET /ws?address=pinch:{name}@relay HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    // A text message `x`, masked with zeros.
    let text = [0x81, 0x81, 0, 0, 0, 0, b'x'];
    stream.write_all(&text).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("a socket");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an end in time");
}

#[test]
fn a_flood_of_violations_is_a_few_lines_written_without_a_lock() {
    const FLOOD: usize = 300;

    let logs: &Locking = LOGS.get_or_init(|| Box::leak(Box::default()));
    tracing::subscriber::set_global_default(Handle).expect("the first subscriber");
    let config = hub::Config::new(Host::parse("relay").expect("a host"));
    let relay = Relay::builder_on(OneThread::start());
    let relay = relay.hub(config).auth(Auth::Open);
    let relay = async_io::block_on(relay.bind(([127, 0, 0, 1], 0))).expect("it listens");
    let relay = RELAY.get_or_init(|| relay);

    let begin = Instant::now();
    for n in 0..FLOOD {
        violate(relay, &format!("stranger{n}"));
    }
    async_io::block_on(relay.shutdown());
    let intervals = usize::try_from(begin.elapsed().as_secs() / 10).expect("a small number") + 1;

    // What is counted and not due is said at the end.
    while Locking::count(&logs.counted) < FLOOD {
        assert!(begin.elapsed() < 3 * PATIENCE, "not all were counted");
        std::thread::yield_now();
    }
    assert_eq!(Locking::count(&logs.counted), FLOOD);
    // One kind of end, or two where a stranger's socket was gone first.
    let lines = Locking::count(&logs.ends);
    assert!(lines <= 2 * (intervals + 2), "{lines} lines");
    // The level for those who look for something has all of them.
    assert!(Locking::count(&logs.debug) >= 2 * FLOOD);
}
