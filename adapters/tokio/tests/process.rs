//! The cases that look at the process as a whole, on a tokio runtime with several threads.

mod harness;

use harness::Threads;

pinch_conformance::process_suite!(Threads);
