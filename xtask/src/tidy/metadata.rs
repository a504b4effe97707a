//! What cargo says of the workspace's packages: targets and direct dependencies. Not what they
//! depend on in turn.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::relative;
use crate::cargo;

/// The packages of the workspace.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Where cargo puts what it builds.
    pub target_directory: PathBuf,
    /// The packages.
    pub packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its `Cargo.toml`, from the root.
    pub manifest: String,
    /// What it builds.
    pub targets: Vec<Target>,
    /// What it depends on directly.
    pub dependencies: Vec<Dependency>,
}

/// A crate of a package.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its first file, from the root.
    pub path: String,
    /// Whether it is a test or a benchmark.
    pub is_test: bool,
}

/// A direct dependency.
#[derive(Clone, Debug, Default)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// Whether only tests, examples and benchmarks see it.
    pub is_dev: bool,
}

impl Metadata {
    /// Asks cargo.
    ///
    /// # Errors
    /// If cargo cannot read a manifest.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root);
        let output = command.output().map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let all: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let packages = list(&all["packages"]).map(|package| Package::read(root, package));
        Ok(Self {
            target_directory: text(&all["target_directory"]).into(),
            packages: packages.collect(),
        })
    }

    /// The packages that have an integration test of this name.
    pub fn packages_with_test<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let has = move |package: &&Package| {
            package.targets.iter().any(|target| target.is_test && target.name == name)
        };
        self.packages.iter().filter(has).map(|package| package.name.as_str())
    }
}

impl Package {
    fn read(root: &Path, package: &Value) -> Self {
        // An example outside its package comes as `crates/node/../../examples/x.rs`.
        let place = |value: &Value| {
            let path = Path::new(&text(value)).to_path_buf();
            relative(root, &path.canonicalize().unwrap_or(path))
        };
        let targets = list(&package["targets"]).map(|target| Target {
            name: text(&target["name"]),
            path: place(&target["src_path"]),
            is_test: list(&target["kind"]).any(|kind| kind == "test" || kind == "bench"),
        });
        let dependencies = list(&package["dependencies"]).map(|dependency| Dependency {
            name: text(&dependency["name"]),
            is_dev: dependency["kind"] == "dev",
        });
        Self {
            name: text(&package["name"]),
            manifest: place(&package["manifest_path"]),
            targets: targets.collect(),
            dependencies: dependencies.collect(),
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
