//! The fuzz targets' seeds, through the same functions that libFuzzer drives.

use std::path::Path;

use crate::fuzz;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        body(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 8, "{target} has {count} seeds");
}

#[test]
fn wire_decode() {
    replay("wire_decode", fuzz::wire_decode);
}

#[test]
fn handshake() {
    replay("handshake", fuzz::handshake);
}

#[test]
fn stream_split() {
    replay("stream_split", fuzz::stream_split);
}
