//! What a service manager runs: the units, and what they may do.

mod units;
