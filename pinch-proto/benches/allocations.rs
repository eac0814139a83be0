//! What each operation allocates, and what a connection takes of the hub's memory.
//!
//! ```text
//! cargo bench -p pinch-proto --bench allocations
//! ```
//! What an operation is given (the message that came, say) is not counted. `tests/allocations.rs`
//! holds those of these numbers that must not grow. Aims: `forward` allocates nothing, and a
//! connection takes 300 bytes at most besides its address.
#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod operations;

use allocation_counter::{AllocationInfo, measure};

use self::operations::{Addresses, COUNTED, LiveHub, Measure, Operation, config, each, repeat};

/// How many connections may be registered, by default.
const MOST: usize = 1 << 20;

fn main() {
    println!("{:<28} {:>12} {:>12}", "operation", "allocations", "bytes");
    each(&mut Table);
    println!();
    println!(
        "{:<12} {:>16} {:>16} {:>16}",
        "connections", "bytes of each", "while growing", "when all left"
    );
    // Vectors grow by doubling: they are fullest at a power of two, and emptiest behind one.
    for count in [1_000, 10_000, 100_000, MOST / 2 + 1, 1_000_000, MOST] {
        row(count);
    }
}

struct Table;

impl Measure for Table {
    fn operation<O: Operation>(&mut self, name: &'static str, set_up: impl FnOnce() -> O) {
        let mut operation = set_up();
        let mut sum = AllocationInfo::default();
        repeat(&mut operation, |run| sum += measure(run));
        let (count, bytes) = (each_of(sum.count_total), each_of(sum.bytes_total));
        println!("{name:<28} {count:>12.2} {bytes:>12.1}");
    }
}

fn row(count: usize) {
    let addresses = Addresses::new(count);
    let mut hub = LiveHub::new(config(), count);
    let joined = measure(|| hub.join_all(&addresses));
    let left = measure(|| (0..count).for_each(|agent| hub.leave(agent)));
    let rest = joined.bytes_current + left.bytes_current;
    let of_each = |bytes: i64| bytes / i64::try_from(count).expect("a count");
    println!(
        "{count:<12} {:>16} {:>16} {:>16}",
        of_each(joined.bytes_current),
        of_each(i64::try_from(joined.bytes_max).expect("a size")),
        of_each(rest),
    );
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn each_of(sum: u64) -> f64 {
    sum as f64 / COUNTED as f64
}
