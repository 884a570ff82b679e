//! A connection to a next hop whose greeting and EHLO are done, under TLS as the policy of its route wants it.
//!
//! mail-send connects, reads the greeting and says EHLO. Commands, replies and content of a transaction are ours: its
//! own are made for one message with one answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use control::switch::TraceWay;
use mail_model::{Domain, EnhancedStatus, Reply, ReplyClass};
use mail_send::SmtpClient;
use routing::{Credentials, Host, HostPort, Identity, NextHop, Protocol};
use rustls::pki_types::ServerName;
use smtp::hello;
use smtp::limits::SendTimeouts;
use smtp::sasl::Mechanism;
use smtp::transaction::PeerExtensions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

use super::wire::ReplyReader;
use super::{login, offer};
use crate::tls::{Demand, Stream, Tls, Trust};
use crate::tracers::{Subject, Tracers};

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Room for the writes of a transaction that a connection keeps.
const GATHERED_KEPT: usize = 16 << 10;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// It cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
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
    /// Where writes of a transaction are gathered; empty between two.
    pub(crate) gathered: BytesMut,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What recipients are told.
    pub(crate) reply: Reply,
    /// TLS was offered and did not work: in clear it might.
    pub(crate) of_tls: bool,
}

impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        Self { reply, of_tls: false }
    }
}

/// How a host is to be spoken to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Approach<'a> {
    /// Our name.
    pub(crate) name: &'a Domain,
    pub(crate) timeouts: &'a SendTimeouts,
    pub(crate) protocol: Protocol,
    /// TLS is spoken from the first byte.
    pub(crate) wrapped: bool,
    pub(crate) demand: &'a Demand,
    /// Whom mail is given to it as.
    pub(crate) credentials: Option<&'a Credentials>,
    /// What it is shown under TLS if it asks for it.
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) tls: &'a Tls,
    /// Who watches.
    pub(crate) tracers: &'a Tracers,
    /// The next hop, as it is shown.
    pub(crate) hop: &'a str,
    /// How long a TLS handshake may take.
    pub(crate) handshake: Duration,
    /// It gets 8-bit content whatever it offers.
    pub(crate) takes_eight_bit: bool,
    /// Where the connection comes from, if that is not the system's choice.
    pub(crate) source: &'a [IpAddr],
}

type Client = SmtpClient<Stream>;

impl Approach<'_> {
    /// Connects to `host` at the first of its addresses that answers, says hello, and speaks TLS as the policy wants it.
    pub(crate) async fn open(self, host: &HostPort, addresses: &[IpAddr]) -> Result<Connection, Failure> {
        if let Host::Socket(path) = &host.host {
            let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
            let connected = connected.map_err(|_| unreachable(host, "nobody accepts in time"))?;
            let stream = Stream::local(connected.map_err(|error| unreachable(host, &error.to_string()))?);
            return self.begin(stream, None, host).await;
        }
        let mut failure = Failure::from(unreachable(host, "the name has no address"));
        for address in addresses.iter().take(ADDRESSES_MAX) {
            let address = SocketAddr::new(*address, host.port);
            match self.open_address(address, host).await {
                Ok(connection) => return Ok(connection),
                Err(Failure { reply, of_tls }) => {
                    failure = Failure { reply, of_tls: failure.of_tls || of_tls };
                }
            }
        }
        Err(failure)
    }

    async fn open_address(self, address: SocketAddr, host: &HostPort) -> Result<Connection, Failure> {
        let failed = |error: io::Error| unreachable(host, &error.to_string());
        let connected = timeout(CONNECT_TIMEOUT, self.connect(address)).await;
        let stream = connected.map_err(|_| unreachable(host, "nobody accepts in time"))?.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        self.begin(Stream::plain(stream), Some(address), host).await
    }

    /// From the queue's own address, if it has one and this machine has it now.
    async fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let source = self.source.iter().find(|source| source.is_ipv4() == address.is_ipv4());
        if let Some(source) = source {
            match socket.bind(SocketAddr::new(*source, 0)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    tracing::warn!(event = "delivery.source_absent", %source, to = %address);
                }
                Err(error) => return Err(error),
            }
        }
        socket.connect(address).await
    }

    /// Greeting, hello and TLS on an open connection. `address` is `None` for a server on this machine.
    async fn begin(
        self,
        mut stream: Stream,
        address: Option<SocketAddr>,
        host: &HostPort,
    ) -> Result<Connection, Failure> {
        let failed = |error: &mail_send::Error| refusal(host, error);
        // RFC 5321 4.5.3.2.1: 5 minutes for the greeting, as for MAIL.
        let patience = Duration::from_millis(self.timeouts.mail_ms);
        let ip = address.map(|address| address.ip());
        stream.listen_with(|| self.tracers.tap(TraceWay::Out, || subject(host, ip, self.hop)));
        let mut client = Client { stream, timeout: patience };
        let wrapped = if self.wrapped { self.demand.trust(true).zip(address) } else { None };
        if let Some((trust, address)) = wrapped {
            let shaken = self.shake_hands(&mut client, host, address, trust).await;
            shaken.map_err(|why| tls_failed(host, &why))?;
        }
        let greeting = timeout(patience, client.read()).await;
        let greeting = greeting.map_err(|_| unreachable(host, "no greeting"))?.map_err(|e| failed(&e))?;
        if greeting.code != 220 {
            return Err(refusal(host, &mail_send::Error::UnexpectedReply(greeting)).into());
        }
        // What never leaves this machine, and what came under TLS from whom it should, is believed.
        let is_verified = wrapped.map_or(address.is_none(), |(trust, _)| !matches!(trust, Trust::Anybody));
        let (mut extensions, offers_tls, mut mechanisms) =
            self.hello(&mut client, is_verified).await.map_err(|e| failed(&e))?;
        let trust = if wrapped.is_some() { None } else { self.demand.trust(offers_tls) };
        if let Some((trust, address)) = trust.zip(address) {
            if !offers_tls {
                // RFC 3463 3.8: security features not supported.
                let text = format!("{host}: it offers no TLS, which its route asks for");
                return Err(Reply::local(451, EnhancedStatus::new(4, 7, 4), text).into());
            }
            let secured = self.secure(&mut client, host, address, trust).await;
            secured.map_err(|why| tls_failed(host, &why))?;
            // RFC 3207 4.2: what was offered in clear may be anybody's, so it is asked again.
            let is_verified = !matches!(trust, Trust::Anybody);
            (extensions, _, mechanisms) = self.hello(&mut client, is_verified).await.map_err(|error| {
                // A peer that does not like our side of the handshake says so only now.
                let of_tls = !matches!(error, mail_send::Error::UnexpectedReply(_));
                if of_tls { tls_failed(host, &error.to_string()) } else { failed(&error).into() }
            })?;
        }
        if let Some(credentials) = self.credentials {
            login::log_in(&mut client, host, credentials, &mechanisms).await?;
        }
        Ok(Connection {
            stream: client.stream,
            input: BytesMut::new(),
            replies: ReplyReader::default(),
            extensions,
            host: host.clone(),
            served: 0,
            needs_reset: false,
            gathered: BytesMut::new(),
        })
    }

    /// What the peer offers, whether STARTTLS is among it, and by what it authenticates.
    async fn hello(
        self,
        client: &mut Client,
        is_verified: bool,
    ) -> Result<(PeerExtensions, bool, Vec<Mechanism>), mail_send::Error> {
        match offer::ask(client, self.protocol, self.name).await {
            Ok((offered, once)) => {
                let offers = |capability| offered.has_capability(capability);
                let extensions = PeerExtensions {
                    pipelining: offers(smtp_proto::EXT_PIPELINING),
                    size: offers(smtp_proto::EXT_SIZE).then_some(offered.size as u64),
                    eight_bit_mime: offers(smtp_proto::EXT_8BIT_MIME),
                    smtputf8: offers(smtp_proto::EXT_SMTP_UTF8),
                    chunking: offers(smtp_proto::EXT_CHUNKING),
                    dsn: offers(smtp_proto::EXT_DSN),
                    // What is said in clear is not believed.
                    require_tls: is_verified && offers(smtp_proto::EXT_REQUIRE_TLS),
                    once,
                    takes_eight_bit: self.takes_eight_bit,
                    lmtp: self.protocol == Protocol::Lmtp,
                };
                Ok((extensions, offers(smtp_proto::EXT_START_TLS), login::offered(offered.auth_mechanisms)))
            }
            // RFC 5321 3.2: who does not know EHLO is told HELO.
            Err(mail_send::Error::UnexpectedReply(reply))
                if (500..=599).contains(&reply.code) && self.protocol == Protocol::Smtp =>
            {
                let helo = client.cmd(format!("HELO {}\r\n", self.name)).await?;
                if helo.code == 250 {
                    Ok((PeerExtensions::default(), false, Vec::new()))
                } else {
                    Err(mail_send::Error::UnexpectedReply(helo))
                }
            }
            Err(error) => Err(error),
        }
    }

    /// RFC 3207 4. The error says why there is no TLS.
    async fn secure(
        self,
        client: &mut Client,
        host: &HostPort,
        address: SocketAddr,
        trust: Trust<'_>,
    ) -> Result<(), String> {
        // What a peer sends behind its reply in clear is dropped here, and its handshake fails.
        let reply = client.cmd("STARTTLS\r\n").await.map_err(|error| error.to_string())?;
        if reply.code != 220 {
            return Err(format!("STARTTLS was answered with {} {}", reply.code, reply.message));
        }
        self.shake_hands(client, host, address, trust).await
    }

    /// The error says why there is no TLS.
    async fn shake_hands(
        self,
        client: &mut Client,
        host: &HostPort,
        address: SocketAddr,
        trust: Trust<'_>,
    ) -> Result<(), String> {
        let config = self.tls.outward().config(trust, self.identity);
        let config = config.ok_or("the roots or the certificate of its route are not loaded")?;
        let name = match (&host.host, trust) {
            (Host::Address(address), _) => ServerName::from(*address),
            (Host::Name(name), trust) => match (ServerName::try_from(name.to_string()), trust) {
                (Ok(name), _) => name,
                (Err(_), Trust::Anybody) => ServerName::from(address.ip()),
                (Err(_), Trust::Roots(_) | Trust::Named(..)) => {
                    return Err("no certificate can bear its name".to_owned());
                }
            },
            (Host::Socket(_), _) => return Err("no TLS is spoken on this machine".to_owned()),
        };
        match timeout(self.handshake, client.stream.connect_tls(config, name)).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("the handshake took too long".to_owned()),
        }
    }
}

impl Connection {
    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let broken = |error: std::io::Error| Broken(error.to_string());
        self.stream.write_all(bytes).await.map_err(broken)?;
        // TLS may hold back what it was given.
        self.stream.flush().await.map_err(broken)
    }

    /// Forgets what was gathered and not written. A large buffer is for a message, not for a connection that waits.
    pub(crate) fn begin_gathering(&mut self) {
        self.gathered.clear();
        if self.gathered.capacity() > GATHERED_KEPT {
            self.gathered = BytesMut::new();
        }
    }

    /// Writes what was gathered.
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        let gathered = std::mem::take(&mut self.gathered);
        let written = self.write(&gathered).await;
        self.gathered = gathered;
        self.gathered.clear();
        written
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

    /// True if nothing came with the last reply that was not asked for.
    pub(crate) fn is_settled(&self) -> bool {
        self.input.is_empty()
    }

    /// True if nothing was said or closed since the last reply.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let nothing = self.stream.read_now(&mut byte);
        self.input.is_empty() && nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Lets an operator watch who wants to, from here on: between two messages.
    pub(crate) fn let_watch(&mut self, tracers: &Tracers, hop: &NextHop) {
        if tracers.is_idle() {
            return;
        }
        let address = self.stream.socket().ok().and_then(|socket| socket.peer_addr().ok());
        let host = &self.host;
        let subject = || subject(host, address.map(|address| address.ip()), &hop.to_string());
        self.stream.listen_with(|| tracers.tap(TraceWay::Out, subject));
    }

    /// True under TLS.
    pub(crate) fn is_secured(&self) -> bool {
        self.stream.is_tls()
    }

    /// True if another transaction may be done on it, of `max` in all: load is to spread anew now and then, and the first host
    /// to get its turn again.
    pub(crate) fn may_serve(&self, max: u32) -> bool {
        self.served < max
    }

    /// The host as reports name it: RFC 5321 4.1.3 puts an address into brackets.
    pub(crate) fn remote(&self) -> String {
        match &self.host.host {
            Host::Address(IpAddr::V4(address)) => format!("[{address}]"),
            Host::Address(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
            Host::Name(name) => name.to_string(),
            // RFC 3464 2.3.5 wants a name: it is this machine.
            Host::Socket(_) => "localhost".to_owned(),
        }
    }

    /// Takes leave, without waiting for an answer. RFC 5321 4.1.1.10 wants a QUIT.
    pub(crate) fn close(self) {
        self.stream.close_now(hello::QUIT);
    }
}

/// How a next hop is called where dialogues are watched.
fn subject(host: &HostPort, address: Option<IpAddr>, hop: &str) -> Subject {
    Subject { address, names: vec![host.to_string(), hop.to_owned()] }
}

/// No session came about, so nothing is final: the peer speaks for itself, not for a recipient.
fn refusal(host: &HostPort, error: &mail_send::Error) -> Reply {
    if let mail_send::Error::UnexpectedReply(reply) = error {
        let text = format!("{host} gives no service: {} {}", reply.code, reply.message);
        return Reply::local(451, EnhancedStatus::new(4, 4, 2), text);
    }
    unreachable(host, &error.to_string())
}

fn tls_failed(host: &HostPort, why: &str) -> Failure {
    // RFC 3463 3.8: cryptographic failure.
    let reply = Reply::local(451, EnhancedStatus::new(4, 7, 5), format!("{host}: no TLS with it: {why}"));
    Failure { reply, of_tls: true }
}

pub(super) fn unreachable(host: &HostPort, why: &str) -> Reply {
    // RFC 3463 3.5: no answer from host.
    Reply::local(451, EnhancedStatus::new(4, 4, 1), format!("{host}: {why}"))
}

#[cfg(test)]
impl Connection {
    /// One that leads nowhere.
    pub(crate) fn nowhere() -> Self {
        Self {
            stream: Stream::nowhere(),
            input: BytesMut::new(),
            replies: ReplyReader::default(),
            extensions: PeerExtensions::default(),
            host: HostPort { host: Host::Address(IpAddr::from([192, 0, 2, 1])), port: 25 },
            served: 1,
            needs_reset: false,
            gathered: BytesMut::new(),
        }
    }
}
