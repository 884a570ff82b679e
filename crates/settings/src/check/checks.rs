//! `checks`.

use mail_model::Domain;

use super::name::host_name;
use super::networks::networks;
use crate::checks::{BlockList, CheckSettings, HeloCheck};
use crate::reader::{At, Reader};

pub(super) fn checks<'a>(read: &mut Reader<'a>, at: &At<'a>) -> CheckSettings {
    let helo = read.parsed(&at.key("helo"), |text| match text {
        "off" => Ok(HeloCheck::Off),
        "full" => Ok(HeloCheck::Full),
        "exists" => Ok(HeloCheck::Exists),
        other => Err(format!("'{other}' is none of them; write off, full or exists")),
    });
    let mut block_lists: Vec<BlockList> = Vec::new();
    for item in at.key("block_lists").items() {
        let zone = |read: &mut Reader<'a>, at: &At<'a>| read.parsed(at, zone);
        let zone = read.required(&item.key("zone"), zone, "write where the list is: zen.spamhaus.org");
        let replies = networks(read, &item.key("replies"));
        let Some(zone) = zone else { continue };
        if block_lists.iter().any(|list| list.zone == zone) {
            read.fault(&item.key("zone"), format!("{zone} is asked already; remove one of the two"));
        }
        block_lists.push(BlockList { zone, replies });
    }
    CheckSettings {
        helo: helo.unwrap_or_default(),
        sender_domain: read.flag(&at.key("sender_domain")).unwrap_or(false),
        block_lists,
    }
}

fn zone(text: &str) -> Result<Domain, String> {
    host_name(text)
        .ok_or_else(|| format!("'{text}' is no name in DNS; write the list's zone: zen.spamhaus.org"))
}
