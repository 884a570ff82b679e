//! What a domain says about the certificates of its mail hosts: MTA-STS, RFC 8461. Reads and judges only; who asks DNS and the
//! web passes in what they said.

use std::time::Duration;

use mail_model::Domain;

/// The longest a policy is believed without a new look. RFC 8461 3.2.
const AGE_MAX: u64 = 31_557_600;
/// Patterns of one policy.
const PATTERNS_MAX: usize = 1_000;

/// What a domain says in DNS: which policy is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StsRecord {
    /// None, or nothing that is one.
    None,
    /// The policy of this id.
    Id(String),
}

impl StsRecord {
    /// From the texts at `_mta-sts.DOMAIN`. RFC 8461 3.1: more than one policy is none.
    #[must_use]
    pub fn read(texts: &[String]) -> Self {
        let mut records =
            texts.iter().filter(|text| is_version(text.split(';').next().unwrap_or_default(), '='));
        let (Some(record), None) = (records.next(), records.next()) else { return Self::None };
        let id = record
            .split(';')
            .filter_map(|field| field.trim().split_once('='))
            .find(|(key, _)| key.trim() == "id");
        let id = id
            .map(|(_, id)| id.trim())
            .filter(|id| (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric()));
        id.map_or(Self::None, |id| Self::Id(id.to_owned()))
    }
}

fn is_version(field: &str, between: char) -> bool {
    let version = field.split_once(between).map(|(key, value)| (key.trim(), value.trim()));
    matches!(version, Some(("v" | "version", "STSv1")))
}

/// What follows if a host does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsMode {
    /// It gets no mail.
    Enforce,
    /// It gets mail, and it is told.
    Testing,
    /// Nothing.
    None,
}

/// Which hosts may take mail, each with a certificate for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsPolicy {
    /// What follows if a host does not fit.
    pub mode: StsMode,
    /// How long it is believed without a new look.
    pub max_age: Duration,
    /// Names, or `*.name` for one label more.
    mx: Vec<String>,
}

/// It is no policy; what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an MTA-STS policy: {0}")]
pub struct StsPolicyError(&'static str);

impl StsPolicy {
    /// Reads a policy as a web server gives it. RFC 8461 3.2.
    pub fn read(text: &str) -> Result<Self, StsPolicyError> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        if !lines.next().is_some_and(|line| is_version(line, ':')) {
            return Err(StsPolicyError("its first line is not 'version: STSv1'"));
        }
        let (mut mode, mut age, mut mx) = (None, None, Vec::new());
        for line in lines {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key.trim() {
                // The first of a key counts.
                "mode" if mode.is_none() => {
                    mode = Some(match value {
                        "enforce" => StsMode::Enforce,
                        "testing" => StsMode::Testing,
                        "none" => StsMode::None,
                        _ => return Err(StsPolicyError("its mode is not enforce, testing or none")),
                    });
                }
                "max_age" if age.is_none() => {
                    let seconds: u64 =
                        value.parse().map_err(|_| StsPolicyError("its max_age is no number"))?;
                    age = Some(seconds.min(AGE_MAX));
                }
                "mx" if mx.len() < PATTERNS_MAX => mx.push(value.trim_end_matches('.').to_ascii_lowercase()),
                _ => {}
            }
        }
        let mode = mode.ok_or(StsPolicyError("it names no mode"))?;
        let age = age.ok_or(StsPolicyError("it names no max_age"))?;
        if mx.is_empty() && mode != StsMode::None {
            return Err(StsPolicyError("it names no mx"));
        }
        Ok(Self { mode, max_age: Duration::from_secs(age), mx })
    }

    /// True if `host` may take mail. RFC 8461 4.1: a wildcard stands for the leftmost label alone.
    #[must_use]
    pub fn takes(&self, host: &Domain) -> bool {
        let parent = host.as_str().split_once('.').map(|(_, parent)| parent);
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(wanted) => parent == Some(wanted),
            None => pattern == host.as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(texts: &[&str]) -> StsRecord {
        StsRecord::read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_record_with_an_id_says_that_there_is_a_policy() {
        let id = |id: &str| StsRecord::Id(id.to_owned());
        assert_eq!(record(&["v=STSv1; id=20160831085700Z;"]), id("20160831085700Z"));
        assert_eq!(record(&["spf", "v=STSv1;id=1"]), id("1"));
        for none in [
            &["v=STSv1; id=1", "v=STSv1; id=2"][..],
            &["v=STSv1"],
            &["v=STSv1; id="],
            &["v=STSv1; id=a b"],
            &["v=STSv2; id=1"],
            &["id=1; v=STSv1"],
            &[],
        ] {
            assert_eq!(record(none), StsRecord::None, "{none:?}");
        }
    }

    #[test]
    fn a_policy_names_its_hosts_and_a_wildcard_is_one_label() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: Mail.example.test\r\nmx: *.example.net\r\nmax_age: 604800\r\nx: y\r\n";
        let policy = StsPolicy::read(text).unwrap();
        assert_eq!((policy.mode, policy.max_age), (StsMode::Enforce, Duration::from_hours(168)));
        let takes = |host: &str| policy.takes(&Domain::new(host).unwrap());
        assert!(takes("MAIL.example.test") && takes("a.example.net"));
        assert!(!takes("example.net") && !takes("a.b.example.net") && !takes("x.mail.example.test"));
    }

    #[test]
    fn what_is_no_policy_is_told_and_never_taken_for_a_weaker_one() {
        for (text, wanted) in [
            ("", "first line"),
            ("mode: none\nversion: STSv1\nmax_age: 1\n", "first line"),
            ("version: STSv1\nmode: Enforce\nmx: a\nmax_age: 1", "not enforce, testing or none"),
            ("version: STSv1\nmx: a\nmax_age: 1", "no mode"),
            ("version: STSv1\nmode: testing\nmx: a", "no max_age"),
            ("version: STSv1\nmode: testing\nmx: a\nmax_age: -1", "no number"),
            ("version: STSv1\nmode: enforce\nmax_age: 1", "no mx"),
        ] {
            let said = StsPolicy::read(text).unwrap_err().to_string();
            assert!(said.contains(wanted), "{text:?}: {said}");
        }
        let long = StsPolicy::read("version: STSv1\nmode: none\nmax_age: 99999999999").unwrap();
        assert_eq!(long.max_age, Duration::from_secs(AGE_MAX));
    }
}
