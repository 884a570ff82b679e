//! Whether mail is from whom it says: what is done about it, and with what our own is signed.

use mail_model::Domain;

use super::name::host_name;
use crate::model::{Authentication, DkimKey};
use crate::reader::{At, Reader};

/// `listeners[].authentication`.
pub(super) fn mode<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Authentication {
    let mode = read.parsed(at, |text| match text {
        "off" => Ok(Authentication::Off),
        "mark" => Ok(Authentication::Mark),
        "refuse" => Ok(Authentication::Refuse),
        "enforce" => Ok(Authentication::Enforce),
        other => Err(format!("'{other}' is no mode of authentication; write off, mark, refuse or enforce")),
    });
    mode.unwrap_or_default()
}

/// `dkim`.
pub(super) fn keys<'a>(read: &mut Reader<'a>, at: &At<'a>) -> Vec<DkimKey> {
    let mut keys: Vec<DkimKey> = Vec::new();
    for item in at.items() {
        let name = |read: &mut Reader<'a>, at: &At<'a>| read.parsed(at, dotted);
        let domain = read.required(&item.key("domain"), name, "write whose mail it signs: example.test");
        let selector =
            read.required(&item.key("selector"), name, "write under which name its public half is found");
        let file = read.required(&item.key("key"), Reader::path, "name the private key's file (PEM)");
        let (Some(domain), Some(selector), Some(file)) = (domain, selector, file) else { continue };
        let selector = selector.to_string();
        if keys.iter().any(|key| key.domain == domain && key.selector == selector) {
            read.fault(
                &item.key("selector"),
                format!("{domain} has this selector already; give each key its own"),
            );
        }
        keys.push(DkimKey { domain, selector, file });
    }
    keys
}

fn dotted(text: &str) -> Result<Domain, String> {
    host_name(text).ok_or_else(|| format!("'{text}' is no name in DNS; write letters, digits, '-' and '.'"))
}
