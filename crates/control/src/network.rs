//! The same lines between nodes: over TCP, under TLS 1.3, to the address that `cluster.nodes[].control` names.
//!
//! Each side shows a raw public key (RFC 7250) that is made from the cluster's key and its node's name, and believes no
//! other. So whoever holds the cluster's key may ask every node, nobody else may ask anything, and no certificate expires.
//!
//! A heartbeatd answers there. The first line names the [`Program`](crate::Program) that is asked; the rest of the connection
//! is that program's own:
//!
//! ```text
//! -> {"version":1,"program":{"switch":"b"}}
//! -> {"version":1,"deadline_ms":5000,"request":"status"}
//! <- {"version":1,"answer":{"status":{…}}}
//! ```

mod keys;
mod node;
mod relay;

pub use keys::{KeyFault, Members, read_key};
pub use node::{Node, NodeError};
pub use relay::{RelayError, serve};
