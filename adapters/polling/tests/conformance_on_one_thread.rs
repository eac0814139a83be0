//! The suite that every adapter has to pass, on one thread for each test.

mod harness;

type One = harness::Threads<1>;

pinch_conformance::suite!(One);
