//! A directory of the file system, held by a lock.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::{Disk, File};
use crate::OpenError;

const LOCK: &str = "lock";
/// What a file is called until it is whole.
const TEMPORARY: &str = "temporary-";
/// One write of zeros.
const ZEROS: usize = 1 << 20;

/// A directory. It is held, so that no other process can open it, until this is dropped.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    handle: fs::File,
    _lock: fs::File,
}

impl RealDisk {
    /// Takes a directory, which is made (for its owner alone) where it is missing.
    pub fn open(folder: impl AsRef<Path>) -> Result<Arc<Self>, OpenError> {
        let folder = folder.as_ref();
        let failed = |source| OpenError::Disk { place: folder.display().to_string(), source };
        make_folder(folder).map_err(failed)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(OpenError::Held { place: folder.display().to_string() });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        let handle = fs::File::open(folder).map_err(failed)?;
        let disk = Self { folder: folder.to_owned(), handle, _lock: lock };
        for name in disk.all_names().map_err(failed)? {
            if name.starts_with(TEMPORARY) {
                fs::remove_file(disk.path(&name)).map_err(failed)?;
            }
        }
        Ok(Arc::new(disk))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{TEMPORARY}{name}"))
    }

    fn all_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Disk for RealDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.all_names()?;
        names.retain(|name| name != LOCK && !name.starts_with(TEMPORARY));
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, name: &str, len: u64, is_zeroed: bool) -> io::Result<Arc<dyn File>> {
        let path = self.temporary(name);
        let made = make_file(&path, len, is_zeroed).and_then(|file| {
            fs::rename(&path, self.path(name))?;
            self.handle.sync_all()?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Arc::new(RealFile(file))),
            Err(error) => {
                // Best effort: a left-over is removed at the next opening too.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.temporary(name);
        let replaced = make_file(&path, 0, false).and_then(|file| {
            file.write_all_at(bytes, 0)?;
            file.sync_all()?;
            fs::rename(&path, self.path(name))?;
            self.handle.sync_all()
        });
        if replaced.is_err() {
            let _ = fs::remove_file(&path);
        }
        replaced
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.handle)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn unique(&self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
    }

    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

fn make_file(path: &Path, len: u64, is_zeroed: bool) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if len == 0 {
        return Ok(file);
    }
    let allocated = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len);
    let is_missing = allocated.is_err_and(|error| error == rustix::io::Errno::OPNOTSUPP);
    if let (Err(error), false) = (allocated, is_missing) {
        return Err(error.into());
    }
    if is_zeroed || is_missing {
        let zeros = vec![0; ZEROS];
        let mut at = 0;
        while at < len {
            let now = (len - at).min(ZEROS as u64);
            file.write_all_at(&zeros[..now as usize], at)?;
            at += now;
        }
    }
    file.sync_all()?;
    Ok(file)
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
