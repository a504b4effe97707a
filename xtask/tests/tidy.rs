//! The source tree keeps the rules of `cargo xtask tidy`. What the rules catch is tested beside them.

#[test]
fn the_workspace_is_tidy() {
    let root = xtask::root().expect("cargo runs the tests of a package in its folder");
    let found = xtask::tidy::tidy(&root).expect("the tree can be read");
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} violations:\n{}", list.len(), list.join("\n"));
}
