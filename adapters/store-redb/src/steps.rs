//! Steps by which a file grows.
//!
//! redb doubles its file until it is as large as one region, and adds regions from then on. It makes
//! them 4 GiB large, and lets nobody choose; but it keeps to what the header of a file says, which is
//! fixed when the file is made. So that is changed in a file that is new.

use std::io;

use redb::StorageBackend;

/// Size of a region, in pages of 4 KiB: 16 MiB. In tests it is so little that there are many.
const REGION_PAGES: u32 = if cfg!(test) { 32 } else { 4096 };

/// Offset of the flags in the header, ...
const FLAGS: u64 = 9;
/// ... of which one says that its writer has not closed it, so that redb looks for free pages anew, ...
const IS_OPEN: u8 = 2;
/// ... and another that what stands in it about free pages holds.
const IS_TWO_PHASE: u8 = 4;
/// Offset of the size of a region.
const REGION: u64 = 20;

/// Makes `file`, a database that is closed and smaller than a region, grow by steps.
pub(crate) fn set_steps(file: &dyn StorageBackend) -> io::Result<()> {
    let mut flags = [0];
    file.read(FLAGS, &mut flags)?;
    let [flags] = flags;
    file.write(FLAGS, &[flags & !IS_TWO_PHASE | IS_OPEN])?;
    file.write(REGION, &REGION_PAGES.to_le_bytes())?;
    file.sync_data()
}

/// Whether `file` grows by steps, or has yet to be made a database.
pub(crate) fn has_steps(file: &dyn StorageBackend) -> io::Result<bool> {
    let mut pages = [0; 4];
    if file.len()? < REGION + pages.len() as u64 {
        return Ok(true);
    }
    file.read(REGION, &mut pages)?;
    Ok(u32::from_le_bytes(pages) <= 4096)
}
