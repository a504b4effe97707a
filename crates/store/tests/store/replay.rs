//! The fuzz targets' seeds, through the same functions that libFuzzer drives.

use std::path::Path;

use proptest::prelude::*;

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
fn store_recover() {
    replay("store_recover", fuzz::store_recover);
}

#[test]
fn store_segment() {
    replay("store_segment", fuzz::store_segment);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    //= GUARANTEES.md#LOG-3
    #[test]
    fn any_edits_of_the_files_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        fuzz::store_recover(&bytes);
    }
}
