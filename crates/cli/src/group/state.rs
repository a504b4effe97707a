//! The state of a member that was given a file: each body a line in it, in the order of delivery.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::trouble::Trouble;

/// See the file's first line.
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
}

fn failed(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new("E0603", format!("{} could not be kept: {error}", path.display()))
        .hint("make room on the disk, or name another file with --state")
}

impl StateFile {
    /// What is in the file already is the founder's state.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| failed(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn append(&mut self, body: &[u8]) -> Result<(), Trouble> {
        let line = [body, b"\n"].concat();
        self.file.write_all(&line).map_err(|error| failed(&self.path, &error))
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, Trouble> {
        fs::read(&self.path).map_err(|error| failed(&self.path, &error))
    }

    /// Takes another member's state for its own, whole or not at all.
    pub(super) fn replace(&mut self, state: &[u8]) -> Result<(), Trouble> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let new = self.path.with_file_name(format!(".{name}.new"));
        let written = fs::write(&new, state).and_then(|()| fs::rename(&new, &self.path));
        written.map_err(|error| failed(&self.path, &error))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}
