//! Where files are: the two traits that the log asks, the real directory and the simulated disk.

mod real;
mod sim;

use std::io;
use std::sync::Arc;

pub use real::RealDisk;
pub use sim::SimDisk;

/// A folder of files that only one log uses at a time. Names are plain: no separators.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// The names of all files, in no order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// An existing file, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// A new file of `len` zero bytes, whose room is taken on the disk: writing within it cannot
    /// fail for want of room. The name and the length are durable when this returns. With
    /// `is_zeroed` the zeros are written out as well, so that a later sync has no metadata to
    /// write; that takes time, so ask for it in the background.
    ///
    /// Fails with [`io::ErrorKind::StorageFull`], leaving no file, where there is no room.
    fn create(&self, name: &str, len: u64, is_zeroed: bool) -> io::Result<Arc<dyn File>>;

    /// Makes `bytes` the whole content of a file, durably, or leaves what was there.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file. Durable at the latest with the next `create` or `replace`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that are free.
    fn free(&self) -> io::Result<u64>;

    /// A number that no other log has.
    fn unique(&self) -> u64;

    /// What to call the file in a message to the user: its path.
    fn place(&self, name: &str) -> String;
}

/// One open file.
pub trait File: Send + Sync + std::fmt::Debug {
    /// Its length now.
    fn len(&self) -> io::Result<u64>;

    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Reads from `at`; returns how many bytes there were, fewer only at the file's end.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `at`. Durable only after [`File::sync`].
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written is on the disk (`fdatasync`). After a failure nothing is
    /// known of what was written since the last success, whatever a later call says.
    fn sync(&self) -> io::Result<()>;
}
