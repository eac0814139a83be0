//! The cases that look at the process as a whole, with two hubs.

mod harness;

type Two = harness::Threads<2>;

pinch_conformance::relay_process_suite!(Two);
