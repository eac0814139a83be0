//! All attacks on a relay's resources at once, in small: honest agents lose nothing, the relay answers,
//! and its memory stays within what its limits allow. `pinch-siege` plays them in full.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use core::time::Duration;

use pinch_bench::siege::{self, Attack, Siege};

fn siege(only: Vec<Attack>) -> Siege {
    Siege {
        secs: Duration::from_secs(8),
        percent: 5,
        pairs: 4,
        relay: Some(env!("CARGO_BIN_EXE_relay-tokio").into()),
        only,
    }
}

#[test]
fn honest_agents_lose_nothing_in_a_siege() {
    let report = siege::run(&siege(Vec::new())).unwrap();
    let mut text = String::new();
    siege::describe(&report, &mut text).unwrap();
    assert!(report.is_sound(), "{text}");
    assert!(report.honest.sent >= 8 && report.victim.sent > 0, "{text}");
    assert!(report.relay.answered > 0, "{text}");
    assert!(report.memory_ratio().unwrap() <= 1.3, "{text}");
    for attack in [
        Attack::Hoarding,
        Attack::Pinning,
        Attack::Beginning,
        Attack::Blocking,
        Attack::Cutting,
        Attack::Stuffing,
        Attack::Pongs,
        Attack::Fragments,
        Attack::Joining,
    ] {
        assert!(report.attacks[&attack].joins > 0, "{attack:?}: {text}");
    }
}
