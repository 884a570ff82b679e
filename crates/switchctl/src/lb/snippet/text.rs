//! What all snippets are made of: lines, addresses, and what is doubtful.

use std::fmt::{Arguments, Write as _};
use std::net::{IpAddr, SocketAddr};

use super::super::site::Site;

/// Where clients come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    /// The address of the balancer; every one of it if not said.
    pub(crate) address: Option<IpAddr>,
}

/// The first lines: what this is, and what is doubtful.
pub(super) fn head(site: &Site, what: &str) -> String {
    let mut text =
        format!("# mailswitch, cluster {}: {what}\n# Made by: switchctl lb snippet\n", site.cluster);
    for doubt in &site.doubts {
        line(&mut text, format_args!("# Mind: {doubt}"));
    }
    text
}

/// Adds a line.
pub(super) fn line(text: &mut String, what: Arguments<'_>) {
    // Writing to a string does not fail.
    writeln!(text, "{what}").ok();
}

/// `ADDRESS:PORT`, with brackets where IPv6 wants them.
pub(super) fn at(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}
