//! A hub on `tokio-tungstenite`, to compare relays with: see `pinch_bench::hub`.

fn main() -> std::process::ExitCode {
    pinch_bench::hub::tungstenite::main()
}
