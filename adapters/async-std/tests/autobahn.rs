//! The Autobahn test suite against an echo on async-std's executor.

mod harness;

use std::path::Path;

use harness::Global;
use pinch_conformance::autobahn;

#[test]
fn the_echo_passes() {
    autobahn::passes::<Global>(Path::new(env!("CARGO_TARGET_TMPDIR")));
}
