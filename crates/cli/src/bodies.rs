//! Where the bodies to send come from: words of the command line, lines of a file or of standard
//! input, or as many bytes as asked. Reading stops at Ctrl-C.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Seek, Stdin},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    interrupt::{Interrupt, LOOK_EVERY},
    trouble::Trouble,
};

/// The longest line that can be a message.
const LINE_MAX: u64 = 64 << 20;

/// What to send, one body after the other.
pub(crate) enum Bodies {
    /// The same bodies in turn, so many of them.
    Words { words: Vec<String>, left: u64, next: usize },
    /// Bodies of a size, each with its number at its beginning as far as it has room for it.
    Pattern { body: Vec<u8>, left: u64, number: u64 },
    /// One body a line, at most so many.
    Lines { lines: BufReader<Watched>, left: u64, buffer: Vec<u8>, consumed: u64 },
}

/// What the command line says about the bodies.
pub(crate) struct Wanted<'a> {
    pub(crate) words: &'a [String],
    pub(crate) size: Option<u64>,
    pub(crate) from: Option<&'a str>,
    pub(crate) count: Option<u64>,
}

impl Bodies {
    pub(crate) fn open(wanted: &Wanted<'_>, interrupt: &Interrupt) -> Result<Self, Trouble> {
        if let Some(size) = wanted.size {
            if size > LINE_MAX {
                return Err(Trouble::new(
                    "E0202",
                    format!("{size} bytes are too much for a message"),
                )
                .hint("a message has at most 64 MiB"));
            }
            let body = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
            let left = wanted.count.unwrap_or(1);
            return Ok(Self::Pattern { body, left, number: 0 });
        }
        if !wanted.words.is_empty() {
            let words = wanted.words.to_vec();
            let left = wanted.count.unwrap_or(1).saturating_mul(words.len() as u64);
            return Ok(Self::Words { words, left, next: 0 });
        }
        let source = match wanted.from {
            Some(path) if path != "-" => Source::File(open(path)?),
            Some(_) => Source::Stdin(io::stdin()),
            None if !io::stdin().is_terminal() => Source::Stdin(io::stdin()),
            None => {
                return Err(Trouble::new("E0601", "there is nothing to send")
                    .why("no BODY is given, and standard input is a terminal")
                    .hint("give a BODY, --size, or --from FILE (--from - reads what you type)"));
            }
        };
        let watched = Watched { source, interrupt: interrupt.clone(), is_cut: false };
        Ok(Self::Lines {
            lines: BufReader::with_capacity(64 * 1024, watched),
            left: wanted.count.unwrap_or(u64::MAX),
            buffer: Vec::new(),
            consumed: 0,
        })
    }

    /// The next body, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, Trouble> {
        let left = match self {
            Self::Words { left, .. } | Self::Pattern { left, .. } | Self::Lines { left, .. } => {
                left
            }
        };
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        match self {
            Self::Words { words, next, .. } => {
                let body = words.get(*next).map(|word| word.as_bytes());
                *next = (*next + 1) % words.len();
                Ok(body)
            }
            Self::Pattern { body, number, .. } => {
                *number += 1;
                let text = format!("{number:08} ");
                if let Some(head) = body.get_mut(..text.len()) {
                    head.copy_from_slice(text.as_bytes());
                }
                Ok(Some(body))
            }
            Self::Lines { lines, buffer, consumed, .. } => next_line(lines, buffer, consumed),
        }
    }

    /// Whether somebody would have to type what is sent.
    pub(crate) fn is_terminal() -> bool {
        io::stdin().is_terminal()
    }

    /// Bytes of the input that were read as lines.
    pub(crate) fn consumed(&self) -> u64 {
        match self {
            Self::Lines { consumed, .. } => *consumed,
            Self::Words { .. } | Self::Pattern { .. } => 0,
        }
    }

    /// Goes on behind these bytes of a file, which an earlier run has read.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), Trouble> {
        if let Self::Lines { lines, consumed, .. } = self
            && let Source::File(file) = &mut lines.get_mut().source
        {
            let sought = file.seek(io::SeekFrom::Start(offset));
            sought.map_err(|error| unreadable("the input", &error))?;
            *consumed = offset;
        }
        Ok(())
    }
}

fn open(path: &str) -> Result<File, Trouble> {
    let file = File::open(PathBuf::from(path)).and_then(|file| {
        if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
    });
    file.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &str, error: &io::Error) -> Trouble {
    Trouble::new("E0604", format!("{path} could not be read: {error}"))
        .hint("check the path and its permissions; `--from -` reads standard input")
}

/// A line without its newline; the last one needs none. Nothing else is stripped.
fn next_line<'a>(
    lines: &mut BufReader<Watched>,
    buffer: &'a mut Vec<u8>,
    consumed: &mut u64,
) -> Result<Option<&'a [u8]>, Trouble> {
    buffer.clear();
    let read = lines.by_ref().take(LINE_MAX + 1).read_until(b'\n', buffer);
    let len = read.map_err(|error| unreadable("the input", &error))?;
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
    } else if len as u64 > LINE_MAX {
        return Err(Trouble::new("E0202", "a line of the input is longer than 64 MiB")
            .hint("a message has at most 64 MiB; cut the input into shorter lines"));
    } else if len == 0 || lines.get_ref().is_cut {
        // Half a line that Ctrl-C cut off is not a message.
        return Ok(None);
    }
    *consumed += len as u64;
    Ok(Some(buffer))
}

/// A source that looks for Ctrl-C while it waits.
pub(crate) struct Watched {
    source: Source,
    interrupt: Interrupt,
    is_cut: bool,
}

enum Source {
    File(File),
    Stdin(Stdin),
}

impl Source {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(file) => file.as_fd(),
            Self::Stdin(stdin) => stdin.as_fd(),
        }
    }
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let slice = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.as_nanos() as i64 };
        loop {
            if self.interrupt.is_raised() {
                self.is_cut = true;
                return Ok(0);
            }
            let fd = self.source.fd();
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            match poll(&mut fds, Some(&slice)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        // Standard input's own buffer would hide from poll what it has read ahead.
        rustix::io::read(self.source.fd(), into).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wanted: &Wanted<'_>) -> Vec<Vec<u8>> {
        let mut bodies = Bodies::open(wanted, &Interrupt::default()).unwrap();
        let mut all = Vec::new();
        while let Some(body) = bodies.next().unwrap() {
            all.push(body.to_vec());
        }
        all
    }

    #[test]
    fn lines_lose_their_newline_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("tidings-lines-{}", std::process::id()));
        let from = path.to_str();
        let lines = |count| all(&Wanted { words: &[], size: None, from, count });
        std::fs::write(&path, b"one\n\n\xff\xfe\r\nlast").unwrap();
        assert_eq!(lines(None), [&b"one"[..], b"", b"\xff\xfe\r", b"last"]);
        assert_eq!(lines(Some(2)), [&b"one"[..], b""]);
        std::fs::write(&path, b"one\n").unwrap();
        assert_eq!(lines(None), [b"one"]);
        std::fs::write(&path, b"").unwrap();
        assert!(lines(None).is_empty());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn words_repeat_in_turn_and_sizes_are_exact() {
        let words = ["a".to_owned(), "b".to_owned()];
        let wanted = Wanted { words: &words, size: None, from: None, count: Some(2) };
        assert_eq!(all(&wanted), [b"a", b"b", b"a", b"b"]);
        let wanted = Wanted { words: &[], size: Some(12), from: None, count: Some(2) };
        assert_eq!(all(&wanted), [b"00000001 jkl", b"00000002 jkl"]);
        let wanted = Wanted { words: &[], size: Some(0), from: None, count: Some(3) };
        assert_eq!(all(&wanted), [b"", b"", b""]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for path in ["/nonexistent/file", "/"] {
            let wanted = Wanted { words: &[], size: None, from: Some(path), count: None };
            let trouble = Bodies::open(&wanted, &Interrupt::default()).err().unwrap();
            assert!(format!("{trouble:?}").contains(path));
        }
    }
}
