//! `filters`.

use std::time::Duration;

use crate::filter::{FilterAddress, FilterClients, FilterKind, FilterSettings, OnError};
use crate::model::ListenerSettings;
use crate::reader::{At, Reader};

const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(110);
const SIZE_MAX: u64 = 25 << 20;

pub(super) fn filters<'a>(
    read: &mut Reader<'a>,
    at: &At<'a>,
    known: &[ListenerSettings],
) -> Vec<FilterSettings> {
    let mut filters: Vec<FilterSettings> = Vec::new();
    for item in at.items() {
        let kind = |read: &mut Reader<'a>, at: &At<'a>| read.parsed(at, str::parse::<FilterKind>);
        let address = |read: &mut Reader<'a>, at: &At<'a>| read.parsed(at, str::parse::<FilterAddress>);
        let kind = read.required(&item.key("kind"), kind, "write rspamd, clamd or milter");
        let address =
            read.required(&item.key("address"), address, "write where it is: 127.0.0.1:11333 or unix:/path");
        let listeners = item.key("listeners");
        let mut chosen = Vec::new();
        for listener in listeners.items() {
            let Some(address) = read.address(&listener) else { continue };
            if !known.iter().any(|known| known.address == address) {
                let what = format!("no listener has the address {address}; write one of listeners[].address");
                read.fault(&listener, what);
            }
            chosen.push(address);
        }
        let on_error = read.parsed(&item.key("on_error"), |text| match text {
            "accept" => Ok(OnError::Accept),
            "defer" => Ok(OnError::Defer),
            other => Err(format!("'{other}' is neither; write accept or defer")),
        });
        let clients = read.parsed(&item.key("clients"), |text| match text {
            "all" => Ok(FilterClients::All),
            "strangers" => Ok(FilterClients::Strangers),
            "trusted" => Ok(FilterClients::Trusted),
            other => Err(format!("'{other}' is none of them; write all, strangers or trusted")),
        });
        let timeout = read.duration(&item.key("timeout"), TIMEOUTS).unwrap_or(TIMEOUT);
        let size_max = read.size(&item.key("size_max"), 1 << 10..=1 << 30, "1KiB", "1GiB");
        let name = read.text(&item.key("name")).map(str::to_owned);
        let (Some(kind), Some(address)) = (kind, address) else { continue };
        filters.push(FilterSettings {
            name: name.unwrap_or_else(|| kind.as_str().to_owned()),
            kind,
            address,
            timeout,
            on_error: on_error.unwrap_or_default(),
            listeners: chosen,
            clients: clients.unwrap_or_default(),
            size_max: size_max.unwrap_or(SIZE_MAX),
        });
    }
    filters
}
