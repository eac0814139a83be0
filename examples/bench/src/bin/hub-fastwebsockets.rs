//! A hub on `fastwebsockets`, to compare relays with: see `pinch_bench::hub`.

fn main() -> std::process::ExitCode {
    pinch_bench::hub::fastwebsockets::main()
}
