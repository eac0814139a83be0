//! On what the relays were measured.

use std::thread;

/// The processor, its cores and the system, as far as they are known.
pub(super) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let system = std::env::consts::OS;
    let system = system.replacen("linux", "Linux", 1);
    format!("{}, {cores} cores, {system}", processor())
}

#[cfg(target_os = "linux")]
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let model = lines.find(|(name, _)| name.trim() == "model name");
    model.map_or_else(architecture, |(_, model)| model.trim().to_owned())
}

#[cfg(not(target_os = "linux"))]
fn processor() -> String {
    architecture()
}

fn architecture() -> String {
    std::env::consts::ARCH.to_owned()
}
