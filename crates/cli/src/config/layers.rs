//! The layers of the configuration, lowest first: defaults, the user's file, ./tidings.toml, the
//! file of `--config`, the environment. Reads and checks them; gives them no meaning.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Setting,
    keys::{KEYS, Key, LATER_SECTIONS, Value},
};
use crate::trouble::Trouble;

/// Where to look. A value of its own, so that tests need no environment.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Files that may be missing, lowest first.
    pub(crate) optional: Vec<PathBuf>,
    /// The file that was asked for, and by what.
    pub(crate) asked: Option<(PathBuf, &'static str)>,
    /// `TIDINGS_*` variables.
    pub(crate) variables: Vec<(String, String)>,
}

impl Sources {
    /// Those of this process.
    pub(crate) fn of_process(file: Option<&Path>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".config"));
        let user = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        let mut optional = Vec::new();
        optional.extend(user.map(|directory| directory.join("tidings/config.toml")));
        optional.push(PathBuf::from("tidings.toml"));
        let asked = match file {
            Some(file) => Some((file.to_owned(), "--config")),
            None => variable("TIDINGS_CONFIG").map(|file| (file.into(), "TIDINGS_CONFIG")),
        };
        let text = |text: OsString| text.into_string().ok();
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .filter(|(name, _)| name.starts_with("TIDINGS_"))
            .collect();
        Self { optional, asked, variables }
    }
}

/// Every key once, with the value of the highest layer that has it.
pub(super) fn merge(sources: &Sources) -> Result<Vec<Setting>, Trouble> {
    let mut settings = Vec::new();
    for key in KEYS {
        settings.push(Setting { key, value: default_of(key), source: "default".to_owned() });
    }
    let mut put = |setting: Setting| {
        let old = settings.iter_mut().find(|old| old.key.path() == setting.key.path());
        if let Some(old) = old {
            *old = setting;
        }
    };
    for file in &sources.optional {
        match read_file(file) {
            Ok(read) => read.into_iter().for_each(&mut put),
            Err(FileError::Missing) => {}
            Err(FileError::Trouble(trouble)) => return Err(*trouble),
        }
    }
    if let Some((file, by)) = &sources.asked {
        match read_file(file) {
            Ok(read) => read.into_iter().for_each(&mut put),
            Err(FileError::Missing) => {
                let what = format!("the configuration file {} does not exist", file.display());
                return Err(Trouble::new("E0701", what)
                    .why(format!("{by} names it"))
                    .hint("check the path, or write one with: tidings config init FILE"));
            }
            Err(FileError::Trouble(trouble)) => return Err(*trouble),
        }
    }
    read_variables(&sources.variables)?.into_iter().for_each(&mut put);
    Ok(settings)
}

/// Why a file gave nothing.
#[derive(Debug)]
pub(crate) enum FileError {
    Missing,
    Trouble(Box<Trouble>),
}

impl From<Trouble> for FileError {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(Box::new(trouble))
    }
}

/// The settings of one file, each checked.
pub(crate) fn read_file(path: &Path) -> Result<Vec<Setting>, FileError> {
    let name = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FileError::Missing),
        Err(error) => {
            let what = format!("the configuration file {name} could not be read: {error}");
            let hint = "check its permissions, and that it is a text file";
            return Err(Trouble::new("E0701", what).hint(hint).into());
        }
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        Trouble::new("E0702", format!("{name}:{line} is not TOML: {}", error.message()))
            .hint("a file to start from: tidings config init FILE")
    })?;
    let mut settings = Vec::new();
    for (section, value) in table.get_ref() {
        let place = format!("{name}:{}", line_of(&text, section.span().start));
        let known = KEYS.iter().any(|key| key.section == section.get_ref());
        let DeValue::Table(keys) = value.get_ref() else {
            return Err(unknown_top(section.get_ref(), &place).into());
        };
        if !known {
            return Err(unknown_section(section.get_ref(), &place).into());
        }
        for (key, value) in keys {
            let place = format!("{name}:{}", line_of(&text, key.span().start));
            settings.push(setting_of(section.get_ref(), key.get_ref(), value, &place)?);
        }
    }
    Ok(settings)
}

fn setting_of(
    section: &str,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    place: &str,
) -> Result<Setting, Trouble> {
    let key = Key::find(section, name).ok_or_else(|| unknown_key(section, name, place))?;
    let value = convert(value.get_ref())
        .ok_or_else(|| bad_value(key, place, None, "it is of another kind"))?;
    key.shape.check(&value).map_err(|problem| bad_value(key, place, Some(&value), &problem))?;
    Ok(Setting { key, value: Some(value), source: place.to_owned() })
}

/// TOML to a value; `None` for kinds that no key takes.
fn convert(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::Text(text.to_string())),
        DeValue::Integer(number) => {
            u64::from_str_radix(number.as_str(), number.radix()).ok().map(Value::Number)
        }
        DeValue::Boolean(flag) => Some(Value::Flag(*flag)),
        DeValue::Array(items) => {
            let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
            items.iter().map(text).collect::<Option<_>>().map(Value::List)
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn default_of(key: &Key) -> Option<Value> {
    let text = format!("x = {}", key.default);
    let table = DeTable::parse(&text).ok()?;
    let (_, value) = table.get_ref().iter().next()?;
    convert(value.get_ref())
}

/// Variables of keys. `TIDINGS_X` that looks like none of ours is somebody else's business.
fn read_variables(variables: &[(String, String)]) -> Result<Vec<Setting>, Trouble> {
    let mut settings = Vec::new();
    for (variable, text) in variables {
        let rest = variable.trim_start_matches("TIDINGS_");
        let is_ours = KEYS.iter().any(|key| {
            let after = rest.strip_prefix(&key.section.to_uppercase());
            after.is_some_and(|after| after.starts_with('_'))
        });
        if !is_ours && !rest.contains("__") {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) else {
            let names: Vec<String> = KEYS.iter().map(Key::variable).collect();
            let what = format!("the environment variable {variable} is not a setting");
            return Err(Trouble::new("E0703", what).hint(suggest(variable, &names)));
        };
        let place = format!("env {variable}");
        let value = key.shape.read(text);
        key.shape
            .check(&value)
            .map_err(|problem| bad_value(key, &place, Some(&value), &problem))?;
        settings.push(Setting { key, value: Some(value), source: place });
    }
    Ok(settings)
}

fn bad_value(key: &Key, place: &str, value: Option<&Value>, problem: &str) -> Trouble {
    let shown = value.map_or_else(String::new, |value| format!(" cannot be `{value}`"));
    let why = if shown.is_empty() { " has a value that cannot be used" } else { "" };
    Trouble::new("E0704", format!("{place}: {}{shown}{why}", key.path()))
        .why(problem)
        .hint(format!("{} takes {}", key.name, key.shape.describe()))
}

fn unknown_key(section: &str, name: &str, place: &str) -> Trouble {
    let here = KEYS.iter().filter(|key| key.section == section);
    let names: Vec<String> = here.map(|key| key.name.to_owned()).collect();
    Trouble::new("E0703", format!("{place}: unknown key `{name}` in [{section}]"))
        .hint(suggest(name, &names))
}

fn unknown_section(section: &str, place: &str) -> Trouble {
    if LATER_SECTIONS.contains(&section) {
        let what = format!("{place}: [{section}] is not part of this version");
        return Trouble::new("E0703", what)
            .hint("leave the section out; `tidings config show` lists every key there is");
    }
    let names: Vec<String> = KEYS.iter().map(|key| key.section.to_owned()).collect();
    Trouble::new("E0703", format!("{place}: unknown section [{section}]"))
        .hint(suggest(section, &names))
}

fn unknown_top(name: &str, place: &str) -> Trouble {
    let paths: Vec<String> = KEYS.iter().map(Key::path).collect();
    let same_name = KEYS
        .iter()
        .find(|key| key.name == name)
        .map(|key| format!("did you mean `{}`? It stands under [{}]", key.name, key.section));
    Trouble::new("E0703", format!("{place}: unknown key `{name}` outside of a section"))
        .hint(same_name.unwrap_or_else(|| suggest(name, &paths)))
}

/// `did you mean ...?`, or all there is.
fn suggest(word: &str, names: &[String]) -> String {
    let mut names = names.to_vec();
    names.dedup();
    let near = names
        .iter()
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("there are: {}", names.join(", ")),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}
