//! What `send --file` and `recv --file` agree on: the headers of a message that is a piece of a file.

/// The file's name, without directories: its bytes.
pub(crate) const NAME: &str = "file-name";
/// The file's length in bytes, in decimal.
pub(crate) const SIZE: &str = "file-size";
/// Where in the file the body belongs, in decimal.
pub(crate) const AT: &str = "file-offset";
/// What tells one version of a file from the next: nanoseconds since the epoch, in decimal.
pub(crate) const MODIFIED: &str = "file-modified";

/// The longest piece: the longest message.
pub(crate) const PIECE_MAX: u64 = 64 << 20;
