//! A mail to people, handed to the first switch that takes it: the own, or one of those that survive.

use std::net::SocketAddr;
use std::time::Duration;

use mail_send::SmtpClient;
use mail_send::smtp::message::Message;
use settings::{AlertMailSettings, Settings};

use super::notice::Alert;

/// How long one switch may take for one reply.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// Whom to tell, and through whom.
#[derive(Debug)]
pub(crate) struct Mail {
    hostname: String,
    from: String,
    to: Vec<String>,
    through: Vec<SocketAddr>,
}

impl Mail {
    /// As the settings say: without a way of its own through this node's first listener.
    pub(crate) fn new(mail: &AlertMailSettings, settings: &Settings) -> Self {
        let hostname = settings.node.hostname.to_string();
        let own = || settings.listeners.first().map(|listener| reachable(listener.address));
        Self {
            from: mail.from.as_ref().map_or_else(|| format!("mailswitch@{hostname}"), ToString::to_string),
            to: mail.to.iter().map(ToString::to_string).collect(),
            through: if mail.through.is_empty() { own().into_iter().collect() } else { mail.through.clone() },
            hostname,
        }
    }

    /// Sends it through the first switch that takes it.
    pub(crate) async fn send(&self, alert: &Alert) -> Result<(), String> {
        let mut why = vec!["alerts.mail.through names no switch".to_owned()];
        for (index, switch) in self.through.iter().enumerate() {
            match self.send_through(*switch, alert).await {
                Ok(()) => return Ok(()),
                Err(error) if index == 0 => why = vec![format!("{switch}: {error}")],
                Err(error) => why.push(format!("{switch}: {error}")),
            }
        }
        Err(why.join("; "))
    }

    async fn send_through(&self, switch: SocketAddr, alert: &Alert) -> mail_send::Result<()> {
        let mut client = SmtpClient::connect(switch, REPLY_LIMIT).await?;
        let greeting = client.read().await?;
        if greeting.code != 220 {
            return Err(mail_send::Error::UnexpectedReply(greeting));
        }
        client.ehlo(&self.hostname).await?;
        let to = self.to.iter().map(String::as_str);
        client.send(Message::new(self.from.as_str(), to, self.content(alert).into_bytes())).await?;
        // It is taken; that it says goodbye is not waited for.
        Ok(())
    }

    fn content(&self, alert: &Alert) -> String {
        let stamp = i64::try_from(alert.at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let date = stamp
            .and_then(|stamp| jiff::fmt::rfc2822::to_string(&stamp.to_zoned(jiff::tz::TimeZone::UTC)).ok());
        // RFC 3834 5: nobody's auto-responder shall answer.
        let head = format!(
            "From: {}\r\nTo: {}\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <alert.{}.{}@{}>\r\nAuto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n",
            self.from,
            self.to.join(", "),
            alert.subject,
            date.unwrap_or_default(),
            alert.at.0,
            alert.name.replace(':', "."),
            self.hostname,
        );
        format!("{head}\r\n{}", alert.text.replace('\n', "\r\n"))
    }
}

/// A listener on every address of the machine is reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address {
        SocketAddr::V4(_) => std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    if address.ip().is_unspecified() { SocketAddr::new(loopback, address.port()) } else { address }
}
