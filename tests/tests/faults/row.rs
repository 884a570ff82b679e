//! A row of the table: what was done, on what, and what the books say.

use std::io::Write;

use anyhow::{Result, ensure};
use switchctl::demo::books::Books;

/// A row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) storage: String,
    /// How often the fault was done.
    pub(crate) runs: u64,
    pub(crate) accepted: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) in_doubt: u64,
    /// From the fault to the first delivery of what the node had accepted before it, in milliseconds, each time.
    pub(crate) takeover_ms: Vec<u64>,
}

impl Row {
    /// The books of all runs of a fault.
    pub(crate) fn of(fault: &str, storage: &str, runs: u64, books: &Books) -> Self {
        Self {
            fault: fault.to_owned(),
            storage: storage.to_owned(),
            runs,
            accepted: books.accepted,
            lost: books.lost.len() as u64,
            duplicates: books.duplicates,
            in_doubt: books.in_doubt,
            takeover_ms: Vec::new(),
        }
    }

    /// Adds it to the table in the file `MAILSWITCH_DRILLS`, where there is one, before anything is asserted.
    pub(crate) fn enter(&self) -> Result<()> {
        let takeovers: Vec<String> = self.takeover_ms.iter().map(u64::to_string).collect();
        let line = format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            self.fault,
            self.storage,
            self.runs,
            self.accepted,
            self.lost,
            self.duplicates,
            self.in_doubt,
            takeovers.join(",")
        );
        eprint!("{line}");
        if let Some(path) = std::env::var_os("MAILSWITCH_DRILLS") {
            std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// Enters the row, then holds the books to the promise.
    pub(crate) fn close(&self, books: &Books) -> Result<()> {
        self.enter()?;
        ensure!(books.faults().is_empty(), "{:?}: {books:?}", books.faults());
        ensure!(books.accepted == books.delivered && books.accepted > 0, "{books:?}");
        Ok(())
    }
}
