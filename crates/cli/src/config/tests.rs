//! Layers, their precedence, and what is refused.

use std::{fs, path::PathBuf};

use super::*;
use crate::trouble::Exit;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("tidings-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn source<'a>(config: &'a Config, path: &str) -> &'a str {
    let setting = config.settings.iter().find(|setting| setting.key.path() == path);
    &setting.unwrap().source
}

#[test]
fn without_any_layer_the_contract_s_defaults_hold() {
    let config = Config::from_sources(&Sources::default()).unwrap();
    assert_eq!(config.name, None);
    assert_eq!(config.listen, ["tcp://127.0.0.1:7400"]);
    assert_eq!((config.timeout, config.drain), (Duration::from_secs(5), Duration::from_secs(5)));
    assert_eq!((config.capacity, config.capacity_bytes), (1024, 16 << 20));
    assert_eq!(config.delivery, Delivery::AtLeastOnce);
    assert_eq!((config.order, config.overflow), (Order::Fifo, Overflow::Block));
    assert!(!config.is_insecure);
    assert_eq!(config.latency, Latency::Adaptive);
    assert_eq!(source(&config, "defaults.timeout"), "default");
}

#[test]
fn the_environment_goes_before_the_asked_file_and_that_before_the_optional_ones() {
    let folder = Folder::new("precedence");
    let user = folder.file(
        "user.toml",
        "[node]\nname = \"user\"\ndrain = \"1s\"\nlatency = \"spin\"\n[defaults]\ntimeout = \"1s\"\ncapacity = 1\n",
    );
    let here = folder.file("here.toml", "[node]\nname = \"here\"\n[defaults]\ntimeout = \"2s\"\n");
    let asked =
        folder.file("asked.toml", "\n[defaults]\ntimeout = \"3s\"\ncapacity_bytes = 65536\n");
    let mut sources = Sources {
        optional: vec![user, folder.0.join("missing.toml"), here],
        asked: Some((asked, "--config")),
        variables: vec![],
    };
    let config = Config::from_sources(&sources).unwrap();
    assert_eq!(config.name.as_deref(), Some("here"));
    assert_eq!((config.timeout, config.drain), (Duration::from_secs(3), Duration::from_secs(1)));
    assert_eq!((config.capacity, config.capacity_bytes), (1, 65536));
    assert_eq!(config.latency, Latency::Spin);
    assert!(source(&config, "defaults.timeout").ends_with("asked.toml:3"));

    sources.variables = vec![
        ("TIDINGS_DEFAULTS__TIMEOUT".into(), "4s".into()),
        ("TIDINGS_NODE__LISTEN".into(), "tcp://127.0.0.1:1, unix:///tmp/a.sock".into()),
        ("TIDINGS_NODE__INSECURE".into(), "1".into()),
        ("TIDINGS_NODE__LATENCY".into(), "park".into()),
        ("TIDINGS_SEED".into(), "not ours".into()),
    ];
    let config = Config::from_sources(&sources).unwrap();
    assert_eq!(config.timeout, Duration::from_secs(4));
    assert_eq!(config.listen, ["tcp://127.0.0.1:1", "unix:///tmp/a.sock"]);
    assert!(config.is_insecure);
    assert_eq!(config.latency, Latency::Park);
    assert_eq!(source(&config, "defaults.timeout"), "env TIDINGS_DEFAULTS__TIMEOUT");
}

#[test]
fn what_means_nothing_is_refused_with_a_suggestion() {
    let folder = Folder::new("refused");
    let table = [
        ("[defaults]\ntimeuot = \"5s\"\n", ":2: unknown key `timeuot`", "did you mean `timeout`?"),
        ("[default]\ntimeout = \"5s\"\n", "unknown section [default]", "did you mean `defaults`?"),
        ("timeout = \"5s\"\n", "outside of a section", "under [defaults]"),
        ("[http]\nlisten = \"x\"\n", "[http] is not part of this version", "leave the section out"),
        ("[defaults]\ntimeout = 5\n", "defaults.timeout", "a duration such as"),
        ("[defaults]\ntimeout = \"5\"\n", "defaults.timeout", "a duration such as"),
        ("[defaults]\ncapacity = 0\n", "defaults.capacity", "a number from 1"),
        ("[defaults]\norder = \"total\"\n", "defaults.order", "none, fifo"),
        ("[defaults]\ncapacity = { a = 1 }\n", "defaults.capacity", "a number from 1"),
        ("[node]\nlisten = [\"htp://x\"]\n", "node.listen", "a list of addresses"),
        ("[node]\nlatency = \"fast\"\n", "node.latency", "spin, adaptive, park"),
        ("[node\n", "is not TOML", "tidings config init"),
    ];
    for (index, (text, what, hint)) in table.into_iter().enumerate() {
        let file = folder.file(&format!("{index}.toml"), text);
        let sources = Sources { asked: Some((file, "--config")), ..Sources::default() };
        let trouble = Config::from_sources(&sources).unwrap_err();
        assert_eq!(trouble.exit(), Exit::Config, "{text}");
        let shown = format!("{trouble:?}");
        assert!(shown.contains(what) && shown.contains(hint), "{text}: {shown}");
    }
}

#[test]
fn a_mistyped_variable_is_refused() {
    for name in
        ["TIDINGS_DEFAULTS__TIMEUOT", "TIDINGS_DEFAULTS_TIMEOUT", "TIDINGS_DEFALTS__TIMEOUT"]
    {
        let sources = Sources { variables: vec![(name.into(), "5s".into())], ..Sources::default() };
        let trouble = Config::from_sources(&sources).unwrap_err();
        assert_eq!(trouble.exit(), Exit::Config);
        let shown = format!("{trouble:?}");
        assert!(shown.contains("did you mean `TIDINGS_DEFAULTS__TIMEOUT`?"), "{shown}");
    }
}

#[test]
fn a_file_that_was_asked_for_has_to_be_there_and_readable() {
    let folder = Folder::new("missing");
    for path in [folder.0.join("none.toml"), folder.0.clone()] {
        let sources = Sources { asked: Some((path, "--config")), ..Sources::default() };
        assert_eq!(Config::from_sources(&sources).unwrap_err().exit(), Exit::Config);
    }
}

#[test]
fn the_written_file_is_valid_and_names_every_key_with_its_default() {
    let folder = Folder::new("template");
    let commented = template();
    let plain: String = commented
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let sources = |text: &str, name: &str| Sources {
        asked: Some((folder.file(name, text), "--config")),
        ..Sources::default()
    };
    let as_written = Config::from_sources(&sources(&commented, "commented.toml")).unwrap();
    let filled = Config::from_sources(&sources(&plain, "plain.toml")).unwrap();
    assert_eq!(filled.name.as_deref(), Some("kitchen"));
    for (a, b) in as_written.settings.iter().zip(&filled.settings) {
        assert!(b.source.contains("plain.toml"), "{}", b.key.path());
        assert!(b.key.name == "name" || a.value == b.value, "{}", b.key.path());
    }
}
