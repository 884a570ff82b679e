//! Keys for DKIM signatures, and the records that publish their public halves.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;

/// Characters of a string in a record. RFC 1035 3.3.
const STRING_MAX: usize = 255;

/// Which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// 2048 bits: everybody can check it.
    Rsa,
    /// Short and fast; not everybody can check it yet, so use one beside RSA. RFC 8463.
    Ed25519,
}

/// Makes a private key in `file`, readable by its owner alone. A file that is there is left alone.
pub(crate) fn keygen(file: &Path, kind: Kind) -> Outcome {
    let der = match kind {
        Kind::Rsa => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(Failure::failed)?;
            let der: Pkcs8V1Der<'_> = key.as_der().map_err(Failure::failed)?;
            der.as_ref().to_vec()
        }
        Kind::Ed25519 => {
            let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(Failure::failed)?;
            der.as_ref().to_vec()
        }
    };
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut opened| opened.write_all(pem.as_bytes()).and_then(|()| opened.sync_all()));
    written.map_err(|error| {
        Failure::failed(format_args!(
            "{}: {error}; name a file that is not there, where you may write",
            file.display()
        ))
    })?;
    say(format_args!(
        "{}: made; name it below 'dkim' with its domain and selector, and publish what 'switchctl dkim record' shows",
        file.display()
    ))?;
    Ok(Exit::Ok)
}

/// Shows the record of every key that the configuration names.
pub(crate) fn record(context: &Context) -> Outcome {
    if context.settings.dkim.is_empty() {
        return Err(Failure::not_found(
            "the configuration names no key below 'dkim'; 'switchctl dkim keygen FILE' makes one",
        ));
    }
    for key in &context.settings.dkim {
        let text = std::fs::read_to_string(&key.file)
            .map_err(|error| Failure::failed(format_args!("{}: {error}", key.file.display())))?;
        let fault = || {
            Failure::failed(format_args!(
                "{}: no key of RSA or Ed25519 in PKCS #8 PEM ('-----BEGIN PRIVATE KEY-----')",
                key.file.display()
            ))
        };
        let value = published(&text).ok_or_else(fault)?;
        let strings: Vec<String> = value
            .as_bytes()
            .chunks(STRING_MAX)
            .map(|part| format!("\"{}\"", String::from_utf8_lossy(part)))
            .collect();
        say(format_args!("{}._domainkey.{}. IN TXT {}", key.selector, key.domain, strings.join(" ")))?;
    }
    Ok(Exit::Ok)
}

/// RFC 6376 3.6.1, RFC 8463 4.
fn published(pem: &str) -> Option<String> {
    let lines = pem.lines().map(str::trim).skip_while(|line| *line != "-----BEGIN PRIVATE KEY-----").skip(1);
    let text: String = lines.take_while(|line| !line.starts_with('-')).collect();
    let der = BASE64_STANDARD.decode(text).ok()?;
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
        return Some(format!("v=DKIM1; k=ed25519; p={}", BASE64_STANDARD.encode(key.public_key())));
    }
    let key = RsaKeyPair::from_pkcs8(&der).ok()?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().ok()?;
    Some(format!("v=DKIM1; k=rsa; p={}", BASE64_STANDARD.encode(public.as_ref())))
}
