//! The suite that every adapter has to pass, on a tokio runtime with several threads.

mod harness;

use harness::Threads;

pinch_conformance::suite!(Threads);
