//! What DNS says of a stranger before his mail is taken: whether a list names his address, whether he has a name, and whether
//! his sender could be answered. Asked for at his first recipient, so that a postmaster is always reached.
//!
//! | what is found | answer |
//! |---|---|
//! | a block list names the client (RFC 5782) | 550 5.7.1, with the list's own text |
//! | the name in EHLO is no full name, or does not exist | 550 5.7.1 |
//! | the sender's domain does not exist, or takes no mail (RFC 7505) | 550 5.1.8, 550 5.7.27 |
//! | whether the sender's domain exists cannot be told now | 450 4.1.8 |
//! | a list does not answer, or says that it does not; the EHLO name cannot be looked up now | taken |
//!
//! Trusted clients, users, and checks of balancers are let alone. Whether the name in EHLO belongs to the client's address is never
//! asked: RFC 5321 4.1.4 forbids to refuse mail for that.

use std::net::IpAddr;
use std::time::Duration;

use lookup::{Resolver, Unavailable};
use mail_model::{Domain, EnhancedStatus, Reply, ReversePath};
use routing::mx::MxAnswer;
use settings::{BlockList, CheckSettings, HeloCheck};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A client waits no longer for all of it. RFC 5321 4.5.3.2.3: it waits five minutes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A refusal, and why in a word of the metrics.
type Refusal = Option<(&'static str, Reply)>;

/// What was found so far of a client and of its present sender.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    client: Option<(IpAddr, String, Refusal)>,
    /// The domain of the sender; none of a bounce.
    sender: Option<Domain>,
    of_sender: Option<Refusal>,
}

impl Checked {
    /// A new sender.
    pub(crate) fn mail_is_from(&mut self, sender: &ReversePath) {
        let domain = match sender {
            ReversePath::Null => None,
            ReversePath::Mailbox(mailbox) => mailbox.domain().cloned(),
        };
        if self.sender != domain {
            (self.sender, self.of_sender) = (domain, None);
        }
    }

    /// Why nothing is taken from him. Asked once for each client and sender of a session.
    pub(crate) async fn refusal(
        &mut self,
        checks: &CheckSettings,
        resolver: &Resolver,
        client: IpAddr,
        helo: &str,
    ) -> Refusal {
        let known = self.client.as_ref().filter(|(ip, name, _)| *ip == client && name == helo);
        let of_client = if let Some((_, _, refusal)) = known {
            refusal.clone()
        } else {
            let found = timeout(PATIENCE, of_client(checks, resolver, client, helo)).await;
            let found = found.unwrap_or_else(|_| {
                tracing::info!(event = "checks.unanswered", %client, what = "client", error = "it took too long");
                None
            });
            self.client = Some((client, helo.to_owned(), found.clone()));
            found
        };
        if of_client.is_some() {
            return of_client;
        }
        if let Some(refusal) = &self.of_sender {
            return refusal.clone();
        }
        let wanted = |domain: &&Domain| checks.sender_domain && !domain.is_literal();
        let domain = self.sender.as_ref().filter(wanted)?;
        let found = timeout(PATIENCE, of_sender(resolver, domain)).await;
        let found = found.unwrap_or_else(|_| Some(unclear()));
        // What could not be told is asked again.
        self.of_sender =
            Some(found.clone()).filter(|found| found.as_ref().is_none_or(|(_, reply)| reply.code >= 500));
        found
    }
}

async fn of_client(checks: &CheckSettings, resolver: &Resolver, client: IpAddr, helo: &str) -> Refusal {
    if let Some(refusal) = of_helo(checks.helo, resolver, client, helo).await {
        return Some(refusal);
    }
    let mut asked = JoinSet::new();
    for list in checks.block_lists.iter().cloned() {
        let resolver = resolver.clone();
        asked.spawn(async move { (listed(&resolver, &list, client).await, list.zone) });
    }
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok((Ok(Some(text)), zone)) => {
                let text = format!("{client} is listed by {zone}{text}");
                return Some(("block_list", Reply::local(550, EnhancedStatus::new(5, 7, 1), text)));
            }
            Ok((Ok(None), _)) | Err(_) => {}
            Ok((Err(error), zone)) => {
                tracing::info!(event = "checks.unanswered", %client, what = %zone, %error);
            }
        }
    }
    None
}

/// The list's own words, or none, if it names the client.
async fn listed(
    resolver: &Resolver,
    list: &BlockList,
    client: IpAddr,
) -> Result<Option<String>, Unavailable> {
    let Ok(name) = Domain::new(&format!("{}.{}", reversed(client), list.zone)) else { return Ok(None) };
    let answers = resolver.ipv4(&name).await?;
    if !answers.iter().any(|answer| counts(list, (*answer).into())) {
        return Ok(None);
    }
    let texts = resolver.texts(name.as_str()).await.ok().and_then(|answer| answer.value.data());
    Ok(Some(
        texts.and_then(|texts| texts.into_iter().next()).map(|text| format!(": {text}")).unwrap_or_default(),
    ))
}

/// RFC 5782 2.1: 127.0.0.0/8. What is in 127.255.255.0/24 is how lists say that they do not answer this server.
fn counts(list: &BlockList, answer: IpAddr) -> bool {
    if !list.replies.is_empty() {
        return list.replies.iter().any(|network| network.contains(&answer));
    }
    let IpAddr::V4(answer) = answer else { return false };
    let [first, second, third, _] = answer.octets();
    first == 127 && (second, third) != (255, 255)
}

/// RFC 5782 2.1 and 2.4: octets, or half octets, the last first.
fn reversed(client: IpAddr) -> String {
    let parts: Vec<String> = match client.to_canonical() {
        IpAddr::V4(address) => address.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(address) => {
            let halves = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            let halves: Vec<u8> = halves.collect();
            halves.iter().rev().map(|half| format!("{half:x}")).collect()
        }
    };
    parts.join(".")
}

async fn of_helo(check: HeloCheck, resolver: &Resolver, client: IpAddr, helo: &str) -> Refusal {
    let refuse = |text: &str| Some(("helo", Reply::local(550, EnhancedStatus::new(5, 7, 1), text)));
    let exists = match check {
        HeloCheck::Off => return None,
        HeloCheck::Full => false,
        HeloCheck::Exists => true,
    };
    // The session has judged its syntax.
    if helo.starts_with('[') {
        return None;
    }
    let Ok(name) = Domain::new(helo.trim_end_matches('.')) else { return refuse("no host is called so") };
    if !name.as_str().contains('.') {
        return refuse("say your full name in EHLO, with a domain");
    }
    if !exists {
        return None;
    }
    let found = async {
        if !resolver.addresses(&name).await?.value.is_empty() {
            return Ok(true);
        }
        let mx = resolver.mx(&name).await?.value;
        Ok::<bool, Unavailable>(matches!(mx, MxAnswer::Records(_)))
    };
    match found.await {
        Ok(true) => None,
        Ok(false) => refuse("the name that you say in EHLO does not exist"),
        Err(error) => {
            tracing::info!(event = "checks.unanswered", %client, what = "helo", %error);
            None
        }
    }
}

async fn of_sender(resolver: &Resolver, domain: &Domain) -> Refusal {
    let refuse = |detail, subject, text: String| {
        Some(("sender", Reply::local(550, EnhancedStatus::new(5, subject, detail), text)))
    };
    match resolver.mx(domain).await.map(|answer| answer.value) {
        Ok(MxAnswer::Records(records)) if records.iter().all(|mx| mx.host.is_none()) => {
            refuse(27, 7, format!("{domain} takes no mail, so it sends none"))
        }
        Ok(MxAnswer::Records(_)) => None,
        Ok(MxAnswer::NoDomain) => refuse(8, 1, format!("{domain} does not exist")),
        // RFC 5321 5.1: without MX its address is its mail host.
        Ok(MxAnswer::NoRecords) => match resolver.addresses(domain).await {
            Ok(answer) if answer.value.is_empty() => refuse(8, 1, format!("{domain} has no mail host")),
            Ok(_) => None,
            Err(_) => Some(unclear()),
        },
        Err(_) => Some(unclear()),
    }
}

fn unclear() -> (&'static str, Reply) {
    let text = "the domain of the sender cannot be looked up now, try again later";
    ("sender", Reply::local(450, EnhancedStatus::new(4, 1, 8), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_backwards() {
        assert_eq!(reversed("192.0.2.99".parse().unwrap()), "99.2.0.192");
        assert_eq!(reversed("::ffff:192.0.2.99".parse().unwrap()), "99.2.0.192");
        let wanted = "1.".to_owned() + &"0.".repeat(23) + "8.b.d.0.1.0.0.2";
        assert_eq!(reversed("2001:db8::1".parse().unwrap()), wanted);
    }

    #[test]
    fn only_answers_that_name_a_client_count() {
        let list = |replies: &[&str]| BlockList {
            zone: Domain::new("bl.test").unwrap(),
            replies: replies.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let counts = |list: &BlockList, answer: &str| counts(list, answer.parse().unwrap());
        let any = list(&[]);
        assert!(counts(&any, "127.0.0.2") && counts(&any, "127.0.1.255"));
        assert!(!counts(&any, "127.255.255.254") && !counts(&any, "192.0.2.1"));
        let some = list(&["127.0.0.4/30"]);
        assert!(counts(&some, "127.0.0.5") && !counts(&some, "127.0.0.2"));
    }
}
