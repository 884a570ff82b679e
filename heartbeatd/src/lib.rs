//! The cluster program: watches the peers, takes over their queues, hands them back.
