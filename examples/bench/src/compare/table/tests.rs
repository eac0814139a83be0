//! Tables, as people read them.

use super::write;
use crate::compare::sample::comparison;
use crate::compare::{BURST, Comparison};

fn written(comparison: &Comparison) -> String {
    let mut out = Vec::new();
    write(comparison, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The cells of the first row that begins with `name`.
fn cells<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with(&format!("| {name}")));
    let line = lines.next().unwrap();
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn a_row_says_what_was_measured_and_the_ratio_to_the_floor() {
    let text = written(&comparison());
    let ours = ["relay-tokio", "1,500,000", "0.50", "0.50", "2.00", "–", "–"];
    assert_eq!(cells(&text, "relay-tokio"), ours);
    let floor = ["floor", "3,000,000", "1.00", "0.25", "1.00", "–", "–"];
    assert_eq!(cells(&text, "floor"), floor);
    assert_eq!(cells(&text, "slow")[3..5], ["–", "–"]);
}

#[test]
fn the_summary_has_the_ratio_to_the_floor_under_each_load() {
    let text = written(&comparison());
    let (_, summary) = text.split_once("| CPU per message").unwrap();
    let ours = ["relay-tokio", "2.00", "–", "–", "–", "–"];
    assert_eq!(cells(summary, "relay-tokio"), ours);
}

#[test]
fn whether_all_arrived_is_said_in_the_end() {
    let mut comparison = comparison();
    let clean = written(&comparison);
    assert!(clean.ends_with("none was lost, duplicated, reordered, altered or refused.\n"));

    let rounds = comparison.relays[1].throughput.get_mut(BURST.name).unwrap();
    (rounds[0].account.sent, rounds[0].account.lost) = (1_000, 7);
    comparison.relays[0]
        .failures
        .push("idle: cannot be started".into());
    let faulty = written(&comparison);
    assert!(
        faulty.contains("Of 1,000 envelopes, not all arrived once"),
        "{faulty}"
    );
    assert!(
        faulty.contains("- relay-tokio: lost 7, duplicated 0"),
        "{faulty}"
    );
    assert!(
        faulty.contains("failures: idle: cannot be started"),
        "{faulty}"
    );
    assert!(!faulty.contains("- floor"), "{faulty}");
}
