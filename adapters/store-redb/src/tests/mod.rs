//! The store from within: on disks that fail, in processes that are killed, of files that are damaged.
//!
//! What the disks go through is a history of batches. It is executed once on a good disk, and then
//! again and again on disks that fail at the first, the second, … of all the writes, truncations and
//! flushes that it takes.

mod crash;
mod damage;
mod faults;
mod golden;
mod history;
mod hosts;
mod inspection;
mod opening;
mod opening_faults;
mod quick;

use redb::ReadableDatabase as _;

use crate::medium::{self, Medium};
use crate::simulation::consistency;

/// Counts everything again.
fn check(medium: &dyn Medium) {
    let database = medium::open_view(medium).unwrap();
    consistency::check(&database.begin_read().unwrap()).unwrap();
}
