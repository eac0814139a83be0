//! A relay that loses, repeats, swaps and alters envelopes: the load generator has to tell.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;
use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use pinch_bench::frame::{Opcode, put_unmasked};
use pinch_bench::load::idle::{self, Idle, IdleReport};
use pinch_bench::load::throughput::{self, Throughput};
use pinch_bench::load::{Account, Auth, Target};
use pinch_bench::recipient::recipient;
use pinch_bench::upgrade;
use pinch_proto::Host;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::{Message, accept_hdr};

/// How many there are where envelopes are sent.
const AGENTS: usize = 4;

/// What the relay does to every tenth envelope of a sender.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Loses,
    Repeats,
    /// Sends it behind the next one.
    Delays,
    Alters,
    /// Ends the sender's connection.
    Disconnects,
    /// Ends the recipient's, when it has rested for a while.
    HangsUp,
    /// Ends every connection soon after the last join, whatever it sends.
    TurnsAway,
}

/// Where the recipients' streams are.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<HashMap<Vec<u8>, TcpStream>>>);

impl Streams {
    fn write(&self, envelope: &[u8]) {
        let mut frame = Vec::new();
        put_unmasked(&mut frame, Opcode::Binary, envelope);
        let mut streams = self.0.lock().unwrap();
        let stream = streams.get_mut(recipient(envelope).unwrap()).unwrap();
        // It may have left in the end.
        let _ = stream.write_all(&frame);
    }

    fn end(&self, envelope: &[u8]) {
        let streams = self.0.lock().unwrap();
        let stream = &streams[recipient(envelope).unwrap()];
        stream.shutdown(Shutdown::Both).unwrap();
    }
}

/// A relay on threads; they end when its agents have left.
fn relay(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let streams = Streams::default();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let streams = streams.clone();
            thread::spawn(move || serve(stream.unwrap(), &streams, fault));
        }
    });
    url
}

#[allow(
    clippy::result_large_err,
    reason = "the library wants the callback to return its response"
)]
fn serve(stream: TcpStream, streams: &Streams, fault: Fault) {
    let writer = stream.try_clone().unwrap();
    let register = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let address = request.uri().query().and_then(upgrade::address).unwrap();
        let mut streams = streams.0.lock().unwrap();
        streams.insert(address.into_bytes(), writer);
        Ok(response)
    };
    // Whoever only looks whether somebody listens does not join.
    let Ok(mut socket) = accept_hdr(stream, register) else {
        return;
    };
    if let Fault::TurnsAway = fault {
        while streams.0.lock().unwrap().len() < AGENTS {
            thread::sleep(Duration::from_millis(1));
        }
        // So that the last of them has seen that it has joined.
        thread::sleep(Duration::from_millis(200));
        let _ = socket.get_ref().shutdown(Shutdown::Both);
        return;
    }
    let mut delayed: Option<tungstenite::Bytes> = None;
    let mut count = 0;
    while let Ok(message) = socket.read() {
        let Message::Binary(envelope) = message else {
            continue;
        };
        count += 1;
        if count % 10 != 0 {
            streams.write(&envelope);
            if let Some(delayed) = delayed.take() {
                streams.write(&delayed);
            }
            continue;
        }
        match fault {
            Fault::None | Fault::TurnsAway => streams.write(&envelope),
            Fault::Loses => {}
            Fault::Repeats => {
                streams.write(&envelope);
                streams.write(&envelope);
            }
            Fault::Delays => delayed = Some(envelope),
            Fault::Alters => {
                let mut altered = envelope.to_vec();
                *altered.last_mut().unwrap() ^= 1;
                streams.write(&altered);
            }
            Fault::HangsUp => {
                streams.write(&envelope);
                thread::sleep(Duration::from_millis(100));
                streams.end(&envelope);
            }
            Fault::Disconnects => {
                let _ = socket.get_ref().shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

fn target(fault: Fault) -> Target {
    Target {
        url: relay(fault),
        host: Host::parse("localhost").unwrap(),
        auth: Auth::Open,
        pid: None,
        concurrency: 2,
        spin: false,
    }
}

/// What is reported of ten agents who rest after each has received an envelope.
fn idle_under(fault: Fault) -> IdleReport {
    let options = Idle {
        target: target(fault),
        conns: 10,
        settle: Duration::from_secs(2),
        hold: Duration::ZERO,
        envelope: Some(32),
    };
    idle::run(&options).unwrap()
}

fn account_of(fault: Fault) -> Account {
    let options = Throughput {
        target: target(fault),
        pairs: AGENTS / 2,
        size: 32,
        window: 8,
        secs: Duration::from_secs(1),
        warmup: Duration::ZERO,
    };
    throughput::run(&options).unwrap().account
}

#[test]
fn a_relay_without_a_fault_is_clean() {
    let account = account_of(Fault::None);
    assert!(account.is_clean(), "{account:?}");
    assert!(account.arrived > 20);
    assert_eq!(account.arrived, account.sent);
}

#[test]
fn losses_are_counted() {
    let account = account_of(Fault::Loses);
    assert_eq!(account.lost, account.sent - account.arrived);
    // Of each of the two senders, every tenth.
    let tenth = account.sent / 10;
    assert!((tenth - 1..=tenth).contains(&account.lost), "{account:?}");
    assert_eq!((account.duplicated, account.reordered), (0, 0));
    assert!(!account.is_clean());
}

#[test]
fn duplicates_are_counted() {
    let account = account_of(Fault::Repeats);
    // The last one of each sender may come when nobody listens any more.
    let tenth = account.sent / 10;
    assert!(
        (tenth - 3..=tenth).contains(&account.duplicated),
        "{account:?}"
    );
    assert_eq!((account.lost, account.reordered), (0, 0));
    assert_eq!(account.arrived, account.sent);
    assert!(!account.is_clean());
}

#[test]
fn what_comes_late_is_counted() {
    let account = account_of(Fault::Delays);
    assert!(account.reordered > 1, "{account:?}");
    assert_eq!(account.duplicated, 0);
    // One of each sender may wait for a next one that does not come.
    assert!(account.lost <= 2, "{account:?}");
    assert!(!account.is_clean());
}

#[test]
fn what_is_altered_is_counted_and_has_not_arrived() {
    let account = account_of(Fault::Alters);
    assert!(account.altered > 1, "{account:?}");
    assert_eq!(account.lost, account.altered);
    assert!(!account.is_clean());
}

#[test]
fn disconnects_are_counted() {
    let account = account_of(Fault::Disconnects);
    assert!(account.disconnects.total() >= 2, "{account:?}");
    assert!(account.lost >= 2, "{account:?}");
    assert!(!account.is_clean());
}

#[test]
fn whoever_is_dropped_before_the_first_envelope_is_counted() {
    let account = account_of(Fault::TurnsAway);
    assert_eq!(account.disconnects.total(), AGENTS, "{account:?}");
    assert!(!account.is_clean());
}

#[test]
fn whoever_is_dropped_at_rest_is_counted() {
    let report = idle_under(Fault::None);
    assert_eq!((report.envelopes_lost, report.disconnects.total()), (0, 0));
    let report = idle_under(Fault::HangsUp);
    assert_eq!((report.envelopes_lost, report.disconnects.total()), (0, 1));
}
