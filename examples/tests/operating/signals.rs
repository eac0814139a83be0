//! Signals: some end a relay in order, others do nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use rustix::process::Signal;

use crate::relay::{Agent, RELAYS, Relay, close_code, eventually, head};

#[test]
fn hangups_are_ignored_with_a_line_and_usr1_drains() {
    for (_, program) in RELAYS {
        let mut relay = Relay::start(program, |command| {
            command.stderr(Stdio::piped());
        });
        let mut logs = BufReader::new(relay.child.stderr.take().unwrap());
        let mut agent = Agent::join(&relay, "alice");
        for (signal, name) in [(Signal::HUP, "SIGHUP"), (Signal::USR2, "SIGUSR2")] {
            relay.signal(signal);
            let mut line = String::new();
            while !line.contains(name) {
                line.clear();
                assert!(
                    logs.read_line(&mut line).unwrap() > 0,
                    "no line says {name}"
                );
            }
            assert!(line.contains("ignored"), "{line}");
        }
        assert_eq!(relay.health()["connections"], 1);

        // A second one does not end what has not drained.
        relay.signal(Signal::USR1);
        relay.signal(Signal::USR1);
        assert_eq!(agent.close_code(), Some(1001));
        assert_eq!(relay.ended().code(), Some(0));
    }
}

#[test]
fn pending_handshakes_are_told_of_a_shutdown() {
    for (_, program) in RELAYS {
        let mut relay = Relay::start_with(program, &["--listen=127.0.0.1:0"], |_| ());
        let mut silent = relay.connect();
        let mut halfway = relay.connect();
        halfway.write_all(b"GET /ws HTTP/1.1\r\nHost").unwrap();
        let mut challenged = relay.connect();
        challenged
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n\
                  Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        assert!(head(&mut challenged).starts_with("HTTP/1.1 101 "));
        relay.signal(Signal::TERM);
        for stream in [&mut silent, &mut halfway] {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        drop((silent, halfway));
        assert_eq!(close_code(&mut challenged), Some(1001));
        drop(challenged);
        assert_eq!(relay.ended().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_a_relay_at_once() {
    let (_, program) = RELAYS[0];
    let mut relay = Relay::start(program, |command| {
        command.stderr(Stdio::piped());
    });
    let mut logs = BufReader::new(relay.child.stderr.take().unwrap());
    let _silent = Agent::join(&relay, "alice");
    relay.signal(Signal::TERM);
    let mut line = String::new();
    eventually("the shutdown has begun", || {
        line.clear();
        logs.read_line(&mut line).unwrap();
        line.contains("shutting down")
    });
    relay.signal(Signal::INT);
    assert_eq!(relay.ended().code(), Some(130));
}
