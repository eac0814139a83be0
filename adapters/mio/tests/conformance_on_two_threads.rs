//! The suite that every relay has to pass, with two hubs.

mod harness;

type Two = harness::Threads<2>;

pinch_conformance::relay_suite!(Two);
