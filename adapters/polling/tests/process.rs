//! The cases that look at the process as a whole, on four threads for each test.

mod harness;

type Four = harness::Threads<4>;

pinch_conformance::process_suite!(Four);
