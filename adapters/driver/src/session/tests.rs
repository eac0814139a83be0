//! Sessions with a hub behind them, in virtual time: what comes in whatever pieces, what goes out.

use std::io::Write as _;

use bytes::Bytes;
use http::Response;
use pinch_proto::hub::{self, CloseCause, Output, QueueConfig};
use pinch_proto::peers::{IpNet, Source};
use pinch_proto::wire::{Envelope, MessageType};
use pinch_proto::{Address, Host, SecretKey, handshake};

use super::*;
use crate::Auth;

const UPGRADE: &str = "Host: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const CREDIT: usize = 256 << 10;

fn host() -> Host {
    Host::parse("relay").unwrap()
}

fn address(name: &str) -> Address {
    Address::parse(&format!("pinch:{name}@relay")).unwrap()
}

fn named(name: &str) -> Vec<u8> {
    format!("GET /ws?address=pinch:{name}@relay HTTP/1.1\r\n{UPGRADE}").into()
}

/// A frame as a client writes it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = match payload.len() {
        0..126 => vec![first, 0x80 | length[1]],
        _ => vec![first, 0x80 | 126, length[0], length[1]],
    };
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

fn binary(message: &[u8]) -> Vec<u8> {
    frame(0x82, message)
}

fn ping(payload: &[u8]) -> Vec<u8> {
    frame(0x89, payload)
}

fn pong(payload: &[u8]) -> Vec<u8> {
    frame(0x8a, payload)
}

fn close(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}

fn envelope(from: &str, to: &str) -> Bytes {
    Envelope {
        version: 1,
        from_address: address(from).as_str().into(),
        to_address: address(to).as_str().into(),
        r#type: MessageType::Message.into(),
        message_id: Bytes::from_static(b"id"),
        ..Envelope::default()
    }
    .to_bytes()
}

/// What a relay writes: responses are left to the test.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(u16),
}

fn frames(mut bytes: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (u16::from_be_bytes([rest[0], rest[1]]).into(), &rest[2..]),
            length => (usize::from(*length), rest),
        };
        let (payload, rest) = rest.split_at(length);
        let payload = Bytes::copy_from_slice(payload);
        heard.push(match first {
            0x82 => Heard::Message(payload),
            0x89 => Heard::Ping(payload),
            0x8a => Heard::Pong(payload),
            0x88 => Heard::Close(u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("a frame {other:#x}"),
        });
        bytes = rest;
    }
    heard
}

/// Everything that one session does, with a hub of its own.
struct Scene {
    hub: Hub,
    session: Session,
    out: WriteBatch,
    now: Time,
    limit: Result<(), peers::Rejection>,
    /// The events, and the inputs for the hub, in order.
    log: Vec<String>,
    outcome: Option<Outcome>,
    cause: Option<CloseCause>,
}

impl Scene {
    fn with(config: Config, entry: Entry, peer: Option<IpAddr>) -> Self {
        Self::over(config, hub::Config::new(host()), entry, peer)
    }

    fn over(config: Config, hub: hub::Config, entry: Entry, peer: Option<IpAddr>) -> Self {
        let hub_config = hub
            .addressing(config.addressing())
            .message_bytes(1000)
            .envelope_bytes(900);
        let now = Time::ZERO;
        let hub = Hub::new(hub_config.build().unwrap(), [7; 16], now, UnixMillis(0));
        let mut scene = Self {
            hub,
            session: Session::new(Arc::new(config), entry, peer, now),
            out: WriteBatch::default(),
            now,
            limit: Ok(()),
            log: Vec::new(),
            outcome: None,
            cause: None,
        };
        scene.settle();
        scene
    }

    fn open() -> Self {
        Self::with(
            Config::new(host(), 1000).auth(Auth::Open),
            Entry::Fresh,
            None,
        )
    }

    fn challenge() -> Self {
        Self::with(Config::new(host(), 1000), Entry::Fresh, None)
    }

    /// One that has joined in open mode, and has answered the ping that comes first.
    fn joined() -> Self {
        Self::open().join()
    }

    fn join(mut self) -> Self {
        let scene = &mut self;
        scene.receive(&named("alice"));
        let written = scene.written();
        let at = written.len() - 10;
        assert!(written.starts_with(b"HTTP/1.1 101 "));
        let [Heard::Ping(payload)] = &frames(&written[at..])[..] else {
            panic!("no ping");
        };
        scene.receive(&pong(payload));
        assert_eq!(scene.heard(), []);
        scene.log.clear();
        self
    }

    fn hand_in(&mut self, input: Input) {
        let mut turn = self.hub.handle_input(input, self.now);
        while let Some(output) = turn.poll_output() {
            if let Output::Closed { cause, .. } = output {
                self.cause = Some(cause);
            }
        }
        let _ = turn.finish();
    }

    /// Answers what the session asks for, and carries what is between it and the hub.
    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event(self.now, &mut self.out) {
            match event {
                Event::Identified(ip) => self.log.push(format!("{ip}")),
                Event::Upgrade(upgrade) => {
                    let limit = core::mem::replace(&mut self.limit, Ok(()));
                    upgrade.answer(limit, self.now, &mut self.out);
                }
                Event::Health(health) => {
                    let report = Response::new("fine".to_owned());
                    health.answer(&report, self.now, &mut self.out);
                }
                Event::Nonce(nonce) => {
                    nonce.answer([9; 32], self.now, UnixMillis(5), &mut self.out);
                }
                Event::Register(register) => {
                    let mut turn = self.hub.handle_input(register.input(), self.now);
                    match turn.poll_output() {
                        Some(Output::Registered { conn, .. }) => {
                            register.registered(conn, &mut self.out);
                        }
                        Some(Output::Refused { refusal, .. }) => {
                            register.refused(refusal, self.now, &mut self.out);
                        }
                        other => panic!("{other:?}"),
                    }
                    let _ = turn.finish();
                    self.receive(&[]);
                }
                Event::Left(outcome) => self.outcome = Some(outcome),
            }
        }
        if let Some(conn) = self.session.conn() {
            let Self {
                hub, session, out, ..
            } = self;
            let turn = hub.poll_transmit(conn, CREDIT, self.now, |frame| {
                session.transmit(frame, out);
            });
            let _ = turn.finish();
            assert!(self.session.follow(&self.hub) || self.cause.is_some());
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let mut inputs = Vec::new();
        self.session.receive(bytes, |input| inputs.push(input));
        for input in inputs {
            self.log.push(format!("{input:?}"));
            self.hand_in(input);
        }
        self.settle();
    }

    /// Takes what there is to write, all of it.
    fn written(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.out.write_with(|slices| bytes.write_vectored(slices));
        written.unwrap();
        self.session.flushed();
        bytes
    }

    fn heard(&mut self) -> Vec<Heard> {
        frames(&self.written())
    }

    /// Waits until the next deadline of the session, again and again, for `time`.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.next_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.session.handle_timeout(at, &mut self.out);
            self.settle();
        }
        self.now = end;
    }

    /// Ends as the session wants it, and tells the hub.
    fn end(&mut self) -> Option<CloseCause> {
        self.hand_in(self.session.closed().expect("it has joined"));
        self.cause.take()
    }

    /// The peer reads why it is turned away, and ends its stream.
    fn read_and_leave(&mut self) {
        assert!(self.session.wants_end());
        self.session.ended();
        assert!(self.session.wants_read(false) > 0 && !self.session.is_over());
        self.receive(b"ignored");
        assert_eq!(self.written(), b"");
        self.session.receive_end();
        assert!(self.session.is_over());
    }
}

fn status(written: &[u8]) -> &str {
    str::from_utf8(&written[9..12]).unwrap()
}

#[test]
fn an_agent_proves_its_key_and_joins() {
    let mut scene = Scene::challenge();
    scene.receive(format!("GET /ws HTTP/1.1\r\n{UPGRADE}").as_bytes());
    let written = scene.written();
    let end = written.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, challenge) = written.split_at(end.unwrap() + 4);
    assert_eq!(status(head), "101");
    let [Heard::Message(challenge)] = &frames(challenge)[..] else {
        panic!("no challenge");
    };
    let agent = handshake::Agent::new(SecretKey::from_seed([1; 32]), host());
    let (answer, agent) = agent.handle_challenge(challenge, UnixMillis(0)).unwrap();
    // A ping before the answer is answered, and what comes behind it is not lost.
    let bytes = [ping(b"?"), binary(&answer), ping(b"!")].concat();
    scene.receive(&bytes);
    let heard = scene.heard();
    let [
        Heard::Pong(one),
        Heard::Message(result),
        Heard::Ping(_),
        Heard::Pong(other),
    ] = &heard[..]
    else {
        panic!("{heard:?}");
    };
    assert_eq!((&one[..], &other[..]), (&b"?"[..], &b"!"[..]));
    agent.handle_result(result, Duration::ZERO).unwrap();
    assert_eq!(scene.outcome, None);
    assert_eq!(
        scene.session.next_timeout(),
        None,
        "only the hub has deadlines now"
    );
}

#[test]
fn whatever_the_pieces_the_same_goes_in_and_out() {
    let conversation = [
        named("alice"),
        pong(&1_u64.to_be_bytes()),
        ping(b"one"),
        binary(&envelope("alice", "alice")),
        // In fragments, with a ping in between.
        frame(0x02, &envelope("alice", "alice")[..10]),
        ping(b"two"),
        frame(0x80, &envelope("alice", "alice")[10..]),
        close(1000),
    ]
    .concat();
    let play = |pieces: &[&[u8]]| {
        let mut scene = Scene::open();
        let mut written = Vec::new();
        for piece in pieces {
            scene.receive(piece);
            written.extend(scene.written());
        }
        // How much of a message has begun depends on the pieces.
        scene.log.retain(|input| !input.starts_with("Partial"));
        (scene.log, written)
    };
    let whole = play(&[&conversation]);
    assert_eq!(whole.0.len(), 6, "{:?}", whole.0);
    let bytes: Vec<&[u8]> = conversation.chunks(1).collect();
    assert_eq!(play(&bytes).0, whole.0);
    for at in 1..conversation.len() {
        let (one, other) = conversation.split_at(at);
        assert_eq!(play(&[one, other]).0, whole.0, "split at {at}");
    }
    // Pongs, envelopes and pings may meet otherwise; of each kind, everything is there.
    let kinds = |written: &[u8]| {
        let at = written.windows(4).position(|four| four == b"\r\n\r\n");
        let heard = frames(&written[at.unwrap() + 4..]);
        let messages = heard.iter().filter(|it| matches!(it, Heard::Message(_)));
        let pongs = heard.iter().filter(|it| matches!(it, Heard::Pong(_)));
        let (messages, pongs) = (messages.count(), pongs.count());
        assert_eq!(heard.last(), Some(&Heard::Close(1000)));
        (messages, pongs)
    };
    assert_eq!(kinds(&play(&bytes).1), (2, 2));
}

#[test]
fn a_pong_goes_behind_a_rejection_that_is_pending() {
    let config = Config::new(host(), 1000).auth(Auth::Open);
    let hub = hub::Config::new(host()).queue(QueueConfig::new());
    let mut scene = Scene::over(config, hub, Entry::Fresh, None).join();
    // Its recipient is offline: the store is asked, and says no.
    let bytes = [binary(&envelope("alice", "bob")), ping(b"?")].concat();
    let mut ticket = None;
    scene.session.receive(&bytes, |input| {
        let mut turn = scene.hub.handle_input(input, scene.now);
        while let Some(output) = turn.poll_output() {
            if let Output::Store(request) = output {
                ticket = Some(request.ticket);
            }
        }
        let _ = turn.finish();
    });
    scene.settle();
    assert_eq!(scene.heard(), [], "the store has not answered");
    let outcome = pinch_proto::queue::Outcome::Failed {
        failure: pinch_proto::queue::Failure::DiskFull,
        detail: "".into(),
    };
    let ticket = ticket.expect("the store is asked");
    scene.hand_in(Input::Stored { ticket, outcome });
    scene.settle();
    let heard = scene.heard();
    let [Heard::Message(rejection), Heard::Pong(payload)] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(&payload[..], b"?");
    // Its type, field 4 of the envelope.
    let queue_full = [
        0x20,
        u8::try_from(i32::from(MessageType::QueueFull)).unwrap(),
    ];
    assert!(rejection.windows(2).any(|field| field == queue_full));
}

#[test]
fn nothing_counts_behind_a_close_frame_and_nothing_is_written() {
    let mut scene = Scene::joined();
    let behind = [ping(b"?"), binary(&envelope("alice", "alice"))].concat();
    scene.receive(&[close(1000), behind.clone()].concat());
    scene.receive(&behind);
    scene.session.flushed();
    scene.receive(&behind);
    assert_eq!(scene.log.len(), 1, "{:?}", scene.log);
    assert_eq!(scene.heard(), [Heard::Close(1000)]);
    assert_eq!(scene.heard(), []);

    // Nor while the answer has to wait.
    let mut scene = Scene::joined();
    let mut count = 0;
    scene.session.receive(&close(1000), |_| count += 1);
    scene.session.receive(&behind, |_| count += 1);
    assert_eq!(count, 1);

    // Nor behind a breach, but it is told.
    let mut scene = Scene::joined();
    scene.receive(&[frame(0x83, b""), behind.clone()].concat());
    scene.receive(&behind);
    assert_eq!(scene.log.len(), 1, "{:?}", scene.log);
    assert_eq!(scene.heard(), [Heard::Close(1002)]);
}

/// How a close handshake can go, and whether it acknowledges.
#[test]
fn a_close_is_clean_if_the_peer_was_first_and_waited_for_the_answer() {
    // It reads the answer, and ends its stream.
    let mut scene = Scene::joined();
    scene.receive(&close(1000));
    assert!(!scene.session.wants_end(), "the answer is not written");
    assert_eq!(scene.heard(), [Heard::Close(1000)]);
    assert!(scene.session.wants_end());
    scene.session.ended();
    scene.session.receive_end();
    let conn = scene.session.conn().unwrap();
    let clean = |clean| Some(Input::Closed { conn, clean });
    assert!(scene.session.is_over());
    assert_eq!(scene.session.closed(), clean(true));
    assert_eq!(scene.end(), Some(CloseCause::Peer));

    // It ends its stream right behind its close frame, or before it is written.
    for is_answered in [false, true] {
        let mut scene = Scene::joined();
        let mut inputs = Vec::new();
        scene
            .session
            .receive(&close(1000), |input| inputs.push(input));
        assert!(scene.session.expects_end());
        if is_answered {
            inputs.drain(..).for_each(|input| scene.hand_in(input));
            scene.settle();
        }
        scene.session.receive_end();
        assert!(!scene.session.expects_end() && !scene.session.is_over());
        inputs.drain(..).for_each(|input| scene.hand_in(input));
        scene.settle();
        assert_eq!(scene.heard(), [Heard::Close(1000)]);
        assert!(scene.session.is_over());
        assert_eq!(scene.session.closed(), clean(false));
    }

    // The relay was first: with the peer's close frame it is over, once everything is written.
    let mut scene = Scene::joined();
    scene.hand_in(Input::Shutdown);
    scene.settle();
    scene.receive(&[pong(b"?"), close(1001)].concat());
    assert_eq!(scene.log.len(), 2, "{:?}", scene.log);
    assert!(!scene.session.is_over() && scene.session.wants_read(false) == 0);
    assert_eq!(scene.heard(), [Heard::Close(1001)]);
    assert!(scene.session.is_over());
    assert_eq!(scene.session.closed(), clean(false));

    // It goes without a word.
    let mut scene = Scene::joined();
    scene.session.receive_end();
    assert!(scene.session.is_over());
    assert_eq!(scene.session.closed(), clean(false));
    assert_eq!(scene.end(), Some(CloseCause::Lost));
}

#[test]
fn a_request_has_8192_bytes_at_most() {
    for (length, expected) in [(8192, "101"), (8193, "431")] {
        let mut request = named("alice");
        let padding = length - request.len() - "X: \r\n".len();
        let header = format!("X: {}\r\n\r\n", "a".repeat(padding));
        request.truncate(request.len() - 2);
        request.extend(header.as_bytes());
        assert_eq!(request.len(), length);
        let mut scene = Scene::open();
        scene.receive(&request);
        assert_eq!(status(&scene.written()), expected, "{length} bytes");
    }
    // Without an end, as soon as it shows.
    let mut scene = Scene::open();
    scene.receive(format!("{:a<8191}", "GET / HTTP/1.1\r\nX: ").as_bytes());
    assert_eq!((scene.written(), scene.outcome), (vec![], None));
    scene.receive(b"a");
    assert_eq!(status(&scene.written()), "431");
    assert_eq!(scene.outcome, Some(Outcome::Rejected(Reason::Malformed)));
    scene.read_and_leave();
}

#[test]
fn requests_that_are_no_upgrade_are_answered_and_read() {
    let cases = [
        (
            "GET /health HTTP/1.1\r\nHost: relay\r\n\r\n",
            "200",
            Outcome::Answered,
        ),
        (
            "GET /ws HTTP/1.1\r\nHost: relay\r\n\r\n",
            "426",
            Outcome::Rejected(Reason::Request),
        ),
        (
            "GET /other HTTP/1.1\r\nHost: relay\r\n\r\n",
            "404",
            Outcome::Rejected(Reason::Request),
        ),
        (
            "nonsense\r\n\r\n",
            "400",
            Outcome::Rejected(Reason::Malformed),
        ),
    ];
    for (request, expected, outcome) in cases {
        let mut scene = Scene::open();
        scene.receive(request.as_bytes());
        assert_eq!(scene.outcome, Some(outcome));
        assert_eq!(status(&scene.written()), expected);
        scene.read_and_leave();

        // It does not read that.
        let mut scene = Scene::open();
        scene.receive(request.as_bytes());
        scene.pass(Duration::from_millis(1900));
        assert!(!scene.session.is_over());
        scene.pass(Duration::from_millis(1000));
        assert!(scene.session.is_over());
    }
}

#[test]
fn each_step_before_the_join_has_a_deadline() {
    let mut scene = Scene::challenge();
    scene.receive(b"GET /ws HTTP/1.1\r\n");
    scene.pass(Duration::from_millis(9900));
    assert_eq!(scene.written(), b"");
    scene.pass(Duration::from_millis(1000));
    assert_eq!(status(&scene.written()), "408");
    assert_eq!(scene.outcome, Some(Outcome::Rejected(Reason::Timeout)));
    scene.read_and_leave();

    let mut scene = Scene::challenge();
    scene.pass(Duration::from_secs(5));
    scene.receive(format!("GET /ws HTTP/1.1\r\n{UPGRADE}").as_bytes());
    scene.written();
    scene.pass(Duration::from_millis(9900));
    assert_eq!(scene.written(), b"");
    scene.pass(Duration::from_millis(1000));
    assert_eq!(scene.heard(), [Heard::Close(1008)]);
    assert_eq!(scene.outcome, Some(Outcome::Rejected(Reason::Timeout)));
}

#[test]
fn a_connection_gives_way_or_ends_with_the_relay_in_its_own_words() {
    type End = fn(&mut Scene);
    let ends: [(End, &str, u16, Outcome); 2] = [
        (
            |scene| scene.session.evict(&mut scene.out),
            "503",
            1013,
            Outcome::Evicted,
        ),
        (
            |scene| scene.session.shut_down(scene.now, &mut scene.out),
            "503",
            1001,
            Outcome::Rejected(Reason::ShuttingDown),
        ),
    ];
    for (end, code, close, outcome) in ends {
        let mut scene = Scene::challenge();
        scene.receive(b"GET /ws");
        end(&mut scene);
        scene.settle();
        assert_eq!(status(&scene.written()), code);
        assert_eq!(scene.outcome, Some(outcome));

        let mut scene = Scene::challenge();
        scene.receive(format!("GET /ws HTTP/1.1\r\n{UPGRADE}").as_bytes());
        scene.written();
        end(&mut scene);
        scene.settle();
        assert_eq!(scene.heard(), [Heard::Close(close)]);
        assert_eq!(scene.outcome, Some(outcome));
        assert_eq!(scene.session.is_over(), outcome == Outcome::Evicted);

        // One that has joined hears it from the hub.
        let mut scene = Scene::joined();
        end(&mut scene);
        assert!(!scene.session.is_over() && scene.out.is_empty());
    }
}

#[test]
fn an_address_over_its_limit_is_told_so() {
    let rejection = || peers::Rejection::Connections {
        from: Source::of(None),
        limit: 3,
    };
    let mut scene = Scene::open();
    scene.limit = Err(rejection());
    scene.receive(&named("alice"));
    assert_eq!(status(&scene.written()), "429");
    assert_eq!(scene.outcome, Some(Outcome::Rejected(Reason::Connections)));

    let mut scene = Scene::open();
    scene.receive(&named("alice"));
    // The hub refuses it: with a response, and the reason behind it.
    let mut second = Scene::open();
    core::mem::swap(&mut second.hub, &mut scene.hub);
    second.receive(&named("alice"));
    let written = second.written();
    assert_eq!(status(&written), "101");
    let last = &written[written.len() - "address already connected".len()..];
    assert_eq!(last, b"address already connected");
    assert_eq!(second.outcome, Some(Outcome::Rejected(Reason::Hub)));
    second.read_and_leave();
}

#[test]
fn a_proxy_says_where_a_connection_comes_from() {
    let proxy: IpAddr = [10, 0, 0, 1].into();
    let config = || {
        let networks: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let config = Config::new(host(), 1000).auth(Auth::Open);
        config.trusted_proxies(networks).proxy_protocol(true)
    };
    let header = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 1, 187],
    ]
    .concat();
    let bytes = [header, named("alice")].concat();
    for at in 0..bytes.len() {
        let mut scene = Scene::with(config(), Entry::Accepted, Some(proxy));
        let (one, other) = bytes.split_at(at);
        scene.receive(one);
        scene.receive(other);
        assert_eq!(scene.log, ["192.0.2.7"]);
        assert_eq!(status(&scene.written()), "101");
    }
    // From elsewhere, and without one.
    let other = Some([192, 0, 2, 1].into());
    for (peer, bytes) in [(other, bytes), (Some(proxy), named("alice"))] {
        let mut scene = Scene::with(config(), Entry::Accepted, peer);
        scene.receive(&bytes);
        assert_eq!(status(&scene.written()), "400");
    }
}

#[test]
fn a_message_that_has_begun_is_told_and_dropped_when_the_hub_closes() {
    let mut scene = Scene::joined();
    scene.receive(&binary(&envelope("alice", "alice"))[..20]);
    assert!(matches!(&scene.log[..], [input] if input.starts_with("Partial")));
    scene.hand_in(Input::Shutdown);
    scene.settle();
    assert_eq!(scene.heard(), [Heard::Close(1001)]);
    assert!(scene.session.wants_end(), "no close frame can be read");
    scene.receive(&[0; 100]);
    assert_eq!(scene.log.len(), 1);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_before_it_joins() {
    let scene = Scene::open();
    assert!(scene.session.wants_read(false) > 0);
    assert_eq!(scene.session.wants_read(true), 0);
    let scene = Scene::joined();
    assert!(scene.session.wants_read(true) > 0, "its pongs are wanted");
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 104, "{}", size_of::<Session>());
}

#[test]
fn a_connection_without_randomness_ends() {
    let mut scene = Scene {
        session: Session::new(
            Arc::new(Config::new(host(), 1000)),
            Entry::Upgraded(Upgrade::trusted()),
            None,
            Time::ZERO,
        ),
        ..Scene::challenge()
    };
    let mut left = None;
    while let Some(event) = scene.session.poll_event(scene.now, &mut scene.out) {
        match event {
            Event::Upgrade(upgrade) => upgrade.answer(Ok(()), scene.now, &mut scene.out),
            Event::Nonce(nonce) => nonce.give_up(),
            Event::Left(outcome) => left = Some(outcome),
            other @ (Event::Identified(_) | Event::Health(_) | Event::Register(_)) => {
                panic!("{other:?}")
            }
        }
    }
    assert_eq!(left, Some(Outcome::Left));
    assert!(scene.session.is_over() && scene.out.is_empty());
}
