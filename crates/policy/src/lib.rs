//! Who a client is, and how much it may do. Touches no world.
//!
//! | module | noun |
//! |---|---|
//! | [`limits`] | how much one client, or one network of clients, may do |
//! | [`meter`] | what each of them did lately |
//! | [`proxy`] | the header by which a balancer tells whose connection it passes on |

pub mod limits;
pub mod meter;
pub mod proxy;
