//! The cases that look at the process as a whole, on smol's executor.

mod harness;

use harness::Global;

pinch_conformance::process_suite!(Global);
