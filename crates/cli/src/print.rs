//! Writing: data to standard output in one buffer, everything else to standard error, tables, and
//! text that a terminal can be shown. Knows no commands.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write},
};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::trouble::Trouble;

/// Standard output. Nothing is on its way to the reader before [`Output::flush`].
pub(crate) struct Output {
    writer: BufWriter<Stdout>,
    is_forgiving: bool,
    is_closed: bool,
}

impl Output {
    /// Writing fails once the reader has gone, which ends a command that is there for its output.
    pub(crate) fn new() -> Self {
        Self {
            writer: BufWriter::with_capacity(64 * 1024, io::stdout()),
            is_forgiving: false,
            is_closed: false,
        }
    }

    /// The work goes on without a reader; for commands that are there for what they do.
    pub(crate) fn forgiving() -> Self {
        Self { is_forgiving: true, ..Self::new() }
    }

    /// Bytes and a newline.
    pub(crate) fn line(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.write(bytes)?;
        self.write(b"\n")
    }

    /// One JSON document in one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Trouble> {
        if self.is_closed {
            return Ok(());
        }
        let written = serde_json::to_writer(&mut self.writer, value).map_err(io::Error::from);
        self.judge(written)?;
        self.write(b"\n")
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        if self.is_closed {
            return Ok(());
        }
        let written = self.writer.write_all(bytes);
        self.judge(written)
    }

    /// Hands everything to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Trouble> {
        if self.is_closed {
            return Ok(());
        }
        let flushed = self.writer.flush();
        self.judge(flushed)
    }

    fn judge(&mut self, result: io::Result<()>) -> Result<(), Trouble> {
        let Err(error) = result else { return Ok(()) };
        if error.kind() != ErrorKind::BrokenPipe {
            return Err(Trouble::new("E0603", format!("the output could not be written: {error}"))
                .hint("make room on the disk, or write somewhere else"));
        }
        self.is_closed = true;
        if self.is_forgiving { Ok(()) } else { Err(Trouble::closed_output()) }
    }
}

/// A JSON object whose fields stand in this order.
pub(crate) struct Fields<'a>(pub(crate) &'a [(&'a str, Value)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A line for people, on standard error; if nobody reads it, so be it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person looks at standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A body as a terminal may be shown it: no control character reaches it.
pub(crate) fn printable(body: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(body);
    let is_plain = |letter: char| !letter.is_control() || letter == '\t' || letter == '\n';
    if text.chars().all(is_plain) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_plain(letter) {
            shown.push(letter);
        } else {
            let _ = write!(shown, "{}", letter.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// Rows under a head, columns aligned; numbers (columns whose cells all start with a digit) to the
/// right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head[column].chars().count())
    };
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        !rows.is_empty() && cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit()))
    };
    let columns: Vec<(usize, bool)> =
        (0..head.len()).map(|column| (width(column), is_number(column))).collect();
    let mut text = String::new();
    let mut push = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, (width, is_number)) in cells.zip(&columns) {
            let _ = match is_number {
                true => write!(line, "{cell:>width$}  "),
                false => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    push(&mut head.iter().copied());
    for row in rows {
        push(&mut row.iter().map(String::as_str));
    }
    text
}

/// Standard base64 with padding; the inverse is never needed here.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
            } else {
                let letter = (bits >> (18 - 6 * place)) & 63;
                text.push(char::from(LETTERS[letter as usize]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_one_of_rfc_4648() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in table {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        assert_eq!(printable(b"two soups"), "two soups");
        assert_eq!(printable(b"\x1b]0;own\x07"), "\\u{1b}]0;own\\u{7}");
        assert_eq!(printable(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn tables_align_words_left_and_numbers_right() {
        let rows = vec![
            vec!["orders".to_owned(), "7".to_owned()],
            vec!["x".to_owned(), "1200".to_owned()],
        ];
        assert_eq!(
            table(&["CHANNEL", "READY"], &rows),
            "CHANNEL  READY\norders       7\nx         1200\n"
        );
    }
}
