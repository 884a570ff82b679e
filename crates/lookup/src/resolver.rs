//! What is asked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use hickory_resolver::caching_client::CachingClient;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, RetryDnsHandle};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig, TokioResolver};
use mail_model::Domain;
use routing::mx::{AddressOrder, Mx, MxAnswer};
use settings::DnsSettings;
use tokio::time::timeout;

use crate::servers::Servers;

/// Answers that are kept.
const CACHE_ANSWERS: u64 = 32_768;
/// No question waits longer, however many servers are asked how often.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody answers, or not with sense. It says nothing about the name: ask again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {why}")]
pub struct Unavailable {
    name: String,
    kind: RecordType,
    why: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// This.
    Data(T),
    /// Nothing: the name exists, without such a record.
    NoData,
    /// Nothing: the name does not exist.
    NoName,
}

impl<T> Found<T> {
    /// The data, if there is some.
    #[must_use]
    pub fn data(self) -> Option<T> {
        match self {
            Self::Data(data) => Some(data),
            Self::NoData | Self::NoName => None,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What it says.
    pub value: T,
    /// A validating server that is trusted vouches for it. Never true of the lack of something.
    pub secure: bool,
}

/// Which certificate a server shows. RFC 6698 2.1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// 0 to 3; 2 names a trust anchor, 3 the server's own certificate.
    pub usage: u8,
    /// 0: the whole certificate. 1: its public key.
    pub selector: u8,
    /// 0: the data itself. 1: SHA-256 of it. 2: SHA-512.
    pub matching: u8,
    /// What it is compared with.
    pub data: Vec<u8>,
}

type Client = CachingClient<RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>>;

/// Asks, and keeps the answers.
#[derive(Clone)]
pub struct Resolver {
    client: Client,
    hosts: Arc<Hosts>,
    search: Vec<Name>,
    options: DnsRequestOptions,
    trust_ad: bool,
    order: AddressOrder,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("trust_ad", &self.trust_ad).finish_non_exhaustive()
    }
}

impl Resolver {
    /// Reads the machine's configuration where the settings leave it to that. It asks on the runtime of its caller.
    pub fn new(settings: &DnsSettings) -> Result<Self, NoResolver> {
        let Servers { list, options, search } = Servers::of(settings);
        let attempts = options.attempts;
        let mut asked = DnsRequestOptions::default();
        asked.edns_payload_len = options.edns_payload_len;
        // RFC 6840 5.8: whether an answer is authentic is told to who asks for it.
        asked.edns_set_dnssec_ok = settings.trust_ad;
        let tls = TlsConfig { config: no_tls()? };
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(list, context, TokioRuntimeProvider::default());
        Ok(Self {
            client: CachingClient::new(CACHE_ANSWERS, RetryDnsHandle::new(pool, attempts), true),
            // A machine without such a file has no static hosts.
            hosts: Arc::new(Hosts::from_system().unwrap_or_default()),
            search,
            options: asked,
            trust_ad: settings.trust_ad,
            order: settings.addresses,
        })
    }

    /// The mail hosts of a domain.
    pub async fn mx(&self, domain: &Domain) -> Result<Answer<MxAnswer>, Unavailable> {
        let mx = |data: &RData| {
            let RData::MX(mx) = data else { return None };
            Some(Mx { preference: mx.preference, host: host(&mx.exchange)? })
        };
        let Answer { value, secure } = self.ask(domain.as_str(), RecordType::MX, mx).await?;
        let value = match value {
            Found::Data(records) => MxAnswer::Records(records),
            Found::NoData => MxAnswer::NoRecords,
            Found::NoName => MxAnswer::NoDomain,
        };
        Ok(Answer { value, secure })
    }

    /// The addresses of a name in DNS, of the families that are used, in no order. None is an answer too.
    pub async fn addresses(&self, name: &Domain) -> Result<Answer<Vec<IpAddr>>, Unavailable> {
        self.addresses_of(name.as_str()).await
    }

    /// The IPv4 addresses of a name, whatever families are used for hosts: answers of a list (RFC 5782 2.1). None is an answer too.
    pub async fn ipv4(&self, name: &Domain) -> Result<Vec<Ipv4Addr>, Unavailable> {
        let ipv4 = |data: &RData| {
            let RData::A(a) = data else { return None };
            Some(a.0)
        };
        let answer = self.ask(name.as_str(), RecordType::A, ipv4).await?;
        Ok(answer.value.data().unwrap_or_default())
    }

    /// The addresses of a host that a configuration names, in the order they are tried: from the machine's hosts file, or
    /// from DNS. A name without a dot is looked for in the machine's search list too.
    pub async fn host(&self, name: &Domain) -> Result<Vec<IpAddr>, Unavailable> {
        if let Some(addresses) = self.static_host(name.as_str()) {
            return Ok(self.order.arrange(&addresses));
        }
        let mut wanted = vec![name.to_string()];
        if !name.as_str().contains('.') {
            let searched = self.search.iter().map(|domain| format!("{name}.{}", domain.to_ascii()));
            wanted.splice(0..0, searched);
        }
        for name in wanted {
            let found = self.addresses_of(&name).await?.value;
            if !found.is_empty() {
                return Ok(self.order.arrange(&found));
            }
        }
        Ok(Vec::new())
    }

    /// The texts of a name, each put together from its pieces.
    pub async fn texts(&self, name: &str) -> Result<Answer<Found<Vec<String>>>, Unavailable> {
        let text = |data: &RData| {
            let RData::TXT(txt) = data else { return None };
            Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned())
        };
        self.ask(name, RecordType::TXT, text).await
    }

    /// What a name says about the certificates shown there.
    pub async fn tlsa(&self, name: &str) -> Result<Answer<Found<Vec<Tlsa>>>, Unavailable> {
        let tlsa = |data: &RData| {
            let RData::TLSA(tlsa) = data else { return None };
            Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            })
        };
        self.ask(name, RecordType::TLSA, tlsa).await
    }

    fn static_host(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_utf8(name).ok()?;
        let mut found = Vec::new();
        for kind in self.families() {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
            found.extend(
                lookup.iter().flat_map(|l| l.answers().iter().filter_map(|record| address(&record.data))),
            );
        }
        (!found.is_empty()).then_some(found)
    }

    fn families(&self) -> impl Iterator<Item = RecordType> {
        let ipv4 = self.order.takes_ipv4().then_some(RecordType::A);
        ipv4.into_iter().chain(self.order.takes_ipv6().then_some(RecordType::AAAA))
    }

    async fn addresses_of(&self, name: &str) -> Result<Answer<Vec<IpAddr>>, Unavailable> {
        let asked = self.families().map(|kind| self.ask(name, kind, address));
        let mut found = Vec::new();
        let mut secure = true;
        let mut unavailable = None;
        for answer in future::join_all(asked).await {
            match answer {
                Ok(Answer { value: Found::Data(addresses), secure: this }) => {
                    secure &= this;
                    found.extend(addresses);
                }
                Ok(Answer { value: Found::NoData | Found::NoName, .. }) => {}
                Err(error) => unavailable = Some(error),
            }
        }
        match unavailable {
            // Some servers know no answer to a question for IPv6: one address is enough.
            Some(error) if found.is_empty() => Err(error),
            Some(_) | None => Ok(Answer { secure: secure && !found.is_empty(), value: found }),
        }
    }

    async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<Found<Vec<T>>>, Unavailable> {
        let unavailable = |why: String| Unavailable { name: name.to_owned(), kind, why };
        let nothing = |value| Answer { value, secure: false };
        // What cannot be a name in DNS does not exist there.
        let Ok(mut asked) = Name::from_utf8(name) else { return Ok(nothing(Found::NoName)) };
        asked.set_fqdn(true);
        let lookup = timeout(PATIENCE, self.client.lookup(Query::query(asked, kind), self.options)).await;
        let lookup = lookup.map_err(|_| unavailable("no server answers in time".to_owned()))?;
        match lookup {
            Ok(lookup) => {
                let found: Vec<T> = lookup.answers().iter().filter_map(|record| read(&record.data)).collect();
                let secure = self.trust_ad && lookup.message().metadata.authentic_data;
                let value = if found.is_empty() { Found::NoData } else { Found::Data(found) };
                Ok(Answer { value, secure })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NoError =>
            {
                Ok(nothing(Found::NoData))
            }
            Err(error) if error.is_nx_domain() => Ok(nothing(Found::NoName)),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}

/// A resolver for a library that asks by itself: of the same servers, in the same way.
pub fn for_library(settings: &DnsSettings) -> Result<TokioResolver, NoResolver> {
    let Servers { list, options, .. } = Servers::of(settings);
    let config = ResolverConfig::from_parts(None, Vec::new(), list);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .with_tls_config(no_tls()?)
        .build()
        .map_err(|error| NoResolver(error.to_string()))
}

/// Servers are asked in clear. Their library wants to know whom to believe under TLS all the same; made by itself, that
/// would need certificates of authorities, which a small machine has not.
fn no_tls() -> Result<rustls::ClientConfig, NoResolver> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| NoResolver(error.to_string()))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// There is no way to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot ask DNS: {0}")]
pub struct NoResolver(String);

fn address(data: &RData) -> Option<IpAddr> {
    if let RData::A(a) = data {
        return Some(IpAddr::V4(a.0));
    }
    let RData::AAAA(aaaa) = data else { return None };
    Some(IpAddr::V6(aaaa.0))
}

/// `Some(None)` for the root; `None` for what is no name of a host.
#[expect(clippy::option_option, reason = "no record, a record for nobody, a record for a host")]
fn host(name: &Name) -> Option<Option<Domain>> {
    if name.is_root() {
        return Some(None);
    }
    Domain::new(name.to_ascii().trim_end_matches('.')).ok().map(Some)
}
