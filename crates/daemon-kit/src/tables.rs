//! The tables that a configuration names: read from their files into the settings. Nothing is decided about a table that
//! cannot be had; it is marked so.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use routing::LineFault;
use routing::tables::{self, Slot, Table};
use settings::{Settings, TableFiles};

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFault {
    /// Its file.
    pub file: PathBuf,
    /// What, with the line if it is about one, and what to do.
    pub what: String,
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.what)
    }
}

/// Faults, a line each.
#[must_use]
pub fn shown(faults: &[TableFault]) -> String {
    faults.iter().map(TableFault::to_string).collect::<Vec<_>>().join("\n")
}

/// The files of all tables that are named.
#[must_use]
pub fn files(files: &TableFiles) -> Vec<&Path> {
    let TableFiles { routes, aliases, recipients, senders } = files;
    [routes, aliases, recipients, senders].into_iter().flatten().map(PathBuf::as_path).collect()
}

/// Reads every table that `settings` names and puts it there. One that has a fault is as it is in `before`, if it was
/// there. Blocks on the disk.
#[must_use]
pub fn load(settings: &mut Settings, before: Option<&Settings>) -> Vec<TableFault> {
    let mut faults = Vec::new();
    let files = settings.table_files.clone();
    // What was read from another file is no substitute.
    let before = before.filter(|before| before.table_files == files);
    settings.routes = match &files.routes {
        None => settings.routes.with_file(Some(Vec::new())),
        Some(file) => match read(file, tables::read_routes, &mut faults) {
            Some(routes) => settings.routes.with_file(Some(routes)),
            None => match before {
                Some(before) => before.routes.clone(),
                None => settings.routes.with_file(None),
            },
        },
    };
    settings.tables.aliases = slot(
        files.aliases.as_deref(),
        tables::read_aliases,
        before.map(|s| s.tables.aliases.clone()),
        &mut faults,
    );
    settings.tables.recipients = slot(
        files.recipients.as_deref(),
        tables::read_recipients,
        before.map(|s| s.tables.recipients.clone()),
        &mut faults,
    );
    settings.tables.senders = slot(
        files.senders.as_deref(),
        tables::read_senders,
        before.map(|s| s.tables.senders.clone()),
        &mut faults,
    );
    faults
}

fn slot<V>(
    file: Option<&Path>,
    parse: impl Fn(&str) -> Result<Table<V>, Vec<LineFault>>,
    before: Option<Slot<V>>,
    faults: &mut Vec<TableFault>,
) -> Slot<V> {
    let Some(file) = file else { return Slot::Unset };
    match read(file, parse, faults) {
        Some(table) => Slot::Loaded(Arc::new(table)),
        None => before.unwrap_or(Slot::Unavailable),
    }
}

fn read<T>(
    file: &Path,
    parse: impl Fn(&str) -> Result<T, Vec<LineFault>>,
    faults: &mut Vec<TableFault>,
) -> Option<T> {
    let fault = |what: String| TableFault { file: file.to_owned(), what };
    match std::fs::read_to_string(file) {
        Ok(text) => match parse(&text) {
            Ok(table) => return Some(table),
            Err(found) => faults.extend(found.into_iter().map(|found| fault(found.to_string()))),
        },
        Err(error) => {
            faults.push(fault(format!(" {error}; write the table there, readable for this program")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use settings::{Environment, Source};

    use super::*;

    fn settings(dir: &Path) -> Settings {
        let text = "cluster: { id: demo }\nnode: { id: a }\nlisteners: [ { address: 127.0.0.1:2525 } ]\n\
                    routes: [ { match: \"*\", next_hop: 10.0.0.1 } ]\ntables: { aliases: aliases, routes: routes }\n";
        let source = Source { path: dir.join("m.yaml"), text: text.to_owned() };
        settings::parse(&[source], &Environment::default()).unwrap()
    }

    #[test]
    fn a_table_that_becomes_faulty_stays_as_it_was_and_one_that_was_never_right_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = settings(dir.path());
        std::fs::write(dir.path().join("aliases"), "a@b.test c@d.test\n").unwrap();
        let told = shown(&load(&mut first, None));
        assert!(told.contains("routes: No such file") && told.lines().count() == 1, "{told}");
        assert!(!first.routes.are_known() && matches!(first.tables.aliases, Slot::Loaded(_)));

        std::fs::write(dir.path().join("aliases"), "a@b.test\n\nb@b.test c\n").unwrap();
        std::fs::write(dir.path().join("routes"), "b.test discard\n").unwrap();
        let mut second = settings(dir.path());
        let told = shown(&load(&mut second, Some(&first)));
        assert!(told.contains("aliases:1: ") && told.contains("aliases:3: 'c' is no address"), "{told}");
        assert_eq!(second.tables, first.tables);
        assert!(second.routes.are_known() && second.routes.iter().count() == 2);
    }
}
