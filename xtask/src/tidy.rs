//! Judges the source tree and names every violation at once. It compiles nothing and changes
//! nothing.
//!
//! Each rule has a file of its own and is a function from what was read to violations.

mod edges;
mod metadata;
mod modules;
mod promises;
mod sizes;
mod source;
mod texts;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use metadata::Metadata;
use modules::Reach;
use source::Source;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The file, from the workspace's root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Every text file of the tree, and what cargo says of the packages.
#[derive(Debug)]
struct Tree {
    root: PathBuf,
    metadata: Metadata,
    /// By path from the root, with `/` between the folders.
    texts: BTreeMap<String, String>,
    sources: BTreeMap<String, Source>,
    /// Which sources the packages reach, and as what.
    reach: Reach,
}

/// Everything that is wrong with the tree, sorted by place.
///
/// # Errors
/// If the tree could not be read or `cargo metadata` failed.
pub fn tidy(root: &Path) -> Result<Vec<Violation>, String> {
    let tree = Tree::read(root)?;
    let mut found = edges::check(&tree.metadata, &tree.texts);
    found.extend(modules::check(&tree));
    found.extend(sizes::check(&tree));
    found.extend(words::check(&tree));
    found.extend(texts::check(&tree));
    found.extend(promises::check(&tree));
    found.sort();
    found.dedup();
    Ok(found)
}

/// Prints every violation.
///
/// # Errors
/// If there is one, or the tree could not be read.
pub fn run(root: &Path) -> Result<(), String> {
    let found = tidy(root)?;
    found.iter().for_each(|violation| println!("{violation}"));
    match found.len() {
        0 => Ok(()),
        1 => Err("1 violation".to_owned()),
        count => Err(format!("{count} violations")),
    }
}

impl Tree {
    fn read(root: &Path) -> Result<Self, String> {
        let metadata = Metadata::read(root)?;
        let mut texts = BTreeMap::new();
        read_folder(root, root, &mut texts)?;
        let is_rust = |path: &str| path.ends_with(".rs");
        let sources: BTreeMap<String, Source> = texts
            .iter()
            .filter(|(path, _)| is_rust(path))
            .map(|(path, text)| (path.clone(), Source::new(path, text)))
            .collect();
        let reach = Reach::trace(&metadata, &sources);
        Ok(Self { root: root.to_owned(), metadata, texts, sources, reach })
    }
}

/// Reads every file that is text; build results and the repository's own folder are not.
fn read_folder(
    root: &Path,
    folder: &Path,
    texts: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(say)? {
        let entry = entry.map_err(say)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(say)?;
        if kind.is_dir() {
            let is_built = name == "target" || name.starts_with("target-");
            if name != ".git" && !is_built {
                read_folder(root, &entry.path(), texts)?;
            }
        } else if kind.is_file() {
            let path = entry.path();
            // What is no text is a fixture; a file may also go while we look.
            if let Ok(text) = std::fs::read_to_string(&path) {
                texts.insert(relative(root, &path), text);
            }
        }
    }
    Ok(())
}

/// The path from the root, with `/` between the folders.
fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
