//! The configuration as the program reads it: its layers, its mistakes, its written file.

use serde_json::{Value, json};

use crate::stage::{Done, Folder, Running};

fn value(done: &Done, key: &str) -> (Value, String) {
    let lines = done.json();
    let line = lines.iter().find(|line| line["key"] == key).unwrap();
    (line["value"].clone(), line["source"].as_str().unwrap().to_owned())
}

#[test]
fn each_value_says_where_it_comes_from() {
    let folder = Folder::new();
    let asked = folder.write("asked.toml", "[defaults]\ncapacity = 7\n");
    folder.write("tidings.toml", "[defaults]\ncapacity = 5\ntimeout = \"3s\"\n");
    std::fs::create_dir_all(folder.path("xdg/tidings")).unwrap();
    folder.write(
        "xdg/tidings/config.toml",
        "[node]\nname = \"user\"\n[defaults]\ntimeout = \"9s\"\n",
    );
    let mut command = folder.command(&["--config", &asked, "config", "show", "--json"]);
    command.env("XDG_CONFIG_HOME", folder.path("xdg")).env("TIDINGS_DEFAULTS__ORDER", "none");
    let done = Running::start(command, b"").wait().expect(0);
    assert_eq!(value(&done, "defaults.capacity"), (json!(7), format!("{asked}:2")));
    assert_eq!(value(&done, "defaults.timeout"), (json!("3s"), "tidings.toml:3".into()));
    assert_eq!(
        value(&done, "defaults.order"),
        (json!("none"), "env TIDINGS_DEFAULTS__ORDER".into())
    );
    assert_eq!(value(&done, "node.name").0, "user");
    assert_eq!(value(&done, "defaults.overflow"), (json!("block"), "default".into()));
    let table = folder.run(&["config", "show"]).expect(0).text();
    assert!(table.starts_with("KEY") && table.contains("tidings.toml:2"), "{table}");
}

#[test]
fn a_flag_goes_before_all_of_it() {
    let folder = Folder::new();
    folder.write("tidings.toml", "[defaults]\ntimeout = \"1h\"\n");
    folder.run(&["send", &folder.unix("a"), "x", "--timeout", "200ms"]).expect(4);
}

#[test]
fn a_key_that_means_nothing_stops_every_command_that_would_use_it() {
    let folder = Folder::new();
    folder.write("tidings.toml", "[defaults]\ntimeuot = \"5s\"\n");
    for args in [&["config", "check"][..], &["config", "show"], &["serve"], &["ls"]] {
        let error = folder.run(&[args, &["--json"]].concat()).expect(7).error();
        assert_eq!((&error["code"], &error["kind"]), (&json!("E0703"), &json!("UnknownKey")));
        assert!(error["message"].as_str().unwrap().contains("tidings.toml:2"), "{error}");
        assert_eq!(error["hint"], "did you mean `timeout`?");
    }
    // What explains the error works all the same.
    folder.run(&["explain", "E0703"]).expect(0);
}

#[test]
fn a_file_is_checked_written_and_never_overwritten() {
    let folder = Folder::new();
    folder.run(&["config", "init"]).expect(0);
    let written = folder.read("tidings.toml");
    assert!(
        written.contains("#timeout = \"5s\"") && written.contains("# The deadline"),
        "{written}"
    );
    let checked = folder.run(&["config", "check", "--json"]).expect(0);
    assert_eq!(checked.json()[0]["ok"], true);
    let error = folder.run(&["config", "init", "--json"]).expect(1).error();
    assert_eq!(error["code"], "E0609");
    assert_eq!(folder.read("tidings.toml"), written);
    folder.write("bad.toml", "[defaults\n");
    assert_eq!(
        folder.run(&["config", "check", "bad.toml", "--json"]).expect(7).error()["code"],
        "E0702"
    );
    assert_eq!(
        folder.run(&["config", "check", "none.toml", "--json"]).expect(7).error()["code"],
        "E0701"
    );
}
