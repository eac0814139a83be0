//! The file of the queue, as an operator finds and loses it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::relay::{RELAYS, Relay, eventually};

#[test]
fn a_queue_file_that_is_unlinked_or_replaced_shows_in_the_health() {
    for (_, program) in RELAYS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("queue.db");
        let mut relay = Relay::start(program, |command| {
            command.arg("--db").arg(&path);
        });
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(relay.health()["store"], "ok");
        let aside = directory.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        eventually("it is missed", || {
            relay.health()["store"] == "file unlinked"
        });
        fs::write(&path, "something else").unwrap();
        eventually("it is replaced", || {
            relay.health()["store"] == "file replaced"
        });
        fs::rename(&aside, &path).unwrap();
        eventually("it is back", || relay.health()["store"] == "ok");
        relay.terminate();
    }
}

#[test]
fn the_file_of_the_go_relay_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pinch-relay.db");
    let mut bytes = vec![0; 32 << 10];
    bytes[16..20].copy_from_slice(&[0xed, 0xda, 0x0c, 0xed]);
    fs::write(&path, &bytes).unwrap();
    for (_, program) in RELAYS {
        for arguments in [&["--listen=127.0.0.1:0"][..], &["queue", "inspect"]] {
            let mut command = Command::new(program);
            command.env_clear().args(arguments);
            let output = command.current_dir(directory.path()).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("the file of the Go relay"), "{said}");
        }
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
