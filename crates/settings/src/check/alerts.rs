//! Who is told when something is wrong.

use std::time::Duration;

use mail_model::Mailbox;

use crate::model::{AlertMailSettings, AlertSettings, WebhookSettings};
use crate::reader::{At, Reader};

pub(super) fn alerts<'a>(read: &mut Reader<'a>, at: &At<'a>) -> AlertSettings {
    let hour = Duration::from_hours(1);
    let after = read.duration(&at.key("after"), Duration::ZERO..=hour);
    let repeat = read.duration(&at.key("repeat"), Duration::from_mins(1)..=hour * 24 * 30);
    AlertSettings {
        after: after.unwrap_or(Duration::from_secs(10)),
        repeat: repeat.unwrap_or(hour * 4),
        webhook: webhook(read, &at.key("webhook")),
        mail: mail(read, &at.key("mail")),
        command: at
            .key("command")
            .items()
            .iter()
            .filter_map(|word| Some(read.text(word)?.to_owned()))
            .collect(),
    }
}

fn webhook<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Option<WebhookSettings> {
    if !at.is_there() {
        return None;
    }
    let secret_file = read.path(&at.key("secret_file"));
    let remedy = "write where to post: https://alerts.example.test/mailswitch";
    let url = read.required(&at.key("url"), |read, at| read.parsed(at, url), remedy)?;
    Some(WebhookSettings { url, secret_file })
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let allowed = text.bytes().all(|b| b.is_ascii_graphic()) && !host.contains('@');
    if host.is_empty() || !allowed {
        return Err(format!(
            "'{text}' is not a URL to post to; write https://alerts.example.test/mailswitch"
        ));
    }
    Ok(text.to_owned())
}

fn mail<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Option<AlertMailSettings> {
    if !at.is_there() {
        return None;
    }
    let to = at.key("to");
    if to.has_no_items() {
        read.fault(&to, "missing; name who is told: [ postmaster@example.test ]");
    }
    Some(AlertMailSettings {
        to: to.items().iter().filter_map(|item| read.parsed(item, mailbox)).collect(),
        from: read.parsed(&at.key("from"), mailbox),
        through: at.key("through").items().iter().filter_map(|item| read.address(item)).collect(),
    })
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    let fault = || format!("'{text}' is not a mail address; write postmaster@example.test");
    let mailbox = Mailbox::parse_stored(text).map_err(|_| fault())?;
    if mailbox.domain().is_some() { Ok(mailbox) } else { Err(fault()) }
}
