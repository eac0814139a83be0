//! The suite that every adapter has to pass, on smol's executor.

mod harness;

use harness::Global;

pinch_conformance::suite!(Global);
