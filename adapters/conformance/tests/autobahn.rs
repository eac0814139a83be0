//! Whether the cases of the Autobahn test suite are worth something the way we run them.

use std::path::Path;

#[test]
fn a_sloppy_echo_does_not_pass() {
    pinch_conformance::autobahn::tells_good_from_bad(Path::new(env!("CARGO_TARGET_TMPDIR")));
}
