//! Authentication toward a next hop (RFC 4954): as whom, by which mechanism, and never in clear unless its route says so.
//!
//! Whatever goes wrong here is put right by an operator or by time, and is no fault of a message: mail waits.

use std::io;

use accounts::ScramClient;
use mail_model::{EnhancedStatus, Reply};
use mail_send::SmtpClient;
use routing::{Credentials, HostPort, Secret};
use smtp::sasl::{self, Mechanism};

use crate::tls::Stream;

/// The mechanisms that an EHLO reply names.
pub(super) fn offered(mask: u64) -> Vec<Mechanism> {
    let bit = |mechanism| match mechanism {
        Mechanism::ScramSha256 => smtp_proto::AUTH_SCRAM_SHA_256,
        Mechanism::Plain => smtp_proto::AUTH_PLAIN,
        Mechanism::Login => smtp_proto::AUTH_LOGIN,
    };
    Mechanism::ALL.into_iter().filter(|mechanism| mask & bit(*mechanism) != 0).collect()
}

/// Reads a secret. Blocks on the disk.
fn read(secret: &Secret) -> io::Result<String> {
    match secret {
        Secret::Written(text) => Ok(text.to_string()),
        Secret::File(file) => {
            let text = std::fs::read_to_string(file)?;
            let line = text.lines().next().unwrap_or_default();
            if line.is_empty() {
                return Err(io::Error::other("its first line is empty"));
            }
            Ok(line.to_owned())
        }
        Secret::Environment(name) => std::env::var(&**name).map_err(io::Error::other),
    }
}

/// Shows `credentials` to `host`. The error is what recipients are told.
pub(super) async fn log_in(
    client: &mut SmtpClient<Stream>,
    host: &HostPort,
    credentials: &Credentials,
    offered: &[Mechanism],
) -> Result<(), Reply> {
    if !client.stream.is_tls() && !credentials.in_clear {
        // RFC 3463 3.8, RFC 4954 6: encryption is needed.
        return Err(wait(host, 11, "there is no TLS with it, and a password is not sent in clear"));
    }
    let wanted = credentials.mechanism.as_deref().and_then(Mechanism::named);
    let mechanism = match wanted {
        Some(wanted) => Some(wanted).filter(|wanted| offered.contains(wanted)),
        None => Mechanism::ALL.into_iter().find(|known| offered.contains(known)),
    };
    let Some(mechanism) = mechanism else {
        return Err(wait(host, 4, "it offers no mechanism to authenticate that may be used"));
    };
    let secret = credentials.password.clone();
    let password = tokio::task::spawn_blocking(move || read(&secret)).await;
    let password = match password.map_err(io::Error::other).and_then(|read| read) {
        Ok(password) => password,
        Err(error) => {
            tracing::error!(event = "login.no_password", %host, password = %credentials.password, %error);
            return Err(wait(host, 0, "the password for it cannot be read"));
        }
    };
    let outcome = match mechanism {
        Mechanism::Plain => plain(client, &credentials.user, &password).await,
        Mechanism::Login => login(client, &credentials.user, &password).await,
        Mechanism::ScramSha256 => scram(client, &credentials.user, &password).await,
    };
    outcome.map_err(|why| {
        tracing::warn!(event = "login.refused", %host, user = %credentials.user, mechanism = mechanism.name(), %why);
        // RFC 4954 6: authentication credentials invalid.
        wait(host, 8, &format!("it did not authenticate us: {why}"))
    })
}

fn wait(host: &HostPort, detail: u16, why: &str) -> Reply {
    Reply::local(451, EnhancedStatus::new(4, 7, detail), format!("{host}: {why}"))
}

/// Sends a line; the code and text of the reply.
async fn say(client: &mut SmtpClient<Stream>, line: &str) -> Result<(u16, String), String> {
    let reply = client.cmd(format!("{line}\r\n")).await.map_err(|error| error.to_string())?;
    Ok((reply.code, reply.message))
}

fn done((code, text): (u16, String)) -> Result<(), String> {
    if code == 235 { Ok(()) } else { Err(format!("{code} {text}")) }
}

async fn plain(client: &mut SmtpClient<Stream>, user: &str, password: &str) -> Result<(), String> {
    let message = sasl::encode(format!("\0{user}\0{password}").as_bytes());
    done(say(client, &format!("AUTH PLAIN {message}")).await?)
}

async fn login(client: &mut SmtpClient<Stream>, user: &str, password: &str) -> Result<(), String> {
    let mut reply = say(client, "AUTH LOGIN").await?;
    for answer in [user, password] {
        if reply.0 != 334 {
            return done(reply);
        }
        reply = say(client, &sasl::encode(answer.as_bytes())).await?;
    }
    done(reply)
}

async fn scram(client: &mut SmtpClient<Stream>, user: &str, password: &str) -> Result<(), String> {
    let mut mechanism = ScramClient::new(user, password).ok_or("this user's name cannot be sent")?;
    let (first, mut proved) = mechanism.step(None)?;
    let mut reply = say(client, &format!("AUTH SCRAM-SHA-256 {}", sasl::encode(&first))).await?;
    while reply.0 == 334 && !proved {
        let challenge = sasl::decode(reply.1.trim().as_bytes()).ok_or("a challenge is no base64")?;
        // A password is slow to hash on purpose.
        let stepped = tokio::task::spawn_blocking(move || {
            let answer = mechanism.step(Some(&challenge));
            (mechanism, answer)
        });
        let (stepped, answer) = stepped.await.map_err(|error| error.to_string())?;
        mechanism = stepped;
        let (message, now_proved) = answer?;
        proved = now_proved;
        reply = say(client, &sasl::encode(&message)).await?;
    }
    if reply.0 == 235 && !proved {
        return Err("it did not prove that it knows the password".to_owned());
    }
    done(reply)
}
