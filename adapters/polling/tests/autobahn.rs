//! The Autobahn test suite against an echo on four threads.

mod harness;

use std::path::Path;

use harness::Threads;
use pinch_conformance::autobahn;

#[test]
fn the_echo_passes() {
    autobahn::passes::<Threads<4>>(Path::new(env!("CARGO_TARGET_TMPDIR")));
}
