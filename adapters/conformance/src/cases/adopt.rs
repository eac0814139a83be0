//! Streams that the relay has not accepted itself: pipes in memory, as narrow as can be, and streams
//! that break.

use core::net::IpAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use futures_lite::future::zip;
use futures_util::AsyncReadExt as _;
use futures_util::io::{AsyncRead, AsyncWrite, BufWriter};
use http::Request;
use pinch_driver::proto::hub::OnDuplicate;
use pinch_driver::proto::peers::Limits;
use pinch_driver::proto::wire::MessageType;
use pinch_driver::{AllowedOrigins, Auth, Runtime, Upgrade};

use crate::envelopes::{address, envelope, key, message, message_of, refusal};
use crate::peer::{Heard, Peer};
use crate::pipe::{Pipe, pipe};
use crate::raw::{
    BINARY, CLOSE, PING, Raw, answer, close_payload, frame, named_target, upgrade_request,
};
use crate::relays::{self, Relay, config, open};
use crate::starter::{Starter as _, shards};
use crate::tracked::Tracked;
use crate::wait::{eventually, soon};

fn detached<R: Runtime>(runtime: &Tracked<R>, auth: Auth) -> Relay<Tracked<R>> {
    runtime
        .builder()
        .hub(config())
        .auth(auth)
        .detached()
        .expect("settings that fit")
}

/// A pipe of `capacity` bytes into `relay`.
fn pipe_into<R: Runtime>(relay: &Relay<Tracked<R>>, capacity: usize) -> Pipe {
    let (near, far) = pipe(capacity);
    relay.adopt(far);
    near
}

/// Waits until only the timers are left of a relay that does not listen.
async fn emptied<R: Runtime>(relay: &Relay<Tracked<R>>) {
    eventually("an empty relay", || {
        let stats = relay.stats();
        (
            stats.tasks,
            stats.pending,
            stats.hub.connections,
            stats.hub.closing,
        ) == (shards().get().into(), 0, 0, 0)
    })
    .await;
}

pub(crate) async fn a_pipe_of_any_width_goes_through_the_request_the_handshake_and_traffic<
    R: Runtime,
>(
    runtime: &Tracked<R>,
) {
    everything_over(runtime, pipe_into).await;
}

/// As TLS does.
pub(crate) async fn a_stream_that_keeps_what_it_is_given_is_flushed<R: Runtime>(
    runtime: &Tracked<R>,
) {
    everything_over(runtime, |relay, capacity| {
        let (near, far) = pipe(capacity);
        relay.adopt(BufWriter::with_capacity(64 << 10, far));
        near
    })
    .await;
}

/// Joins, talks and leaves over pipes that `adopted` makes, of whatever capacity.
async fn everything_over<R: Runtime>(
    runtime: &Tracked<R>,
    adopted: impl Fn(&Relay<Tracked<R>>, usize) -> Pipe,
) {
    let relay = detached(runtime, Auth::Challenge);
    assert_eq!(relay.local_addr(), None);
    for capacity in [1, 2, 3, 100, 1 << 20] {
        let mut alice = Raw::new(adopted(&relay, capacity));
        let mut bob = Raw::new(adopted(&relay, capacity));
        let (alice_address, bob_address) = (alice.prove(1).await, bob.prove(2).await);
        for (number, len) in (0..).zip([0, 1, 200, 3000]) {
            let said = message(&alice_address, &bob_address, number, len);
            alice.send(BINARY, &said).await;
            assert_eq!(bob.envelope().await, said);
            let said = message(&bob_address, &alice_address, number, len);
            bob.send(BINARY, &said).await;
            assert_eq!(alice.envelope().await, said);
        }
        alice.send(CLOSE, &close_payload(1000, "bye")).await;
        assert_eq!(alice.rest().await, [Heard::close(1000, "bye")]);
        drop(bob);
        emptied(&relay).await;
    }
    soon("the shutdown", relay.shutdown()).await;
}

pub(crate) async fn adopted_and_accepted_connections_talk_to_each_other<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = open(runtime, config()).await;
    let mut alice = Peer::named_over(pipe_into(&relay, 64), "alice").await;
    let mut bob = Peer::named(&relay, "bob").await;
    let said = message_of(&alice.address, &bob.address, 1, 65_536);
    let (_, heard) = zip(alice.send(said.clone()), bob.envelope()).await;
    assert_eq!(heard, said);
    let said = message_of(&bob.address, &alice.address, 1, 65_536);
    let (_, heard) = zip(bob.send(said.clone()), alice.envelope()).await;
    assert_eq!(heard, said);
    drop((alice, bob));
    relays::emptied(&relay).await;
}

/// A request as an HTTP server has read it.
fn request_elsewhere(origin: Option<&str>, query: &str) -> Request<()> {
    let mut request = Request::get(format!("/agents/ws{query}"))
        .header("host", "service.example.com")
        .header("connection", "keep-alive")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    request.body(()).expect("a request")
}

pub(crate) async fn an_upgrade_elsewhere_is_checked_like_one_at_the_relays_own_port<R: Runtime>(
    runtime: &Tracked<R>,
) {
    const APP: &str = "https://app.example.com";
    let origins = AllowedOrigins::List(vec![APP.into()]);
    let relay = runtime.builder().hub(config()).allowed_origins(origins);
    let relay = relay.detached().expect("settings that fit");
    for origin in [
        "https://evil.example",
        "null",
        "https://service.example.com",
    ] {
        let error = relay
            .check_upgrade(&request_elsewhere(Some(origin), ""))
            .expect_err("an origin that is not listed");
        assert_eq!(error.response().status(), 403, "{error}");
    }
    let mut without_key = request_elsewhere(None, "");
    without_key.headers_mut().remove("sec-websocket-key");
    let error = relay.check_upgrade(&without_key).expect_err("no key");
    assert_eq!(error.response().status(), 400, "{error}");

    for (seed, origin) in [(1, None), (2, Some(APP))] {
        let checked = relay.check_upgrade(&request_elsewhere(origin, "?dedup=1"));
        let (upgrade, response) = checked.expect("it is allowed");
        assert_eq!(response.status(), 101);
        let accept = &response.headers()["sec-websocket-accept"];
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let expected = Upgrade::trusted()
            .has_origin(origin.is_some())
            .query("dedup=1");
        assert_eq!(upgrade, expected);
        let (near, far) = pipe(1024);
        relay.adopt_upgraded(far, upgrade);
        let mut raw = Raw::new(near);
        raw.prove_upgraded(seed).await;
    }
    emptied(&relay).await;
}

pub(crate) async fn an_upgrade_elsewhere_names_its_agent_in_open_mode<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    let error = relay
        .check_upgrade(&request_elsewhere(None, ""))
        .expect_err("no address");
    assert_eq!(error.response().status(), 400, "{error}");
    let query = format!("?address={}", address("alice"));
    let checked = relay.check_upgrade(&request_elsewhere(None, &query));
    let (near, far) = pipe(1024);
    relay.adopt_upgraded(far, checked.expect("it names itself").0);
    let mut alice = Raw::new(near);
    alice.answer_ping().await;
    let said = message(&address("alice"), &address("alice"), 1, 9);
    alice.send(BINARY, &said).await;
    assert_eq!(alice.envelope().await, said);
}

pub(crate) async fn a_pipe_is_asked_for_its_health_too<R: Runtime>(runtime: &Tracked<R>) {
    let relay = detached(runtime, Auth::Open);
    let mut raw = Raw::new(pipe_into(&relay, 1));
    raw.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = raw.response().await;
    assert_eq!(response.status, 200);
    let tasks = shards().get() + 1;
    let beginning = format!(
        r#"{{"status":"ok","connections":0,"tasks":{tasks},"goroutines":{tasks},"uptime_seconds":"#
    );
    assert!(response.body.starts_with(&beginning), "{}", response.body);
    assert_eq!(raw.hear().await, Heard::End);
    drop(raw);
    emptied(&relay).await;
}

pub(crate) async fn a_narrow_pipe_hears_its_pongs_and_its_close_frame<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    let mut raw = Raw::new(pipe_into(&relay, 1));
    raw.upgrade(&named_target(&address("alice"))).await;
    raw.answer_ping().await;
    raw.send(PING, b"hello").await;
    assert_eq!(raw.hear().await, Heard::Pong(b"hello".as_slice().into()));
    raw.send(CLOSE, &close_payload(1000, "bye")).await;
    assert_eq!(raw.rest().await, [Heard::close(1000, "bye")]);
    emptied(&relay).await;
}

pub(crate) async fn who_says_goodbye_behind_a_violation_hears_of_it_all_the_same<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    let mut raw = Raw::new(pipe_into(&relay, 1));
    raw.upgrade(&named_target(&address("alice"))).await;
    // The ping is in the way of what the relay says then.
    let forged = message(&address("bob"), &address("alice"), 1, 9);
    raw.send(BINARY, &forged).await;
    raw.send(CLOSE, &close_payload(1000, "bye")).await;
    let heard = raw.rest().await;
    assert!(matches!(&heard[..], [Heard::Close(1008, _)]), "{heard:?}");
    emptied(&relay).await;
}

pub(crate) async fn a_stream_that_is_over_or_comes_too_late_leaves_nothing<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    drop(pipe_into(&relay, 1));
    emptied(&relay).await;
    soon("the shutdown", relay.shutdown()).await;
    let mut late = Raw::new(pipe_into(&relay, 1));
    assert_eq!(late.response().await.status, 503);
    assert_eq!(late.hear().await, Heard::End);
    drop(late);
    eventually("no task is left", || relay.stats().tasks == 0).await;
}

pub(crate) async fn in_open_mode_an_agent_is_registered_before_it_sees_the_response<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    // Through a pipe of one byte, the rest of the response waits until the first byte was read.
    let mut raw = Raw::new(pipe_into(&relay, 1));
    let request = upgrade_request(&named_target(&address("alice")));
    raw.write(request.as_bytes()).await;
    let mut first = [0];
    let read = soon("the response", raw.stream.read_exact(&mut first)).await;
    read.expect("a byte");
    assert_eq!(first, *b"H");
    assert_eq!(relay.stats().hub.connections, 1);
}

/// Each write is a system call and a packet, and most of what a join costs.
pub(crate) async fn whoever_joins_is_told_everything_that_is_due_in_one_write<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    let (near, monitor) = monitored_into(&relay);
    let mut named = Raw::new(near);
    named.upgrade(&named_target(&address("alice"))).await;
    named.ping().await;
    assert_eq!(monitor.writes.load(Ordering::Relaxed), 1);

    let relay = detached(runtime, Auth::Challenge);
    let (near, monitor) = monitored_into(&relay);
    let mut proven = Raw::new(near);
    proven.upgrade("/ws").await;
    let challenge = proven.challenge().await;
    assert_eq!(monitor.writes.load(Ordering::Relaxed), 1);
    let answer = answer(&challenge, &key(1), |_| ());
    proven.send(BINARY, &answer).await;
    // AUTH_RESULT, and the ping with it.
    proven.envelope().await;
    proven.ping().await;
    assert_eq!(monitor.writes.load(Ordering::Relaxed), 2);
}

/// A pipe whose writes are counted, and fail once it is broken.
struct Monitored {
    pipe: Pipe,
    monitor: Arc<Monitor>,
}

#[derive(Default)]
struct Monitor {
    writes: AtomicUsize,
    broken: AtomicBool,
}

/// A wide pipe into `relay`, and what is known of the relay's end.
fn monitored_into<R: Runtime>(relay: &Relay<Tracked<R>>) -> (Pipe, Arc<Monitor>) {
    let (near, pipe) = pipe(1 << 20);
    let monitor = Arc::<Monitor>::default();
    relay.adopt(Monitored {
        pipe,
        monitor: Arc::clone(&monitor),
    });
    (near, monitor)
}

impl AsyncRead for Monitored {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Monitored {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.monitor.broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // Counted before its bytes can be read.
        self.monitor.writes.fetch_add(1, Ordering::Relaxed);
        let written = Pin::new(&mut self.pipe).poll_write(cx, bytes);
        // A pipe may ask for patience, and take nothing at first.
        if written.is_pending() {
            self.monitor.writes.fetch_sub(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_close(cx)
    }
}

pub(crate) async fn what_a_broken_stream_did_not_take_is_not_given_to_another<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    let (near, monitor) = monitored_into(&relay);
    let victim = Peer::named_over(near, "victim").await;
    let mut alice = Peer::named_over(pipe_into(&relay, 1 << 20), "alice").await;

    monitor.broken.store(true, Ordering::Relaxed);
    alice
        .send(message(&alice.address, &victim.address, 1, 9))
        .await;
    eventually("the victim is gone", || relay.stats().hub.connections == 1).await;
    let (about, _) = refusal(&alice.envelope().await).expect("a refusal");
    assert_eq!(about, 1);
    for number in 2..4 {
        let said = message(&alice.address, &alice.address, number, 9);
        alice.send(said.clone()).await;
        assert_eq!(alice.envelope().await, said);
    }
    let asked = alice.hear().await;
    assert!(matches!(asked, Heard::Ping(_)), "{asked:?}");
    eventually("both are confirmed", || relay.stats().hub.delivered == 2).await;
    assert_eq!(relay.stats().hub.unconfirmed, 1);
}

pub(crate) async fn what_a_closed_stream_said_last_is_not_taken_for_anothers<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = detached(runtime, Auth::Open);
    let mut alice = Peer::named_over(pipe_into(&relay, 1 << 20), "alice").await;
    let mut mallory = Raw::new(pipe_into(&relay, 1 << 20));
    mallory.upgrade(&named_target(&address("mallory"))).await;
    mallory.answer_ping().await;
    let forbidden = envelope(
        &address("mallory"),
        &alice.address,
        MessageType::AuthResult,
        1,
    );
    mallory.send(BINARY, &forbidden.to_bytes()).await;
    assert!(matches!(mallory.hear().await, Heard::Close(1008, _)));
    mallory.send(CLOSE, &close_payload(1008, "")).await;
    assert_eq!(mallory.rest().await, []);
    for number in 2..4 {
        let said = message(&alice.address, &alice.address, number, 9);
        alice.send(said.clone()).await;
        assert_eq!(alice.envelope().await, said);
    }
}

/// The pong of a ping says that everything before it has arrived: an agent forgets it then.
pub(crate) async fn a_ping_behind_what_is_not_taken_is_not_answered<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let relay = open(runtime, config().on_duplicate(OnDuplicate::Replace)).await;
    let mut bob = Peer::named(&relay, "bob").await;
    let said = message(&address("alice"), &bob.address, 1, 9);
    let unheard = [frame(BINARY, &said), frame(PING, b"?")].concat();

    // Its socket takes nothing while another connection replaces it.
    let (far, near) = pipe(1024);
    relay.adopt(near);
    let mut old = Raw::new(far);
    old.upgrade(&named_target(&address("alice"))).await;
    old.answer_ping().await;
    let large = message(&bob.address, &address("alice"), 1, 8 << 10);
    bob.send(large.clone()).await;
    let is_underway = || relay.stats().hub.in_flight == 1;
    eventually("more than fits is underway", is_underway).await;
    let new = Peer::named(&relay, "alice").await;
    old.write(&unheard).await;
    eventually("it is not taken", || relay.stats().hub.late > 0).await;
    assert_eq!(old.hear().await, Heard::Envelope(large));
    old.ping().await;
    let replaced = Heard::close(4001, "replaced by a new connection");
    assert_eq!(old.hear().await, replaced);
    new.leave().await;

    // It breaks a rule, and goes on.
    let mut rude = Raw::named(&relay, "alice").await;
    rude.write(&[frame(BINARY, b"?"), unheard].concat()).await;
    let Heard::Close(1007, _) = rude.hear().await else {
        panic!("a pong");
    };

    let after = message(&bob.address, &bob.address, 2, 9);
    bob.send(after.clone()).await;
    assert_eq!(bob.envelope().await, after, "nothing of it was taken");
}

/// As the request of one that the relay accepts itself does.
pub(crate) async fn an_upgrade_elsewhere_counts_for_the_address_of_its_peer<R: Runtime>(
    runtime: &Tracked<R>,
) {
    let local = IpAddr::from([127, 0, 0, 1]);
    let limits = Limits::new().connections(1).total_pending(1).exempt(vec![]);
    let relay = runtime
        .builder()
        .hub(config())
        .auth(Auth::Open)
        .limits(limits);
    let relay = relays::bind(runtime, relay).await;
    let _alice = Peer::named(&relay, "alice").await;
    let upgrade = Upgrade::trusted().vouched_for(address("carol"));
    let (near, far) = pipe(1024);
    relay.adopt_upgraded(far, upgrade.clone().peer(local));
    let told = "too many connections from 127.0.0.1: at most 1";
    assert_eq!(Raw::new(near).hear().await, Heard::close(1013, told));
    let counted = || relay.stats().handshakes.rejected.connections == 1;
    eventually("it is counted", counted).await;
    // It has no address.
    let (near, far) = pipe(1024);
    relay.adopt_upgraded(far, upgrade);
    Raw::new(near).answer_ping().await;
    // A stream with a buffer of its own is flushed when it gives way.
    let (near, far) = pipe(1024);
    relay.adopt(BufWriter::new(far));
    eventually("it waits", || relay.stats().pending == 1).await;
    let _newcomer = pipe_into(&relay, 1024);
    assert_eq!(Raw::new(near).response().await.status, 503);
}
