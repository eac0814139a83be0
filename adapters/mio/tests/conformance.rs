//! The suite that every relay has to pass, with one hub.

mod harness;

type One = harness::Threads<1>;

pinch_conformance::relay_suite!(One);
