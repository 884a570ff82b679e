//! How long the certificates hold that are shown to clients and next hops, and who can read their keys.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use daemon_kit::SystemClock;
use mail_model::Clock;
use routing::NextHop;
use settings::Settings;
use x509_parser::pem::Pem;

use super::finding::Findings;
use crate::lights::Light;

/// Who renews by hand needs some days; who does not should see that it does not work.
const SOON_DAYS: i64 = 14;

pub(super) fn look(settings: &Settings, findings: &mut Findings) {
    let of_listeners = settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let of_listeners = of_listeners.map(|files| (&files.cert, &files.key));
    let hops = settings.routes.iter().filter_map(|route| route.target.next_hop());
    let of_routes = hops.filter_map(NextHop::identity).map(|shown| (&shown.cert, &shown.key));
    let mut seen = Vec::new();
    for files in of_listeners.clone().chain(of_routes) {
        if seen.contains(&files) {
            continue;
        }
        seen.push(files);
        certificate(files.0, findings);
        key(files.1, findings);
    }
    if of_listeners.count() == 0 {
        findings.warn(
            "certificates",
            "no listener has one: mail comes in clear",
            "add tls: { cert: …, key: … } to the listeners, or let the balancer's network be the only way in",
        );
    }
}

fn certificate(path: &Path, findings: &mut Findings) {
    let check = "certificates";
    let shown = path.display();
    let end = match std::fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| ends(&bytes)) {
        Ok(end) => end,
        Err(why) => {
            findings.bad(
                check,
                format_args!("{shown}: {why}"),
                "let the service's user read a PEM certificate there",
            );
            return;
        }
    };
    let now = i64::try_from(SystemClock.wall().0 / 1000).unwrap_or(i64::MAX);
    let days = (end - now).div_euclid(86_400);
    let state = match days {
        days if days < 0 => Light::Red,
        days if days < SOON_DAYS => Light::Amber,
        _ => Light::Green,
    };
    findings.add(
        check,
        state,
        &format_args!("{shown}: {days} days left"),
        &"renew it, then: systemctl reload switch@NODE",
    );
}

/// When the first of the file ends, in seconds since 1970.
fn ends(bytes: &[u8]) -> Result<i64, String> {
    let pem = Pem::iter_from_buffer(bytes)
        .next()
        .ok_or("no PEM block in it")?
        .map_err(|error| error.to_string())?;
    let certificate = pem.parse_x509().map_err(|error| error.to_string())?;
    Ok(certificate.validity().not_after.timestamp())
}

fn key(path: &Path, findings: &mut Findings) {
    let check = "tls_key";
    let shown = path.display();
    match std::fs::metadata(path).map(|data| data.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o007 != 0 => {
            findings.bad(
                check,
                format_args!("{shown}: everybody can read it (mode {mode:o})"),
                format_args!("chmod 640 {shown}"),
            );
        }
        Ok(mode) => findings.ok(check, format_args!("{shown}, mode {mode:o}")),
        Err(error) => findings.bad(check, format_args!("{shown}: {error}"), "let the service's user read it"),
    }
}
