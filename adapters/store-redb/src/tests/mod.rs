//! The store on disks that fail.
//!
//! A history of batches is executed once on a good disk, and then again and again on disks that
//! fail at the first, the second, … of all the writes, truncations and flushes that it takes.

mod consistency;
mod disk;
mod faults;
mod history;
