//! The configuration files of a program: FILE and `conf.d/*.yaml` beside it, read and checked as one.
//!
//! What is wrong with their content is told all at once, a line each. A file that cannot be read is told alone, because
//! every key in it would look missing. Nothing is written here, and nothing is made.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use routing::DrillKey;
use settings::{Environment, Fault, Settings, Source};

/// Where the configuration is, if nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/mailswitch/mailswitch.yaml";

const MORE: &str = "conf.d";

/// A configuration that was read and found right.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// The files it was read from, in order.
    pub sources: Vec<Source>,
}

/// Why there is no configuration. Shown with all faults, one a line.
#[derive(Debug)]
pub enum ConfigurationError {
    /// A file cannot be read.
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What is written is wrong.
    Faults(Vec<Fault>),
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                let remedy = if error.kind() == io::ErrorKind::NotFound {
                    "write it there, or name another by --config FILE"
                } else if error.kind() == io::ErrorKind::PermissionDenied {
                    "let this user read it"
                } else if error.kind() == io::ErrorKind::InvalidData {
                    "it must be text in UTF-8"
                } else {
                    "look at the file and its file system"
                };
                write!(f, "{}: {error}; {remedy}", path.display())
            }
            Self::Faults(faults) => {
                for (index, fault) in faults.iter().enumerate() {
                    if index > 0 {
                        f.write_str("\n")?;
                    }
                    fault.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigurationError {}

/// Reads the configuration at `path` and what stands in `conf.d` beside it. Blocks on the disk.
pub fn load(path: &Path) -> Result<Loaded, ConfigurationError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| ConfigurationError::Unreadable { path, error }
    };
    // Relative paths in the file mean the same wherever the program stands.
    let path = std::path::absolute(path).map_err(unreadable(path))?;
    let mut sources = vec![read(&path)?];
    let more = directory(&path).join(MORE);
    match std::fs::read_dir(&more) {
        Ok(entries) => {
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry.map_err(unreadable(&more))?.path());
            }
            // Editors leave files like `.10-site.yaml.swp`, and `*.yaml` of a shell shows no hidden ones either.
            names.retain(|name| is_yaml(name));
            names.sort();
            for name in names {
                sources.push(read(&name)?);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(&more)(error)),
    }
    let hostname = rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
    let mut settings =
        settings::parse(&sources, &Environment { hostname }).map_err(ConfigurationError::Faults)?;
    // Who needs the key says so himself when it is missing. Without it there are no drills, and that is all.
    let key = settings.cluster.key_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    settings.drill_key = key.map(|text| DrillKey::new(&text));
    Ok(Loaded { settings, sources })
}

/// The directories to watch for a changed configuration: editors replace a file, so its directory tells. Those that
/// exist.
#[must_use]
pub fn watch(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut directories = vec![directory(&path), directory(&path).join(MORE)];
    directories.retain(|directory| directory.is_dir());
    directories
}

fn directory(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn is_yaml(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml")
}

fn read(path: &Path) -> Result<Source, ConfigurationError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source { path: path.to_owned(), text }),
        Err(error) => Err(ConfigurationError::Unreadable { path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
cluster: { id: demo }
node: { id: a, state_dir: state/a }
listeners: [ { address: 127.0.0.1:2525 } ]
routes: [ { match: \"*\", next_hop: \"127.0.0.1:2526\" } ]
";

    fn site() -> (tempfile::TempDir, PathBuf) {
        let site = tempfile::tempdir().unwrap();
        let path = site.path().join("mailswitch.yaml");
        std::fs::write(&path, TEXT).unwrap();
        (site, path)
    }

    #[test]
    fn the_files_of_conf_d_are_read_after_the_main_one_in_the_order_of_their_names() {
        let (site, path) = site();
        let more = site.path().join("conf.d");
        std::fs::create_dir(&more).unwrap();
        std::fs::write(more.join("20.yaml"), "limits: { hops: 20 }\n").unwrap();
        std::fs::write(more.join("10.yaml"), "limits: { hops: 10, recipients: 200 }\n").unwrap();
        std::fs::write(more.join(".20.yaml"), "not: known\n").unwrap();
        std::fs::write(more.join("30.yaml.bak"), "not: known\n").unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded.settings.limits.hops, 20);
        assert_eq!(loaded.settings.limits.session.limits.recipients, 200);
        assert_eq!(loaded.settings.node.state_dir, site.path().join("state/a"));
        let files: Vec<_> = loaded.sources.iter().map(|source| source.path.clone()).collect();
        assert_eq!(files, [path.clone(), more.join("10.yaml"), more.join("20.yaml")]);
        assert_eq!(watch(&path), [site.path().to_owned(), more]);
    }

    #[test]
    fn every_fault_of_every_file_is_told_on_a_line_of_its_own() {
        let (site, path) = site();
        let more = site.path().join("conf.d");
        std::fs::create_dir(&more).unwrap();
        std::fs::write(more.join("1.yaml"), "node: { id: A }\nlimit: {}\n").unwrap();
        std::fs::write(more.join("2.yaml"), "retry: { first: 5 }\n").unwrap();
        let told = load(&path).unwrap_err().to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 3, "{told}");
        assert!(lines[0].contains("conf.d/1.yaml:1:13: node.id:"), "{told}");
        assert!(lines[1].contains("did you mean 'limits'?"), "{told}");
        assert!(lines[2].contains("conf.d/2.yaml:1:17: retry.first:"), "{told}");
    }

    #[test]
    fn a_file_that_is_not_there_or_no_text_is_told_with_a_remedy() {
        let (site, path) = site();
        let told = load(&site.path().join("none.yaml")).unwrap_err().to_string();
        assert!(told.contains("--config FILE"), "{told}");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let told = load(&path).unwrap_err().to_string();
        assert!(told.contains("UTF-8"), "{told}");
    }
}
