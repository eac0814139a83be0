//! The suite that every adapter has to pass, on async-std's executor.

mod harness;

use harness::Global;

pinch_conformance::suite!(Global);
