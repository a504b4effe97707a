//! The file that `recv --durable DIR --out FILE` writes. Its length is committed together with the
//! marks of the messages in it, and it is cut back to that at the next start: exactly once.

use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tidings::{RawMessage, RawReceiver};

use crate::trouble::{Exit, Trouble};

pub(super) struct OutFile {
    path: PathBuf,
    key: Vec<u8>,
    file: File,
    len: u64,
    lines: Vec<u8>,
}

impl OutFile {
    /// Opens the file at the length that was committed last.
    pub(super) fn open(path: &Path, receiver: &RawReceiver) -> Result<Self, Trouble> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut key = b"out:".to_vec();
        key.extend_from_slice(absolute.as_os_str().as_encoded_bytes());
        let known = receiver.get(&key);
        let committed = known.as_ref().and_then(|value| value.as_slice().try_into().ok());
        let len = committed.map_or(0, u64::from_le_bytes);
        let failed = |error| unwritable(path, &error);
        let options = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let mut file = options.map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if known.is_none() && found > 0 {
            let what = format!("{} is there already, with {found} bytes", path.display());
            return Err(Trouble::new("E0603", what)
                .why("the data directory knows nothing of it, so it would be cut to nothing")
                .hint("take another file, or remove this one"));
        }
        if found < len {
            let what = format!("{} has {found} bytes, and {len} were committed", path.display());
            return Err(Trouble::new("E0705", what)
                .why("lines that were acknowledged are missing")
                .exit_with(Exit::Config));
        }
        if known.is_none() {
            // From now on what is in the file is ours: a kill may come before the first commit.
            let mut tx = receiver.begin();
            tx.put(&key, 0u64.to_le_bytes());
            tx.commit_wait().map_err(|error| {
                Trouble::new("E0707", format!("the data directory could not be written: {error}"))
            })?;
        }
        file.set_len(len).map_err(failed)?;
        file.seek(SeekFrom::Start(len)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), key, file, len, lines: Vec::new() })
    }

    /// Adds a line, to be written.
    pub(super) fn line(&mut self, body: &[u8]) {
        self.lines.extend_from_slice(body);
        self.lines.push(b'\n');
    }

    /// Writes the lines, flushes them, and commits the file's length with the messages' marks.
    pub(super) fn commit(&mut self, messages: &[RawMessage]) -> Result<(), Trouble> {
        let Some((first, rest)) = messages.split_first() else { return Ok(()) };
        let written = self.file.write_all(&self.lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| unwritable(&self.path, &error))?;
        self.len += self.lines.len() as u64;
        self.lines.clear();
        let mut tx = first.begin();
        rest.iter().for_each(|message| tx.add(message));
        tx.put(&self.key, self.len.to_le_bytes());
        tx.commit_wait().map_err(|error| {
            Trouble::new("E0707", format!("the data directory could not be written: {error}"))
        })
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new("E0603", format!("{} could not be written: {error}", path.display()))
        .hint("check the path, its permissions and the room on the disk")
}
