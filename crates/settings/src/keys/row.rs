//! One row of the table of keys.

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    /// It must be written.
    Required,
    /// As if this were written.
    Value(&'static str),
    /// In words.
    Words(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its way from the top; `[]` stands for every item of a list.
    pub(crate) path: &'static str,
    /// What is written there.
    pub(crate) form: &'static str,
    pub(crate) default: Unset,
    /// What it means.
    pub(crate) text: &'static str,
}

/// Writes a row.
pub(super) const fn key(path: &'static str, form: &'static str, default: Unset, text: &'static str) -> Key {
    Key { path, form, default, text }
}
