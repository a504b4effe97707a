//! The number of a node that keeps it across restarts, in a file of its own.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::hub::entropy;

const FILE: &str = "node";

/// The number in a directory, or a new one that is there before this returns.
pub(crate) fn of(folder: &Path) -> io::Result<u128> {
    let path = folder.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => u128::from_str_radix(text.trim(), 16).map_err(|_| {
            let what = format!("{} holds no node's number", path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let node = u128::from(entropy()) << 64 | u128::from(entropy());
            fs::create_dir_all(folder)?;
            let new = folder.join(".node.new");
            let mut file = fs::File::create(&new)?;
            file.write_all(format!("{node:032x}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(folder)?.sync_all()?;
            Ok(node)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_and_a_damaged_one_is_no_new_one() {
        let folder = std::env::temp_dir().join(format!("tidings-identity-{}", std::process::id()));
        let first = of(&folder).unwrap();
        assert_eq!(of(&folder).unwrap(), first);
        fs::write(folder.join(FILE), "?").unwrap();
        assert!(of(&folder).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
