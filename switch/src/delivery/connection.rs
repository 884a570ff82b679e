//! A connection to a next hop whose greeting and EHLO are done.
//!
//! mail-send connects, reads the greeting and says EHLO. Commands, replies and content of a transaction are ours: its
//! own are made for one message with one answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use mail_model::{Domain, EnhancedStatus, Reply, ReplyClass};
use mail_send::SmtpClient;
use routing::{Host, HostPort};
use smtp::hello;
use smtp::limits::SendTimeouts;
use smtp::transaction::PeerExtensions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::ReplyReader;

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// After so many messages a connection is closed, so that load spreads anew and the first host gets its turn again.
const SERVED_MAX: u32 = 1_000;

/// It cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    input: BytesMut,
    replies: ReplyReader,
    /// What EHLO offered.
    pub(crate) extensions: PeerExtensions,
    /// The host, as it is configured.
    pub(crate) host: HostPort,
    /// Transactions that were done on it.
    pub(crate) served: u32,
    /// RSET must be said before the next transaction.
    pub(crate) needs_reset: bool,
}

impl Connection {
    /// Connects to `host` and says hello as `name`. The error is what recipients are told.
    pub(crate) async fn open(host: &HostPort, name: &Domain, timeouts: &SendTimeouts) -> Result<Self, Reply> {
        let mut failure = unreachable(host, "the name has no address");
        for address in resolve(host).await?.into_iter().take(ADDRESSES_MAX) {
            match Self::open_address(address, host, name, timeouts).await {
                Ok(connection) => return Ok(connection),
                Err(reply) => failure = reply,
            }
        }
        Err(failure)
    }

    async fn open_address(
        address: SocketAddr,
        host: &HostPort,
        name: &Domain,
        timeouts: &SendTimeouts,
    ) -> Result<Self, Reply> {
        let failed = |error: &mail_send::Error| refusal(host, error);
        let mut client = SmtpClient::connect(address, CONNECT_TIMEOUT).await.map_err(|e| failed(&e))?;
        client.stream.set_nodelay(true).map_err(|error| unreachable(host, &error.to_string()))?;
        // RFC 5321 4.5.3.2.1: 5 minutes for the greeting, as for MAIL.
        client.timeout = Duration::from_millis(timeouts.mail_ms);
        let greeting = timeout(client.timeout, client.read()).await;
        let greeting = greeting.map_err(|_| unreachable(host, "no greeting"))?.map_err(|e| failed(&e))?;
        if greeting.code != 220 {
            return Err(refusal(host, &mail_send::Error::UnexpectedReply(greeting)));
        }
        let extensions = match client.ehlo(name.as_str()).await {
            Ok(offered) => {
                let offers = |capability| offered.has_capability(capability);
                PeerExtensions {
                    pipelining: offers(smtp_proto::EXT_PIPELINING),
                    size: offers(smtp_proto::EXT_SIZE).then_some(offered.size as u64),
                    eight_bit_mime: offers(smtp_proto::EXT_8BIT_MIME),
                    smtputf8: offers(smtp_proto::EXT_SMTP_UTF8),
                    chunking: offers(smtp_proto::EXT_CHUNKING),
                    dsn: offers(smtp_proto::EXT_DSN),
                }
            }
            // RFC 5321 3.2: who does not know EHLO is told HELO.
            Err(mail_send::Error::UnexpectedReply(reply)) if (500..=599).contains(&reply.code) => {
                let helo = client.cmd(format!("HELO {name}\r\n")).await.map_err(|e| failed(&e))?;
                if helo.code != 250 {
                    return Err(refusal(host, &mail_send::Error::UnexpectedReply(helo)));
                }
                PeerExtensions::default()
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(Self {
            stream: client.stream,
            input: BytesMut::new(),
            replies: ReplyReader::default(),
            extensions,
            host: host.clone(),
            served: 0,
            needs_reset: false,
        })
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).await.map_err(|error| Broken(error.to_string()))
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Broken> {
        loop {
            match self.replies.read(&mut self.input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(fault) => return Err(Broken(fault.to_string())),
            }
            self.input.reserve(1_024);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(Broken("the next host closed the connection".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(Broken(error.to_string())),
            }
        }
    }

    /// Takes back a transaction that was begun.
    pub(crate) async fn reset(&mut self) -> Result<(), Broken> {
        self.write(hello::RSET).await?;
        let reply = self.reply().await?;
        if reply.class() != ReplyClass::Positive {
            return Err(Broken(format!("RSET was answered with {reply}")));
        }
        self.needs_reset = false;
        Ok(())
    }

    /// True if nothing was said or closed since the last reply.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let nothing = self.stream.try_read(&mut byte);
        self.input.is_empty() && nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// True if another transaction may be done on it.
    pub(crate) fn may_serve(&self) -> bool {
        self.served < SERVED_MAX
    }

    /// The host as reports name it: RFC 5321 4.1.3 puts an address into brackets.
    pub(crate) fn remote(&self) -> String {
        match &self.host.host {
            Host::Address(std::net::IpAddr::V4(address)) => format!("[{address}]"),
            Host::Address(std::net::IpAddr::V6(address)) => format!("[IPv6:{address}]"),
            Host::Name(name) => name.to_string(),
        }
    }

    /// Takes leave, without waiting for an answer. RFC 5321 4.1.1.10 wants a QUIT.
    pub(crate) fn close(self) {
        self.stream.try_write(hello::QUIT).ok();
    }
}

async fn resolve(host: &HostPort) -> Result<Vec<SocketAddr>, Reply> {
    let name = match &host.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, host.port)]),
        Host::Name(name) => name,
    };
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.as_str(), host.port))).await;
    match found {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(unreachable(host, &format!("the name cannot be resolved: {error}"))),
        Err(_) => Err(unreachable(host, "the name was not resolved in time")),
    }
}

/// No session came about, so nothing is final: the peer speaks for itself, not for a recipient.
fn refusal(host: &HostPort, error: &mail_send::Error) -> Reply {
    if let mail_send::Error::UnexpectedReply(reply) = error {
        let text = format!("{host} gives no service: {} {}", reply.code, reply.message);
        return Reply::local(451, EnhancedStatus::new(4, 4, 2), text);
    }
    unreachable(host, &error.to_string())
}

fn unreachable(host: &HostPort, why: &str) -> Reply {
    // RFC 3463 3.5: no answer from host.
    Reply::local(451, EnhancedStatus::new(4, 4, 1), format!("{host}: {why}"))
}
