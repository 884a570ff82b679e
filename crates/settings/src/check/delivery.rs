//! `delivery`, `bounces`, and `retry.warn`.

use std::net::IpAddr;
use std::time::Duration;

use mail_model::{Domain, Mailbox, QueueId};
use routing::{DomainPattern, InDoubt, Rate, RelayPolicy, Target};

use super::name::host_name;
use crate::model::{BounceSettings, CacheSettings, DeliverySettings, DoubleBounce, OwnerSettings};
use crate::reader::{At, Reader};

/// After so many crashes a message is looked at by a person.
const CRASH_HOLD: u8 = 3;
/// A sender hears of a delay after so long.
const WARN: Duration = Duration::from_hours(4);

/// How mail goes out.
pub(crate) fn delivery<'a>(read: &mut Reader<'a>, at: &At<'a>) -> DeliverySettings {
    let crash_hold = read.number(&at.key("crash_hold"), 0..=100);
    DeliverySettings {
        eight_bit: read.parsed(&at.key("eight_bit"), str::parse).unwrap_or_default(),
        crash_hold: crash_hold.and_then(|number| u8::try_from(number).ok()).unwrap_or(CRASH_HOLD),
        cache: cache(read, &at.key("cache")),
        owners: owners(read, &at.key("owners")),
    }
}

fn cache<'a>(read: &mut Reader<'a>, at: &At<'a>) -> CacheSettings {
    let connections = read.number(&at.key("connections"), 0..=1_000).and_then(|n| usize::try_from(n).ok());
    let idle = read.duration(&at.key("idle"), Duration::ZERO..=Duration::from_mins(10));
    let messages = read.number(&at.key("messages"), 1..=1_000_000).and_then(|n| u32::try_from(n).ok());
    CacheSettings {
        connections: connections.unwrap_or(20),
        idle: idle.unwrap_or(Duration::from_secs(10)),
        messages: messages.unwrap_or(1_000),
    }
}

fn owners<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Vec<OwnerSettings> {
    let mut owners: Vec<OwnerSettings> = Vec::new();
    for item in at.items() {
        let name = item.key("queue");
        let queue: Option<QueueId> = read.required(
            &name,
            |read, at| {
                read.parsed(at, |text| {
                    text.parse().map_err(|_| format!("'{text}' is no queue; write a node's name"))
                })
            },
            "write the queue's name, which is its node's",
        );
        let ehlo = read.parsed(&item.key("ehlo"), |text| {
            host_name(text)
                .ok_or_else(|| format!("'{text}' is not a host name; write a full one: mx1.example.test"))
        });
        let mut source: Vec<IpAddr> = Vec::new();
        for address in item.key("source").items() {
            let parsed = read.parsed(&address, |text| {
                text.parse::<IpAddr>()
                    .map_err(|_| format!("'{text}' is no address; write 192.0.2.1 or 2001:db8::1"))
            });
            let Some(parsed) = parsed else { continue };
            if source.iter().any(|other| other.is_ipv4() == parsed.is_ipv4()) {
                read.fault(&address, "there is one of this kind already; keep one IPv4 and one IPv6 address");
                continue;
            }
            source.push(parsed);
        }
        let Some(queue) = queue else { continue };
        if owners.iter().any(|owner| owner.queue == queue) {
            read.fault(&name, format!("queue '{queue}' stands here twice; keep one"));
        }
        owners.push(OwnerSettings { queue, ehlo, source });
    }
    owners
}

/// `rate` of a route.
pub(crate) fn rate<'a>(read: &mut Reader<'a>, route: &At<'a>, target: Option<&Target>) -> Option<Rate> {
    let at = route.key("rate");
    let rate = read.parsed(&at, |text| text.parse::<Rate>().map_err(|error| error.to_string()));
    if at.is_there()
        && let Some(target) = target.filter(|target| target.next_hop().is_none())
    {
        read.fault(&at, format!("nothing is sent with '{target}'; remove this"));
    }
    rate
}

/// What senders are told.
pub(crate) fn bounces<'a>(
    read: &mut Reader<'a>,
    top: &At<'a>,
    hostname: Option<&Domain>,
    relay: &RelayPolicy,
) -> Option<BounceSettings> {
    let day = Duration::from_hours(24);
    let warn = read.duration(&top.key("retry").key("warn"), Duration::ZERO..=100 * day).unwrap_or(WARN);
    let at = top.key("bounces");
    let double: DoubleBounce = read.parsed(&at.key("double"), str::parse).unwrap_or_default();
    let postmaster = read.parsed(&at.key("postmaster"), |text| {
        let mailbox: Option<Mailbox> = Mailbox::parse_stored(text).ok();
        mailbox
            .filter(|mailbox| mailbox.domain().is_some())
            .ok_or_else(|| format!("'{text}' is no address; write postmaster@example.test"))
    });
    // Who mails the postmaster of a switch in front of servers means the people behind it.
    let first = relay.domains.iter().find_map(|pattern| match pattern {
        DomainPattern::Exact(domain) => Some(domain),
        DomainPattern::Subdomains(_) => None,
    });
    let own = || Mailbox::parse_stored(&format!("postmaster@{}", first.or(hostname)?)).ok();
    let postmaster = postmaster.or_else(own)?;
    Some(BounceSettings { warn: (!warn.is_zero()).then_some(warn), double, postmaster })
}

/// `in_doubt` of a route.
pub(crate) fn in_doubt<'a>(read: &mut Reader<'a>, route: &At<'a>, target: Option<&Target>) -> InDoubt {
    let at = route.key("in_doubt");
    let policy = read.parsed(&at, |text| text.parse::<InDoubt>().map_err(|error| error.to_string()));
    if at.is_there()
        && let Some(target) = target.filter(|target| target.next_hop().is_none())
    {
        read.fault(&at, format!("nothing is sent with '{target}', so nothing is in doubt; remove this"));
    }
    policy.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{DoubleBounce, EightBit, Environment, Settings, Source, parse};

    fn parsed(more: &str, route: &str) -> Result<Settings, String> {
        let text = format!(
            "cluster: {{ id: c }}\nnode: {{ id: a, hostname: mx.example.test }}\nlisteners: [ {{ address: 127.0.0.1:25 }} ]\n\
             routes: [ {{ match: '*', {route} }} ]\n{more}\n"
        );
        let source = Source { path: "/etc/m.yaml".into(), text };
        parse(&[source], &Environment::default())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn what_is_not_written_is_what_a_postmaster_would_expect() {
        let settings = parsed("", "next_hop: h").unwrap();
        assert_eq!(settings.bounces.warn, Some(Duration::from_hours(4)));
        assert_eq!(settings.bounces.double, DoubleBounce::Discard);
        assert_eq!(settings.bounces.postmaster.to_string(), "postmaster@mx.example.test");
        assert_eq!((settings.delivery.eight_bit, settings.delivery.crash_hold), (EightBit::Bounce, 3));
        assert_eq!(settings.limits.concurrency.initial, 5);
        assert_eq!(settings.tables.postmaster.as_ref(), Some(&settings.bounces.postmaster));
        let settings = parsed("retry: { warn: 0s }", "next_hop: h, in_doubt: hold").unwrap();
        assert_eq!(settings.bounces.warn, None);
        let relay = "relay: { domains: [ .sub.test, a.test, b.test ] }";
        let postmaster = |more: &str| {
            parsed(&format!("{relay}\n{more}"), "next_hop: mx").unwrap().bounces.postmaster.to_string()
        };
        assert_eq!(postmaster(""), "postmaster@a.test");
        assert_eq!(postmaster("bounces: { postmaster: ann@b.test }"), "ann@b.test");
    }

    #[test]
    fn a_policy_that_is_none_is_told_with_those_there_are() {
        let told = parsed(
            "bounces: { double: drop, postmaster: chief }\n\
             delivery: { eight_bit: strip, owners: [ { queue: a, source: [192.0.2.1, 192.0.2.2] }, { queue: a } ] }",
            "next_hop: h, in_doubt: maybe, rate: 10/year",
        )
        .unwrap_err();
        for part in [
            "bounces.double: 'drop' is no policy; write discard, hold or postmaster",
            "bounces.postmaster: 'chief' is no address",
            "delivery.eight_bit: 'strip' is no policy",
            "routes[0].rate: '10/year' is no rate; write a number and a unit of time",
            "delivery.owners[0].source[1]: there is one of this kind already",
            "delivery.owners[1].queue: queue 'a' stands here twice",
            "routes[0].in_doubt: 'maybe' is no policy; write resend, hold or bounce",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let told = parsed("", "next_hop: discard, in_doubt: hold").unwrap_err();
        assert!(told.contains("nothing is in doubt; remove this"), "{told}");
    }
}
