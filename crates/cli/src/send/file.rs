//! The file of `tidings send --file`, as consecutive messages: each piece is read straight into the
//! memory that it is sent from, and says in its headers where it belongs.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use tidings::RawSender;

use super::Offered;
use crate::{
    file::{AT, MODIFIED, NAME, PIECE_MAX, SIZE},
    quantity::{show_bytes, show_duration},
    trouble::Trouble,
};

/// The length of a piece, unless `--size` says another.
const PIECE: u64 = 1 << 20;

/// A file, and how far it was read.
pub(super) struct Pieces {
    file: File,
    path: PathBuf,
    name: Vec<u8>,
    size: u64,
    /// When its content was last changed, in nanoseconds since the epoch.
    modified: i128,
    piece: u64,
    offset: u64,
    is_over: bool,
}

impl Pieces {
    pub(super) fn open(path: &Path, piece: Option<u64>) -> Result<Self, Trouble> {
        let piece = piece.unwrap_or(PIECE);
        if piece == 0 {
            return Err(Trouble::new("E0601", "pieces of 0 bytes would never be a file")
                .hint("--size takes 1 to 64MiB with --file"));
        }
        if piece > PIECE_MAX {
            let what = format!("{piece} bytes are too much for a message");
            return Err(Trouble::new("E0202", what).hint("a message has at most 64 MiB"));
        }
        let failed = |error| unreadable(path, &error);
        // Before it is opened: a pipe would have to have a writer for that.
        check_kind(path, &fs::metadata(path).map_err(failed)?)?;
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        check_kind(path, &found)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            name: path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default(),
            size: found.len(),
            modified: modified(&found),
            piece,
            offset: 0,
            is_over: false,
        })
    }

    /// The length of a piece, and of the file.
    pub(super) fn lengths(&self) -> (u64, u64) {
        (self.piece, self.size)
    }

    /// The next piece, ready to be sent; an empty file is one empty piece.
    pub(super) fn next<'a>(
        &mut self,
        sender: &'a RawSender,
    ) -> Result<Option<Offered<'a>>, Trouble> {
        if self.is_over {
            return Ok(None);
        }
        let len = self.piece.min(self.size - self.offset);
        let mut loan = match sender.loan(len as usize) {
            Ok(loan) => loan,
            Err(error) => {
                self.is_over = true;
                return Ok(Some(Err(error)));
            }
        };
        self.file.read_exact_at(&mut loan, self.offset).map_err(|error| self.unread(&error))?;
        let at = self.offset;
        self.offset += len;
        self.is_over = self.offset == self.size;
        self.check()?;
        let send = loan
            .send()
            .header(NAME, &self.name)
            .header(SIZE, self.size.to_string())
            .header(AT, at.to_string())
            .header(MODIFIED, self.modified.to_string());
        Ok(Some(Ok(send)))
    }

    /// Whether it is still the file that the first piece was of. Asked before each piece is sent, so
    /// that the last piece of a mixture never is, and the receiver never has all of it.
    fn check(&self) -> Result<(), Trouble> {
        let found = self.file.metadata().map_err(|error| unreadable(&self.path, &error))?;
        // There are files whose length says nothing of what they have: those in /proc.
        let has_more = self.is_over
            && self.file.read_at(&mut [0], self.size).map_err(|error| self.unread(&error))? > 0;
        if found.len() == self.size && modified(&found) == self.modified && !has_more {
            return Ok(());
        }
        Err(self.changed(found.len()))
    }

    fn unread(&self, error: &io::Error) -> Trouble {
        if error.kind() == ErrorKind::UnexpectedEof {
            let found = self.file.metadata().map_or(0, |found| found.len());
            return self.changed(found);
        }
        unreadable(&self.path, error)
    }

    fn changed(&self, len: u64) -> Trouble {
        let what = format!("{} was changed while it was sent", self.path.display());
        let why = match len {
            len if len == self.size => "its content is not what it was, or longer".to_owned(),
            len => format!("it had {} bytes, and now has {len}", self.size),
        };
        Trouble::new("E0604", what)
            .why(format!("{why}; the receiver has only a part of it"))
            .hint("send it when nobody writes to it, or send a copy")
            .retryable(true)
    }
}

fn check_kind(path: &Path, found: &Metadata) -> Result<(), Trouble> {
    if found.is_dir() {
        return Err(Trouble::new("E0604", format!("{} is a directory", path.display()))
            .why("--file sends the bytes of one file")
            .hint("send each of its files, or an archive: tar cf FILE.tar DIRECTORY"));
    }
    if !found.is_file() {
        return Err(Trouble::new("E0604", format!("{} is no regular file", path.display()))
            .why("a pipe or a device has neither a size nor offsets")
            .hint("write it to a file first, or send its lines with --from"));
    }
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new("E0604", format!("{} could not be read: {error}", path.display()))
        .hint("check the path and its permissions")
}

fn modified(found: &Metadata) -> i128 {
    i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec())
}

/// How far it is: `done` bytes of `size`.
pub(super) fn show_progress(done: u64, size: u64, elapsed: std::time::Duration) -> String {
    let share = if size == 0 { 1.0 } else { done as f64 / size as f64 };
    let per_second = done as f64 / elapsed.as_secs_f64().max(1e-9);
    let left = if done == 0 {
        "?".to_owned()
    } else {
        show_duration(std::time::Duration::from_secs_f64((size - done) as f64 / per_second))
    };
    format!(
        "{} of {}, {:.0} %, {}/s, {left} left",
        show_bytes(done),
        show_bytes(size),
        share * 100.0,
        show_bytes(per_second as u64),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn progress_tells_bytes_share_rate_and_the_time_that_is_left() {
        let text = show_progress(5_000_000, 20_000_000, Duration::from_secs(2));
        assert_eq!(text, "5 MB of 20 MB, 25 %, 2.50 MB/s, 6 s left");
        assert!(show_progress(0, 7, Duration::from_secs(1)).ends_with("? left"));
    }
}
