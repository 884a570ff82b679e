//! Whom a route's mail is given to a next hop as, and where the password stands.

use std::fmt;
use std::path::{Path, PathBuf};

/// A password or another secret, as the configuration names it. It is read where it is needed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Secret {
    /// Written out.
    Written(Box<str>),
    /// `${file:PATH}`: the first line of that file.
    File(PathBuf),
    /// `${env:NAME}`: that variable of the environment.
    Environment(Box<str>),
}

impl Secret {
    /// Reads what is written; a relative file starts from `base`. `None` for a reference that is none.
    #[must_use]
    pub fn parse(text: &str, base: &Path) -> Option<Self> {
        let Some(reference) = text.strip_prefix("${") else {
            return (!text.is_empty()).then(|| Self::Written(text.into()));
        };
        let (kind, name) = reference.strip_suffix('}')?.split_once(':')?;
        match kind {
            _ if name.is_empty() => None,
            "file" => Some(Self::File(base.join(name))),
            "env" => Some(Self::Environment(name.into())),
            _ => None,
        }
    }
}

// Nothing that is secret is shown.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(_) => f.write_str("(not shown)"),
            Self::File(file) => write!(f, "${{file:{}}}", file.display()),
            Self::Environment(name) => write!(f, "${{env:{name}}}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a next hop is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Credentials {
    /// The user's name there.
    pub user: Box<str>,
    /// Its password there.
    pub password: Secret,
    /// The registered name of the one mechanism to use; the best that is offered if not said.
    pub mechanism: Option<Box<str>>,
    /// They may be shown without TLS.
    pub in_clear: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_out_or_named_and_never_shown() {
        let base = Path::new("/etc/mailswitch");
        let parse = |text| Secret::parse(text, base);
        assert_eq!(parse("pass word"), Some(Secret::Written("pass word".into())));
        assert_eq!(parse("${file:next.pw}"), Some(Secret::File("/etc/mailswitch/next.pw".into())));
        assert_eq!(parse("${file:/run/pw}"), Some(Secret::File("/run/pw".into())));
        assert_eq!(parse("${env:PW}"), Some(Secret::Environment("PW".into())));
        for bad in ["", "${", "${file:}", "${env}", "${vault:x}", "${file:x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(format!("{0} {0:?}", Secret::Written("pass".into())), "(not shown) (not shown)");
    }
}
