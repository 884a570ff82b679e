//! Who a client is, and how much it may do. Touches no world.
//!
//! | module | noun |
//! |---|---|
//! | [`proxy`] | the header by which a balancer tells whose connection it passes on |

pub mod proxy;
