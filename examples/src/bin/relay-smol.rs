//! A Pinch relay on smol: the same settings and the same output as `relay-tokio`.

use std::process::ExitCode;

use pinch_examples::relay;
use pinch_smol::Smol;

fn main() -> ExitCode {
    relay::main::<Smol>(env!("CARGO_BIN_NAME"), smol::block_on)
}
