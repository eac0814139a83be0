//! Where messages go: verbatim to their recipient, to the relay itself, back to their sender when
//! the recipient leaves, or nowhere together with the connection that broke a rule.

mod support;

use bytes::Bytes;
use pinch_proto::hub::{Admission, CloseCause, Fault, Input, OnDuplicate, Output, Violation};
use pinch_proto::wire::{Envelope, Heartbeat, MessageType, Payload};
use pinch_proto::{EnvelopeError, Frame};

use support::{
    Manner, PLENTY, World, address, config, envelope, lines, lines_with_probes, message,
    message_of, secs,
};

const LEFT: &str = "recipient left before the envelope was sent to it, and no queue is configured";
const UNCONFIRMED: &str = "recipient left before it confirmed the envelope, which may have arrived";

fn heartbeat(from: &str, to: &str) -> Bytes {
    let payload = Some(Payload::Heartbeat(Heartbeat { timestamp: 1 }));
    Envelope {
        payload,
        ..envelope(from, to, MessageType::Heartbeat, "")
    }
    .to_bytes()
}

/// An envelope with the type `number` and, before and after all others, fields that are unknown.
fn exotic(number: i32) -> Bytes {
    let mut known = envelope("alice", "bob", MessageType::Message, "id");
    known.r#type = number;
    // Field 100: a varint, written longer than it need be. Field 200: text.
    [
        &[0xa0, 0x06, 0x80, 0x00],
        &*known.to_bytes(),
        &[0xc2, 0x0c, 0x02, b'h', b'i'],
    ]
    .concat()
    .into()
}

#[test]
fn what_the_relay_need_not_know_arrives_verbatim() {
    let all = [
        MessageType::Unspecified,
        MessageType::Handshake,
        MessageType::Message,
        MessageType::DeliveryConfirm,
        MessageType::ConnectionRequest,
        MessageType::ConnectionResponse,
        MessageType::ConnectionRevoke,
    ];
    let types = all.map(i32::from).into_iter().chain([16, 999, -1]);
    let mut cases: Vec<Bytes> = types.map(exotic).collect();
    cases.push(message("alice", "bob", "hello"));
    cases.push(heartbeat("alice", "bob"));
    // A payload that does not decode is the recipient's business.
    let broken = [
        &*envelope("alice", "bob", MessageType::Message, "").to_bytes(),
        &[0x52, 1, 0xff],
    ];
    cases.push(broken.concat().into());

    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for bytes in cases {
        world.receive(alice, bytes.clone());
        assert_eq!(world.write(bob, PLENTY)[0], Frame::Message(bytes));
    }
    assert_eq!(world.stats().accepted, world.stats().received);
}

#[test]
fn an_agent_can_send_to_itself() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.say(alice, "alice", "note");
    world.settle();
    assert_eq!(world.heard(alice), ["alice: note"]);
}

#[test]
fn a_heartbeat_without_recipient_is_for_the_relay() {
    let mut world = World::open();
    let alice = world.join("alice");
    assert_eq!(world.receive(alice, heartbeat("alice", "")), []);
    assert_eq!((world.stats().consumed, world.stats().received), (1, 1));
}

#[test]
fn order_is_kept_from_many_senders_and_across_small_writes() {
    let mut world = World::open();
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    for text in ["1", "2", "3"] {
        world.say(alice, "carol", text);
        world.say(bob, "carol", text);
    }
    let mut heard = vec![];
    // One byte of credit is one frame.
    for _ in 0..6 {
        heard.extend(lines(&world.write(carol, 1)));
    }
    assert_eq!(
        heard,
        [
            "alice: 1", "bob: 1", "alice: 2", "bob: 2", "alice: 3", "bob: 3"
        ]
    );
}

#[test]
fn a_driver_gets_no_more_than_its_credit_and_one_frame() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for _ in 0..4 {
        world.receive(alice, message_of("alice", "bob", 1000));
    }
    let frames = [0, 1, 1001].map(|credit| world.write(bob, credit).len());
    assert_eq!(frames, [0, 2, 2], "and the ack probe behind the first");
    let stats = world.stats();
    assert_eq!(
        (
            stats.delivered,
            stats.in_flight,
            stats.queued,
            stats.queued_bytes
        ),
        (0, 3, 1, 1000)
    );
}

#[test]
fn a_ping_goes_before_refusals_and_those_before_envelopes() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.say(alice, "bob", "1");
    world.say(bob, "nobody", "2");
    world.now = world.now + secs(25);
    world.tick();
    let heard = lines(&world.write(bob, PLENTY));
    let offline = "QUEUE_FULL nobody #2: recipient is offline and no queue is configured";
    assert_eq!(heard, ["ping", offline, "alice: 1"]);
}

/// What a peer does wrong.
enum Wrong {
    Fault(Fault),
    Message(Bytes),
}

/// What a peer does wrong, and the close frame that it gets.
fn violations() -> Vec<(Wrong, &'static str)> {
    let broken_block = envelope("alice", "", MessageType::BlockNotification, "");
    vec![
        (
            Wrong::Fault(Fault::Text),
            "close 1003 text message, expected a binary one",
        ),
        (
            Wrong::Fault(Fault::InvalidUtf8),
            "close 1007 text that is not UTF-8",
        ),
        (
            Wrong::Fault(Fault::TooBig),
            "close 1009 message over 131072 bytes",
        ),
        (
            Wrong::Fault(Fault::Protocol),
            "close 1002 WebSocket protocol error",
        ),
        (
            Wrong::Message(message_of("alice", "bob", 131_073)),
            "close 1009 message over 131072 bytes",
        ),
        (
            Wrong::Message(Bytes::from_static(&[0x0a])),
            "close 1007 no envelope: byte 0: field 1 has wire type 2, expected 0",
        ),
        (
            Wrong::Message(message("bob", "bob", "forged")),
            "close 1008 from_address is not yours",
        ),
        // An envelope that says nothing of its sender.
        (
            Wrong::Message(Bytes::new()),
            "close 1008 from_address is not yours",
        ),
        (
            Wrong::Message(broken_block.to_bytes()),
            "close 1007 the payload is no BlockNotification",
        ),
    ]
}

#[test]
fn a_violation_ends_the_connection_behind_what_is_buffered_for_it() {
    for (wrong, close) in violations() {
        let mut world = World::open();
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.say(bob, "alice", "1");
        let (input, messages) = match wrong {
            Wrong::Fault(fault) => (Input::Faulty { conn: alice, fault }, 0),
            Wrong::Message(message) => (
                Input::Received {
                    conn: alice,
                    message: message.into(),
                },
                1,
            ),
        };
        world.give(input);
        assert_eq!(
            lines_with_probes(&world.write(alice, PLENTY)),
            ["bob: 1", "ping", close]
        );
        assert_eq!(
            world.write(alice, PLENTY),
            [],
            "nothing follows a close frame"
        );
        world.settle();
        assert_eq!(world.heard(bob), [""; 0], "{close}");
        assert_eq!(world.stats().violations, messages, "{close}");
        world.give(Input::Closed {
            conn: alice,
            clean: false,
        });
        let Some(CloseCause::Violation(_)) = world.cause(alice) else {
            panic!("{close}")
        };
    }
}

#[test]
fn the_cause_of_a_malformed_envelope_says_what_is_wrong() {
    let mut world = World::open();
    let alice = world.join("alice");
    world.receive(alice, Bytes::from_static(&[0x08]));
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    let error = EnvelopeError::TruncatedVarint { at: 1 };
    assert_eq!(
        world.cause(alice),
        Some(CloseCause::Violation(Violation::Malformed(error)))
    );
}

#[test]
fn what_only_the_relay_may_say_is_never_forwarded() {
    let relay_only = [
        (
            MessageType::AuthChallenge,
            "close 1008 only the relay may send AuthChallenge",
        ),
        (
            MessageType::AuthResponse,
            "close 1008 only the relay may send AuthResponse",
        ),
        (
            MessageType::AuthResult,
            "close 1008 only the relay may send AuthResult",
        ),
        (
            MessageType::QueueStatus,
            "close 1008 only the relay may send QueueStatus",
        ),
        (
            MessageType::QueueFull,
            "close 1008 only the relay may send QueueFull",
        ),
        (
            MessageType::RateLimited,
            "close 1008 only the relay may send RateLimited",
        ),
    ];
    for (kind, close) in relay_only {
        let mut world = World::open();
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.receive(alice, envelope("alice", "bob", kind, "").to_bytes());
        world.settle();
        assert_eq!(world.heard(alice), [close]);
        assert_eq!(world.heard(bob), [""; 0]);
        assert_eq!(world.stats().violations, 1);
    }
}

/// How a recipient goes away while envelopes wait for it.
#[derive(Debug)]
enum Leave {
    Socket,
    CloseFrame,
    Heartbeat,
    Stall,
    ViolationThenSocket,
}

#[test]
fn senders_hear_once_of_each_envelope_whose_recipient_leaves() {
    let ways = [
        Leave::Socket,
        Leave::CloseFrame,
        Leave::Heartbeat,
        Leave::Stall,
        Leave::ViolationThenSocket,
    ];
    for way in ways {
        let mut world = World::open();
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let (carol, gone) = (world.join("carol"), world.join("gone"));
        let stuck = if matches!(way, Leave::Stall) {
            Manner::Blocked
        } else {
            Manner::Silent
        };
        world.set(carol, stuck);
        if matches!(way, Leave::Heartbeat) {
            world.pass(secs(30));
        }
        // This one is handed out, and nobody says that it has arrived.
        world.say(alice, "carol", "0");
        assert_eq!(lines(&world.write(carol, 1)), ["alice: 0"]);
        for (from, text) in [(alice, "1"), (bob, "2"), (alice, "3"), (gone, "4")] {
            world.say(from, "carol", text);
        }
        world.give(Input::Closed {
            conn: gone,
            clean: false,
        });
        match way {
            Leave::Socket => drop(world.give(Input::Closed {
                conn: carol,
                clean: false,
            })),
            Leave::CloseFrame => drop(world.give(Input::PeerClosed {
                conn: carol,
                close: None,
            })),
            Leave::Heartbeat | Leave::Stall => {
                // The peer's socket takes nothing more, and its time is up.
                while world.cause(carol).is_none() {
                    world.now = world.now.max(world.wakeup.unwrap().at);
                    world.tick();
                    if world.cause(carol).is_none() {
                        world.give(Input::Blocked {
                            conn: carol,
                            progressed: false,
                        });
                    }
                }
            }
            Leave::ViolationThenSocket => {
                world.give(Input::Faulty {
                    conn: carol,
                    fault: Fault::Text,
                });
                world.give(Input::Closed {
                    conn: carol,
                    clean: false,
                });
            }
        }
        let heard = [alice, bob].map(|conn| {
            let frames = world.write(conn, PLENTY);
            let lines = lines(&frames).into_iter();
            lines
                .filter(|line| line.starts_with("QUEUE_FULL"))
                .collect::<Vec<_>>()
        });
        let notice = |text| format!("QUEUE_FULL carol #{text}: {LEFT}");
        // While the socket is not gone, it may still say that the first has arrived.
        let first = match way {
            Leave::CloseFrame => None,
            Leave::Socket | Leave::Heartbeat | Leave::Stall | Leave::ViolationThenSocket => {
                Some(format!("QUEUE_FULL carol #0: {UNCONFIRMED}"))
            }
        };
        let alices = [notice("1"), notice("3")].into_iter().chain(first);
        assert_eq!(heard, [alices.collect(), vec![notice("2")]], "{way:?}");
        let stats = world.stats();
        assert_eq!(
            (stats.returned, stats.queued, stats.queued_bytes),
            (4, 0, 0),
            "{way:?}"
        );
    }
}

#[test]
fn an_envelope_that_was_handed_out_when_its_recipient_left_is_unconfirmed() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    for text in ["1", "2"] {
        world.say(alice, "bob", text);
        assert_eq!(lines(&world.write(bob, PLENTY)).len(), 1);
    }
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.settle();
    let stats = world.stats();
    assert_eq!(
        (stats.delivered, stats.unconfirmed, stats.in_flight),
        (0, 2, 0)
    );
    assert_eq!(
        world.heard(alice),
        ["1", "2"].map(|text| format!("QUEUE_FULL bob #{text}: {UNCONFIRMED}"))
    );
}

/// A connection is remembered by those who wrote to it, and its place is used again.
#[test]
fn whoever_takes_the_place_of_one_who_left_gets_nothing_that_was_for_it() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.say(alice, "bob", "1");
    assert_eq!(lines(&world.write(bob, PLENTY)).len(), 1);
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    let carol = world.join("carol");
    assert_eq!(carol.index(), bob.index());
    world.say(alice, "bob", "2");
    world.say(alice, "carol", "3");
    assert_eq!(
        world.write(carol, PLENTY)[0],
        Frame::Message(message("alice", "carol", "3"))
    );
    assert_eq!(world.stats().refused_offline, 1);
    let bob = world.join("bob");
    world.say(alice, "bob", "4");
    assert_eq!(
        world.write(bob, PLENTY)[0],
        Frame::Message(message("alice", "bob", "4"))
    );
}

/// While a connection is closing, it is still there, but nobody reaches it.
#[test]
fn who_is_being_replaced_gets_nothing_from_those_who_wrote_to_it_before() {
    let mut world = World::new(config().on_duplicate(OnDuplicate::Replace));
    let (alice, old) = (world.join("alice"), world.join("bob"));
    world.say(alice, "bob", "1");
    assert_eq!(lines(&world.write(old, PLENTY)).len(), 1);
    world.set(old, Manner::Blocked);
    let new = world.join("bob");
    assert!(world.hub.holds(old) && !world.hub.is_open(old));
    world.say(alice, "bob", "2");
    assert_eq!(
        world.write(new, PLENTY)[0],
        Frame::Message(message("alice", "bob", "2"))
    );
}

#[test]
fn a_sender_that_came_back_hears_what_became_of_its_envelopes() {
    let mut world = World::open();
    let (old, bob) = (world.join("alice"), world.join("bob"));
    world.set(bob, Manner::Blocked);
    world.say(old, "bob", "0");
    world.settle();
    world.say(old, "bob", "1");
    world.give(Input::Closed {
        conn: old,
        clean: false,
    });
    let new = world.join("alice");
    world.give(Input::Closed {
        conn: bob,
        clean: false,
    });
    world.settle();
    assert_eq!(
        world.heard(new),
        [
            format!("QUEUE_FULL bob #1: {LEFT}"),
            format!("QUEUE_FULL bob #0: {UNCONFIRMED}")
        ]
    );
}

#[test]
fn senders_that_leave_do_not_take_their_envelopes_with_them() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.say(alice, "bob", "last words");
    world.give(Input::Closed {
        conn: alice,
        clean: false,
    });
    world.settle();
    assert_eq!(world.heard(bob), ["alice: last words"]);
}

#[test]
fn a_sleeping_connection_is_woken_once_for_any_number_of_envelopes() {
    let mut world = World::new(config());
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let wakes: usize = (0..5).map(|_| world.say(alice, "bob", "x").len()).sum();
    assert_eq!(wakes, 1);
    assert_eq!(lines(&world.write(bob, PLENTY)).len(), 5);
    // There was less than it may get, so it sleeps at once.
    assert_eq!(world.say(alice, "bob", "y").len(), 1);
    // It got all that it may, so it comes again by itself.
    assert_eq!(world.write(bob, 1).len(), 1);
    assert_eq!(world.say(alice, "bob", "z"), []);
    assert_eq!(world.write(bob, PLENTY).len(), 1);
    // It comes when its socket has taken that.
    world.give(Input::Blocked {
        conn: bob,
        progressed: false,
    });
    assert_eq!(world.say(alice, "bob", "w"), []);
    assert_eq!(world.hub.lookup(address("bob").as_str()), Some(bob));
}

#[test]
fn a_connection_without_credit_is_still_woken() {
    let mut world = World::open();
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    assert_eq!(world.write(bob, 0), []);
    assert_eq!(world.say(alice, "bob", "1"), [Output::Wake { conn: bob }]);
}

#[test]
fn a_connection_for_which_something_waits_is_awake() {
    let mut world = World::open();
    let alice = world.knock("alice", Admission::Named).unwrap();
    assert_eq!(world.write(alice, 0), [], "there is no room for its ping");
    assert_eq!(world.give(Input::Shutdown), []);
    let expected = ["close 1001 going away"];
    assert_eq!(lines(&world.write(alice, PLENTY)), expected);
}
