//! One Rust file as the rules look at it: its text, its code without comments and literals, and
//! which parts of it are tests. A scanner, not a parser: it knows tokens and brackets, no grammar.

use std::ops::Range;

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
    /// The text with every comment and literal replaced by spaces, byte by byte.
    pub code: String,
    /// The items under `#[cfg(test)]`.
    pub tests: Vec<Range<usize>>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    pub name: &'a str,
    pub at: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let mut source =
            Self { path: path.to_owned(), text: text.to_owned(), code, tests: Vec::new() };
        source.tests = source.find_tests();
        source
    }

    /// The line of an offset, from 1.
    pub fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }

    pub fn is_in_tests(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// Lines that are not tests.
    pub fn product_lines(&self) -> usize {
        let of_tests: usize =
            self.tests.iter().map(|range| self.line(range.end) + 1 - self.line(range.start)).sum();
        self.text.lines().count().saturating_sub(of_tests)
    }

    /// Every word of the code and its offset.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            at += self.code[at..].find(is_word)?;
            let start = at;
            at += self.code[at..].find(|c| !is_word(c)).unwrap_or(self.code.len() - at);
            Some((start, &self.code[start..at]))
        })
    }

    /// Every attribute, with its brackets.
    pub fn attributes(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                let start = at + self.code[at..].find('#')?;
                at = start + 1;
                let rest = &self.code[at..];
                let inner = rest.strip_prefix('!').unwrap_or(rest);
                if inner.starts_with('[') {
                    let open = self.code.len() - inner.len();
                    at = self.closing(open);
                    return Some(start..at);
                }
            }
        })
    }

    /// Every function that has a body.
    pub fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        self.words().filter(|(_, word)| *word == "fn").filter_map(|(at, _)| {
            let rest = self.code[at + 2..].trim_start();
            let name = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
            let end = self.item_end(at);
            let has_body = self.code[..end].ends_with('}');
            let lines = self.line(end - 1) + 1 - self.line(at);
            (!name.is_empty() && has_body).then_some(Function { name, at, lines })
        })
    }

    /// What follows `#[..]`s and white space at this offset.
    pub fn after_attributes(&self, mut at: usize) -> usize {
        loop {
            at += self.code[at..].len() - self.code[at..].trim_start().len();
            if !self.code[at..].starts_with("#[") {
                return at;
            }
            at = self.closing(at + 1);
        }
    }

    /// The offset behind an item: its `;`, its closing brace, or where the enclosing one closes.
    fn item_end(&self, from: usize) -> usize {
        let mut depth = 0_i32;
        for (at, byte) in self.code.bytes().enumerate().skip(from) {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                b'{' if depth == 0 => return self.closing(at),
                b';' if depth == 0 => return at + 1,
                b'}' if depth == 0 => return at,
                _ => {}
            }
            if depth < 0 {
                return at;
            }
        }
        self.code.len()
    }

    /// The offset behind the bracket that closes the one at `open`.
    pub fn closing(&self, open: usize) -> usize {
        let mut depth = 0_u32;
        for (at, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.code.len()
    }

    fn find_tests(&self) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for attribute in self.attributes() {
            let dense: String =
                self.code[attribute.clone()].chars().filter(|c| !c.is_whitespace()).collect();
            if dense.starts_with("#![cfg(test)]") {
                return std::iter::once(0..self.code.len()).collect();
            }
            let is_test = dense.starts_with("#[cfg(test)]") || dense.starts_with("#[cfg(all(test,");
            if is_test && found.last().is_none_or(|last| last.end <= attribute.start) {
                found.push(attribute.start..self.item_end(self.after_attributes(attribute.end)));
            }
        }
        found
    }
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and literals replaced by spaces; line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(text, at);
        match end {
            Some(end) => {
                let end = end.min(bytes.len());
                for byte in &mut code[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8(code).expect("whole characters were replaced by ASCII")
}

/// Where the comment or literal ends that begins at this offset, if one does.
fn literal_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(comment_end(bytes, at));
    }
    match rest[0] {
        b'"' => Some(quote_end(bytes, at + 1, b'"')),
        b'\'' => character_end(text, at),
        b'r' | b'b' | b'c' if at == 0 || !is_word(char::from(bytes[at - 1])) => raw_end(bytes, at),
        _ => None,
    }
}

fn comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_u32;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quote_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A character literal; a lifetime is none.
fn character_end(text: &str, at: usize) -> Option<usize> {
    let mut inside = text[at + 1..].chars();
    let first = inside.next()?;
    if first == '\\' {
        return Some(quote_end(text.as_bytes(), at + 1, b'\''));
    }
    (inside.next() == Some('\'')).then(|| at + 2 + first.len_utf8())
}

/// A raw string: `r`, `br` or `cr`, any number of `#`, a quote.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let r = at + usize::from(bytes[at] != b'r');
    if bytes.get(r) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[r + 1..].iter().take_while(|byte| **byte == b'#').count();
    let quote = r + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &bytes[quote + 1..];
    let found = body.windows(close.len()).position(|window| window == close);
    Some(found.map_or(bytes.len(), |found| quote + 1 + found + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_no_comments_and_no_literals_and_every_byte_in_its_place() {
        let text = "a /* x /* y */ */ b // c\n\"d\\\"\" e r#\"f\"g\"# h b'i' '\\'' 'ä' j<'k, 'l> m";
        let source = Source::new("x.rs", text);
        assert_eq!(source.code.len(), text.len());
        let words: Vec<&str> = source.words().map(|(_, word)| word).collect();
        assert_eq!(words, ["a", "b", "e", "h", "b", "j", "k", "l", "m"]);
        assert_eq!(source.line(text.find(" e ").unwrap()), 2);
    }

    #[test]
    fn raw_identifiers_and_byte_strings_are_told_apart() {
        let source = Source::new("x.rs", "r#type br\"a\" bar b\"c\" cr#\"d\"# xr\"e\" z");
        let words: Vec<&str> = source.words().map(|(_, word)| word).collect();
        assert_eq!(words, ["r", "type", "bar", "b", "xr", "z"]);
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_file() {
        for text in ["\"a", "r#\"a", "/* a", "'\\", "b", "r", "'"] {
            assert_eq!(Source::new("x.rs", text).code.len(), text.len());
        }
    }

    #[test]
    fn functions_have_the_length_of_signature_and_body() {
        let text = "trait T { fn none(&self) -> [u8; 2]; }\n\
                    type F = fn(u8);\n\
                    fn one() {}\n\
                    fn three(\n    a: [u8; 4],\n) where (): Sized { if a[0] == 0 {} }\n";
        let source = Source::new("x.rs", text);
        let found: Vec<_> = source.functions().map(|f| (f.name, f.lines)).collect();
        assert_eq!(found, [("one", 1), ("three", 3)]);
    }

    #[test]
    fn tests_are_what_stands_under_cfg_test() {
        let text = "fn a() {}\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\nfn b() {}\n\
                    #[cfg(test)]\nmod more {\n    fn c() {}\n}\n";
        let source = Source::new("x.rs", text);
        assert_eq!(source.tests.len(), 2);
        assert!(!source.is_in_tests(text.find("fn b").unwrap()));
        assert!(source.is_in_tests(text.find("fn c").unwrap()));
        assert_eq!(source.product_lines(), 2);
        assert_eq!(Source::new("x.rs", "#![cfg(test)]\nfn a() {}\n").product_lines(), 0);
    }
}
