//! `recv --file`: puts together a file that `send --file` sent. Each piece is written where its
//! headers say, so one that comes twice does no harm; the file has its name once it has every byte.
//! As with `cp`, the bytes are the system's then, and on the disk when that has written them.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use tidings::RawMessage;

use super::part::{Part, Version};
use crate::{
    context::Context,
    file::{AT, MODIFIED, NAME, SIZE},
    print::{Fields, printable},
    quantity::{count, show_bytes, show_duration},
    trouble::Trouble,
};

/// Bytes that may be written and not yet recorded as there, and so not acknowledged.
const UNRECORDED_MAX: u64 = 8 << 20;
/// The longest name: what stands behind it while it is not whole has to fit too.
const NAME_MAX: usize = 240;
/// The longest [`MODIFIED`]: 39 digits and a sign are more than any date.
const MODIFIED_MAX: usize = 40;
/// How long a piece is left with its sender when there are too many gaps to remember one more.
const GAPS_PAUSE: Duration = Duration::from_millis(50);
/// Refused messages that are told one by one.
const REFUSALS_TOLD: u64 = 8;

/// The file that is to be put together.
pub(super) struct InFile {
    path: PathBuf,
    is_overwriting: bool,
    part: Option<Part>,
    pieces: u64,
    unrecorded: u64,
    refused: u64,
    began: Option<Instant>,
    /// Where it is, once it is whole.
    done: Option<PathBuf>,
}

/// What became of a piece.
pub(super) enum Taken {
    Written,
    /// It is no piece of this file, and why.
    Refused(String),
    /// It may come again after a while.
    Later(Duration),
    /// The file cannot be written, and waiting would not help.
    Impossible(Trouble),
}

/// What the headers of a message say of it.
struct Piece<'a> {
    name: &'a [u8],
    version: Version,
    at: u64,
}

impl InFile {
    /// Looks whether the file may be written there; writes nothing yet.
    pub(super) fn open(path: &Path, is_overwriting: bool) -> Result<Self, Trouble> {
        if !path.is_dir() {
            check_free(path, is_overwriting)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                let what = format!("{} is no directory", folder.display());
                return Err(Trouble::new("E0603", what)
                    .why(format!("{} would be written in it", path.display()))
                    .hint(format!("mkdir -p {}", folder.display())));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            is_overwriting,
            part: None,
            pieces: 0,
            unrecorded: 0,
            refused: 0,
            began: None,
            done: None,
        })
    }

    pub(super) fn is_whole(&self) -> bool {
        self.done.is_some()
    }

    /// Whether what was written should be recorded now.
    pub(super) fn is_due(&self) -> bool {
        self.unrecorded >= UNRECORDED_MAX
    }

    /// Writes a piece. After the last one the file has its name.
    ///
    /// # Errors
    /// What keeps it from being written, which ends it all: the piece stays with its sender.
    pub(super) fn take(
        &mut self,
        message: &RawMessage,
        context: &Context,
    ) -> Result<Taken, Trouble> {
        let body = message.body();
        let piece = match Piece::of(message) {
            Ok(piece) => piece,
            Err(why) => return Ok(self.refuse(why, context)),
        };
        if self.part.is_none() {
            let path = match self.target(piece.name) {
                Ok(path) => path,
                Err(why) => return Ok(self.refuse(why, context)),
            };
            match self.begin(&path, &piece.version) {
                Ok(part) => self.part = Some(part),
                Err(trouble) => return Ok(Taken::Impossible(trouble)),
            }
        }
        let Some(part) = &mut self.part else { return Ok(Taken::Later(GAPS_PAUSE)) };
        if *part.version() != piece.version {
            let why = format!("it is of {}, and {} is awaited", piece.version, part.version());
            return Ok(self.refuse(why, context));
        }
        if !part.write(piece.at, body)? {
            return Ok(Taken::Later(GAPS_PAUSE));
        }
        self.pieces += 1;
        self.unrecorded += body.len() as u64;
        if part.is_whole() {
            // What has come into being meanwhile is nobody's to overwrite.
            check_free(part.target(), self.is_overwriting)?;
            self.done = Some(part.finish()?);
        }
        Ok(Taken::Written)
    }

    /// Records what was written, so that it may be acknowledged.
    pub(super) fn record(&mut self) -> Result<(), Trouble> {
        let unrecorded = std::mem::take(&mut self.unrecorded);
        match &self.part {
            Some(part) if unrecorded > 0 && !self.is_whole() => part.record(),
            _ => Ok(()),
        }
    }

    /// The first piece says which file it is.
    fn begin(&mut self, path: &Path, version: &Version) -> Result<Part, Trouble> {
        check_free(path, self.is_overwriting)?;
        self.began = Some(Instant::now());
        Part::open(path, version, self.is_overwriting)
    }

    /// Where it goes, or why its name will not do.
    fn target(&self, name: &[u8]) -> Result<PathBuf, String> {
        if !self.path.is_dir() {
            return Ok(self.path.clone());
        }
        match unsafe_name(name) {
            Some(why) => Err(why),
            None => Ok(self.path.join(OsStr::from_bytes(name))),
        }
    }

    /// The first ones are told, all of them are counted.
    fn refuse(&mut self, why: String, context: &Context) -> Taken {
        if self.refused < REFUSALS_TOLD {
            context.warn(&format!("a message was refused: {}", printable(why.as_bytes())));
        }
        self.refused += 1;
        Taken::Refused(why)
    }

    /// Says how it ended: the file, or how much of it is there.
    pub(super) fn tell(&self, context: &Context) {
        if self.refused > REFUSALS_TOLD {
            context.warn(&format!("{} were refused", count(self.refused, "message")));
        }
        let Some(part) = &self.part else { return };
        let (there, size) = part.bytes();
        let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        if let Some(path) = &self.done {
            let milliseconds = (took.as_secs_f64() * 1e6).round() / 1e3;
            let fields = [
                ("event", json!("file")),
                ("path", json!(path.to_string_lossy())),
                ("bytes", json!(size)),
                ("pieces", json!(self.pieces)),
                ("elapsed_ms", json!(milliseconds)),
            ];
            let text = format!(
                "{}: {} in {} and {}",
                printable(path.as_os_str().as_bytes()),
                show_bytes(size),
                count(self.pieces, "piece"),
                show_duration(took),
            );
            return context.event(&Fields(&fields), &text);
        }
        let fields = [
            ("event", json!("partial")),
            ("path", json!(part.path().to_string_lossy())),
            ("bytes", json!(there)),
            ("size", json!(size)),
        ];
        let text = format!(
            "{} has {} of {}; the same command again goes on with it",
            printable(part.path().as_os_str().as_bytes()),
            show_bytes(there),
            show_bytes(size),
        );
        context.event(&Fields(&fields), &text);
    }
}

impl<'a> Piece<'a> {
    fn of(message: &'a RawMessage) -> Result<Self, String> {
        let header = |wanted: &str| {
            message.headers().find(|(name, _)| *name == wanted).map(|(_, value)| value)
        };
        let number = |wanted: &str| -> Result<u64, String> {
            let value = header(wanted)
                .ok_or_else(|| format!("it is no piece of a file: it has no header `{wanted}`"))?;
            let digits = std::str::from_utf8(value).ok();
            digits
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| format!("its header `{wanted}` is no number of bytes"))
        };
        let (size, at) = (number(SIZE)?, number(AT)?);
        let name = header(NAME)
            .ok_or_else(|| format!("it is no piece of a file: it has no header `{NAME}`"))?;
        let len = message.body().len() as u64;
        if at.checked_add(len).is_none_or(|end| end > size) || i64::try_from(size).is_err() {
            return Err(format!("{len} bytes at {at} are beyond the end of {size} bytes"));
        }
        let modified = header(MODIFIED).unwrap_or_default();
        if modified.len() > MODIFIED_MAX {
            return Err(format!("its header `{MODIFIED}` is no date"));
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let version = Version { name: text(name), size, modified: text(modified) };
        Ok(Self { name, version, at })
    }
}

/// Why a name may not be given to a file of ours, if it may not.
fn unsafe_name(name: &[u8]) -> Option<String> {
    let is_plain = !name.is_empty()
        && name.len() <= NAME_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    if is_plain {
        return None;
    }
    Some(format!("`{}` cannot be the name of a file here", String::from_utf8_lossy(name)))
}

/// Whether a file may get this name.
fn check_free(path: &Path, is_overwriting: bool) -> Result<(), Trouble> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let what = format!("{} could not be looked at: {error}", path.display());
            return Err(Trouble::new("E0603", what).hint("check the path and its permissions"));
        }
        Ok(found) => found,
    };
    if found.is_file() && is_overwriting {
        return Ok(());
    }
    let trouble = Trouble::new("E0609", format!("{} is there already", path.display()));
    Err(if found.is_file() {
        trouble.why("it was left as it was").hint("move it away, or say --overwrite")
    } else {
        trouble.why("it is no regular file, and was left as it was").hint("name another file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_directory() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b", &"x".repeat(241)] {
            assert!(unsafe_name(name.as_bytes()).is_some(), "{name}");
        }
        for name in ["a", "...", ".hidden", "ünïcode", "two words", "a\nb"] {
            assert!(unsafe_name(name.as_bytes()).is_none(), "{name}");
        }
    }
}
