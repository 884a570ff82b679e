//! What a service manager runs: the units, the resource agent, the Debian package, and both on nodes with a real systemd as PID 1.

mod hooks;
mod install_pair;
mod ocf;
mod package;
mod pair;
mod units;
