//! What a service manager runs: the units, the Debian package, and both on nodes with a real systemd as PID 1.

mod lab;
mod package;
mod pair;
mod units;
