//! The suite that every adapter has to pass, on four threads for each test.

mod harness;

type Four = harness::Threads<4>;

pinch_conformance::suite!(Four);
