//! MTA-STS policies of domains: looked up in DNS, fetched over HTTPS, kept. RFC 8461.
//!
//! | DNS says | kept and in date | what holds |
//! |---|---|---|
//! | the id of what is kept | yes | what is kept |
//! | another id | any | what is fetched; if that fails, what is kept, or nothing (3.3) |
//! | no policy | yes | what is kept, until its end |
//! | nothing now | yes / no | what is kept / the mail waits |
//!
//! A policy is kept in a file of its own below `node.state_dir`, so that a restart or another process of this node forgets none.
//! Never: a policy past its end; a redirect; a certificate that the roots do not vouch for.

mod asking;
mod fetch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_model::{Domain, WallTime};
use parking_lot::Mutex;
use routing::sts::{StsPolicy, StsRecord};

pub(crate) use self::asking::Asking;

/// A policy that could not be fetched is not asked for again for so long.
const FETCH_AGAIN: Duration = Duration::from_mins(5);
/// So many domains are known at once; past that all are read from their files again.
const DOMAINS_MAX: usize = 20_000;

/// A policy that was fetched.
#[derive(Debug, Clone)]
struct Kept {
    id: String,
    until: WallTime,
    policy: StsPolicy,
}

#[derive(Debug, Default)]
struct Memory {
    kept: HashMap<Domain, Kept>,
    failed: HashMap<Domain, (String, WallTime)>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct StsPolicies {
    dir: PathBuf,
    memory: Mutex<Memory>,
}

impl StsPolicies {
    /// With the files below `state_dir`.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("mta-sts"), memory: Mutex::default() }
    }

    /// The policy of `domain`, if it has one. The error says why it cannot be told now.
    pub(crate) async fn of(&self, domain: &Domain, asking: Asking<'_>) -> Result<Option<StsPolicy>, String> {
        if !is_plain(domain) {
            return Ok(None);
        }
        let kept = self.kept(domain).await.filter(|kept| kept.until > asking.now);
        let record = match asking.names.resolver.texts(&format!("_mta-sts.{domain}")).await {
            Ok(answer) => StsRecord::read(&answer.value.data().unwrap_or_default()),
            Err(_) if kept.is_some() => StsRecord::None,
            Err(error) => return Err(error.to_string()),
        };
        let StsRecord::Id(id) = record else { return Ok(kept.map(|kept| kept.policy)) };
        if kept.as_ref().is_some_and(|kept| kept.id == id) || self.failed_lately(domain, &id, asking.now) {
            return Ok(kept.map(|kept| kept.policy));
        }
        match fetch::policy(domain, asking).await {
            Ok((policy, text)) => {
                let until = asking.now + policy.max_age;
                self.keep(domain, Kept { id, until, policy: policy.clone() }, text).await;
                Ok(Some(policy))
            }
            Err(error) => {
                tracing::warn!(event = "sts.fetch_failed", %domain, kept = kept.is_some(), %error);
                let mut memory = self.memory.lock();
                if memory.failed.len() >= DOMAINS_MAX {
                    memory.failed.clear();
                }
                memory.failed.insert(domain.clone(), (id, asking.now));
                Ok(kept.map(|kept| kept.policy))
            }
        }
    }

    fn failed_lately(&self, domain: &Domain, id: &str, now: WallTime) -> bool {
        let memory = self.memory.lock();
        memory.failed.get(domain).is_some_and(|(of, at)| of == id && now.since(*at) < FETCH_AGAIN)
    }

    async fn kept(&self, domain: &Domain) -> Option<Kept> {
        if let Some(kept) = self.memory.lock().kept.get(domain) {
            return Some(kept.clone());
        }
        let file = self.dir.join(domain.as_str());
        let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(file).ok()).await.ok()??;
        let kept = read(&text)?;
        self.remember(domain, kept.clone());
        Some(kept)
    }

    fn remember(&self, domain: &Domain, kept: Kept) {
        let mut memory = self.memory.lock();
        if memory.kept.len() >= DOMAINS_MAX {
            memory.kept.clear();
        }
        memory.failed.remove(domain);
        memory.kept.insert(domain.clone(), kept);
    }

    async fn keep(&self, domain: &Domain, kept: Kept, text: String) {
        let (dir, name) = (self.dir.clone(), domain.to_string());
        let written = format!("{} {}\n{text}", kept.id, kept.until.0);
        self.remember(domain, kept);
        // Without its file it is fetched again after a restart, and until then no less is asked of the hosts.
        let done = tokio::task::spawn_blocking(move || write(&dir, &name, &written)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(event = "sts.not_kept", %domain, %error);
        }
    }
}

/// A name that can be a file's too, and that can have a policy: no literal.
fn is_plain(domain: &Domain) -> bool {
    let text = domain.as_str();
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with('.')
}

/// `ID UNTIL`, and then the policy as it was fetched.
fn read(text: &str) -> Option<Kept> {
    let (head, policy) = text.split_once('\n')?;
    let (id, until) = head.split_once(' ')?;
    Some(Kept {
        id: id.to_owned(),
        until: WallTime(until.parse().ok()?),
        policy: StsPolicy::read(policy).ok()?,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is kept here can be fetched again: it is whole or not there"
)]
fn write(dir: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    // Two processes of this node may fetch the same policy.
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    std::fs::write(&new, text)?;
    std::fs::rename(&new, dir.join(name))
}
