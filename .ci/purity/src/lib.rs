//! A program without the standard library that holds a hub.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use pinch_proto::hub::{Config, Hub};
use pinch_proto::{Host, Time, UnixMillis};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Uses enough of the crate for all of it to be compiled and linked.
pub fn connections() -> u64 {
    let host = Host::parse("localhost").unwrap_or_else(|_| loop {});
    Hub::new(Config::new(host), [0; 16], Time::ZERO, UnixMillis(0)).stats().connections
}
