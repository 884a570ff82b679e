//! The tree as the rules see it: packages with their sources, documents, the names of all files.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::house::source::Source;

/// All that the rules look at.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The members of the workspace.
    pub packages: Vec<Package>,
    /// The names in the root's table of dependencies.
    pub table: Vec<String>,
    /// Every text that is no Rust: documents, manifests, scripts.
    pub texts: Vec<Text>,
    /// Every file and folder, from the root.
    pub files: BTreeSet<String>,
}

/// One member.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder, from the root.
    pub folder: String,
    /// Its floor, if its manifest says one.
    pub floor: Option<u64>,
    /// Whether its manifest says that it touches no world.
    pub pure: bool,
    /// What it imports.
    pub dependencies: Vec<Dependency>,
    /// Its Rust files.
    pub sources: Vec<Source>,
}

/// One line under a member's dependencies.
#[derive(Debug, Clone, Default)]
pub struct Dependency {
    /// The package.
    pub name: String,
    /// The name its code uses, with `_`.
    pub word: String,
    /// Only its tests use it.
    pub dev: bool,
}

/// A file of text.
#[derive(Debug, Clone)]
pub struct Text {
    /// From the root.
    pub path: String,
    /// As it is.
    pub text: String,
}

impl Text {
    /// Whether it is a document for people.
    #[must_use]
    pub fn is_document(&self) -> bool {
        ends(&self.path, &["md"])
    }
}

impl Tree {
    /// Reads the tree at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.look(root, "")?;
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).context("read the root manifest")?;
        tree.table = table(&manifest);
        let metadata = metadata(root)?;
        let members =
            metadata.get("packages").and_then(Value::as_array).context("cargo metadata: no packages")?;
        for member in members {
            let mut package = package(member, root)?;
            let within = format!("{}/", package.folder);
            for path in tree.files.iter().filter(|path| path.starts_with(&within) && is_rust(path)) {
                let text =
                    std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"))?;
                package.sources.push(Source::new(path, text));
            }
            ensure!(!package.sources.is_empty(), "{} has no sources", package.name);
            tree.packages.push(package);
        }
        Ok(tree)
    }

    /// The member of that name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Every Rust file of every member.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.packages.iter().flat_map(|package| &package.sources)
    }

    /// Walks `folder`. What a build or a version control makes is left out.
    fn look(&mut self, root: &Path, folder: &str) -> Result<()> {
        for entry in
            std::fs::read_dir(root.join(folder)).with_context(|| format!("read the folder {folder}"))?
        {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !matches!(name.as_str(), ".git" | "target" | "proptest-regressions") {
                    self.files.insert(path.clone());
                    self.look(root, &path)?;
                }
                continue;
            }
            if kind.is_file() && is_text(&path) {
                let text = std::fs::read_to_string(entry.path()).with_context(|| format!("read {path}"))?;
                self.texts.push(Text { path: path.clone(), text });
            }
            self.files.insert(path);
        }
        Ok(())
    }
}

fn is_rust(path: &str) -> bool {
    ends(path, &["rs"])
}

/// Whether the name ends with a dot and one of these.
fn ends(path: &str, endings: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| endings.contains(&end))
}

fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(name, "Makefile" | "run") || ends(name, &["md", "toml", "sh", "json", "yaml", "yml", "service"])
}

/// The keys of `[workspace.dependencies]`.
fn table(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "[workspace.dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('=').map(|(key, _)| key.trim().to_owned()))
        .collect()
}

fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn package(value: &Value, root: &Path) -> Result<Package> {
    let name = text(value, "name").context("a package without a name")?.to_owned();
    let manifest = Path::new(text(value, "manifest_path").context("a package without a manifest")?);
    let folder = manifest.parent().unwrap_or(manifest);
    let root = root.canonicalize().context("resolve the root")?;
    let folder = folder.strip_prefix(&root).unwrap_or(folder).to_string_lossy().into_owned();
    let house = value.get("metadata").and_then(|metadata| metadata.get("house"));
    let dependencies = value.get("dependencies").and_then(Value::as_array).map_or_else(Vec::new, |list| {
        list.iter()
            .filter_map(|dependency| {
                let name = text(dependency, "name")?.to_owned();
                let word = text(dependency, "rename").unwrap_or(&name).replace('-', "_");
                Some(Dependency { name, word, dev: text(dependency, "kind") == Some("dev") })
            })
            .collect()
    });
    Ok(Package {
        name,
        folder,
        floor: house.and_then(|house| house.get("floor")).and_then(Value::as_u64),
        pure: house.and_then(|house| house.get("pure")).and_then(Value::as_bool).unwrap_or(false),
        dependencies,
        sources: Vec::new(),
    })
}

/// A small tree for a bad example: packages as `(name, floor, pure, dependencies)`.
#[cfg(test)]
pub(crate) fn example(packages: &[(&str, u64, bool, &[&str])]) -> Tree {
    let packages = packages.iter().map(|(name, floor, pure, dependencies)| Package {
        name: (*name).to_owned(),
        folder: format!("crates/{name}"),
        floor: Some(*floor),
        pure: *pure,
        dependencies: dependencies
            .iter()
            .map(|name| Dependency { name: (*name).to_owned(), word: name.replace('-', "_"), dev: false })
            .collect(),
        sources: Vec::new(),
    });
    Tree { packages: packages.collect(), ..Tree::default() }
}

/// A small tree of one package with these sources, by their paths below its folder.
#[cfg(test)]
pub(crate) fn example_sources(pure: bool, sources: &[(&str, &str)]) -> Tree {
    let mut tree = example(&[("a", 1, pure, &[])]);
    tree.packages[0].sources =
        sources.iter().map(|(path, text)| Source::new(format!("crates/a/{path}"), *text)).collect();
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_table_is_read_to_its_end_and_no_further() {
        let manifest = "[workspace]\nx = 1\n[workspace.dependencies]\n# c = 1\na-b = \"1\"\nd = { version = \"1\" }\n\n[profile.dev]\ne = 1\n";
        assert_eq!(table(manifest), ["a-b", "d"]);
    }
}
