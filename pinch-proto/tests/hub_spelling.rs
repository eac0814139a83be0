//! Hosts compare without regard to case (protocol section 4): however an address is written, it is one
//! agent, with one connection, one queue, one bucket and one block list.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{
    Addressing, Admission, ConnId, Input, JoinOptions, JoinRefusal, Output, RateLimit,
};
use pinch_proto::wire::{BlockNotification, Envelope, MessageType, Payload, UnblockNotification};
use pinch_proto::{Address, Host, SecretKey};

use support::{HOST, World, address, config, envelope, message, secs};

/// Spellings of the agent `name` at the relay.
fn spellings(name: &str) -> [String; 3] {
    [HOST, "Relay.Example.COM", "RELAY.EXAMPLE.COM"].map(|host| format!("pinch:{name}@{host}"))
}

fn register(world: &mut World, text: &str, send_only: bool) -> Result<ConnId, JoinRefusal> {
    let options = JoinOptions {
        send_only,
        ..JoinOptions::default()
    };
    let outputs = world.give(Input::Register {
        address: Address::parse(text).expect("an address"),
        admission: Admission::Named,
        options,
    });
    let answer = outputs.iter().find_map(|output| match output {
        Output::Registered { conn, .. } => Some(Ok(*conn)),
        Output::Refused { refusal, .. } => Some(Err(*refusal)),
        Output::Wake { .. }
        | Output::Closed { .. }
        | Output::Store(_)
        | Output::Forward { .. }
        | Output::ShutDown => None,
    });
    answer.expect("an answer to a join")
}

fn written(from: &str, to: &str, text: &str) -> Bytes {
    Envelope {
        from_address: from.into(),
        to_address: to.into(),
        ..envelope("x", "", MessageType::Message, text)
    }
    .to_bytes()
}

/// What a connection got since this was asked before, as the message ids.
fn ids(world: &mut World, conn: ConnId) -> Vec<String> {
    world.settle();
    let frames = world.frames(conn);
    let messages = frames.iter().filter_map(|frame| match frame {
        pinch_proto::Frame::Message(bytes) => Some(bytes),
        pinch_proto::Frame::Ping(_)
        | pinch_proto::Frame::Pong(_)
        | pinch_proto::Frame::Close(_) => None,
    });
    let id = |bytes: &Bytes| {
        let view = pinch_proto::EnvelopeView::parse(bytes).expect("an envelope");
        String::from_utf8(view.message_id().to_vec()).expect("text")
    };
    messages.map(id).collect()
}

#[test]
fn three_spellings_are_one_agent() {
    let mut world = World::open();
    let bob = register(&mut world, &spellings("bob")[1], false).unwrap();
    for text in spellings("bob") {
        assert_eq!(
            register(&mut world, &text, false),
            Err(JoinRefusal::AlreadyConnected),
            "{text}"
        );
        assert_eq!(world.hub.lookup(&text), Some(bob), "{text}");
    }
    // The name is another matter.
    assert!(register(&mut world, &format!("pinch:Bob@{HOST}"), false).is_ok());
}

#[test]
fn an_envelope_arrives_verbatim_however_its_addresses_are_written() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for from in spellings("alice") {
        for to in spellings("bob") {
            let bytes = written(&from, &to, "m");
            world.receive(alice, bytes.clone());
            world.settle();
            let got = world.frames(bob);
            assert!(
                got.contains(&pinch_proto::Frame::Message(bytes)),
                "{from} {to}"
            );
        }
    }
    assert_eq!(world.cause(alice), None);
    // A name that differs in case is somebody else's.
    world.receive(alice, written(&format!("pinch:Alice@{HOST}"), "", "m"));
    world.settle();
    assert!(world.cause(alice).is_some());
}

#[test]
fn what_is_queued_under_one_spelling_is_read_under_another() {
    let mut world = World::with_queue();
    let alice = world.join("alice");
    for (number, to) in spellings("bob").iter().enumerate() {
        world.receive(
            alice,
            written(&spellings("alice")[number], to, &number.to_string()),
        );
    }
    world.settle();
    let queue = &world.store.queue;
    assert_eq!(queue.recipients().count(), 1);
    assert_eq!(
        queue.sender_bytes(address("alice").as_str()),
        queue.bytes(),
        "one sender"
    );
    let bob = register(&mut world, &spellings("bob")[2], false).unwrap();
    assert_eq!(ids(&mut world, bob), ["", "0", "1", "2"]);
}

#[test]
fn a_rejection_finds_its_sender_however_it_wrote_itself() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, support::Manner::Blocked);
    world.receive(
        alice,
        written(&spellings("alice")[2], &spellings("bob")[1], "m"),
    );
    world.settle();
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    assert_eq!(ids(&mut world, alice), ["m"], "QUEUE_FULL about it");
}

#[test]
fn all_spellings_share_a_bucket_and_the_places_of_send_only_sessions() {
    let limit = RateLimit::new(1.0, 2).unwrap();
    let mut world = World::new(config().rate_limit(Some(limit)));
    let alice = register(&mut world, &spellings("alice")[1], true).unwrap();
    for number in 0..3 {
        let from = &spellings("alice")[number];
        world.receive(alice, written(from, "pinch:nobody@x", "m"));
    }
    assert_eq!(world.stats().refused_rate, 1);
    for number in 0..7 {
        assert!(register(&mut world, &spellings("alice")[number % 3], true).is_ok());
    }
    assert_eq!(
        register(&mut world, &spellings("alice")[2], true),
        Err(JoinRefusal::TooManySendOnly)
    );
}

fn change(kind: MessageType, text: &str) -> Bytes {
    let payload = if kind == MessageType::BlockNotification {
        Payload::BlockNotification(BlockNotification {
            blocker_address: String::new(),
            blocked_address: text.into(),
        })
    } else {
        Payload::UnblockNotification(UnblockNotification {
            unblocker_address: String::new(),
            unblocked_address: text.into(),
        })
    };
    Envelope {
        payload: Some(payload),
        ..envelope("alice", "", kind, "b")
    }
    .to_bytes()
}

#[test]
fn a_block_holds_however_both_are_written() {
    for blocked in spellings("bob") {
        let mut world = World::with_queue();
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.receive(alice, change(MessageType::BlockNotification, &blocked));
        for from in spellings("bob") {
            for to in spellings("alice") {
                world.receive(bob, written(&from, &to, "m"));
            }
        }
        assert_eq!(world.stats().blocked, 9, "{blocked}");
        world.receive(
            alice,
            change(MessageType::UnblockNotification, &spellings("bob")[2]),
        );
        world.receive(bob, message("bob", "alice", "m"));
        assert_eq!((world.stats().blocked, world.stats().blocks), (9, 0));
        world.settle();
        assert!(world.store.queue.restored().blocks.is_empty());
    }
}

#[test]
fn the_host_of_the_relay_may_be_written_in_any_case() {
    let key = |seed| SecretKey::from_seed([seed; 32]).public_key();
    for host in [HOST, "Relay.Example.COM"] {
        let host = Host::parse(host).unwrap();
        let config = pinch_proto::hub::Config::new(host.clone())
            .addressing(Addressing::Keys)
            .queue(pinch_proto::hub::QueueConfig::new());
        let mut world = World::new(config);
        let own = Address::from_public_key(&key(1), &host);
        assert_eq!(own.host(), HOST);
        let sender = register(&mut world, own.as_str(), false).unwrap();
        world.pass(secs(1));
        let to = Address::from_public_key(&key(2), &host);
        for to in [
            to.to_string(),
            to.to_string().replace(HOST, "RELAY.example.com"),
        ] {
            world.receive(sender, written(own.as_str(), &to, "m"));
        }
        world.settle();
        assert_eq!(world.stats().stored, 2);
        assert_eq!(world.store.queue.recipients().count(), 1);
    }
}
