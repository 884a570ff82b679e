//! Numbered points at which a test may end the process, to see that recovery finds nothing amiss.
//!
//! Without the feature `fail-points` they are nothing. With it, `FAILPOINTS="commit::synced=3*off->panic"` in the
//! environment ends the process the fourth time that point is met (a panic aborts).

/// Every point, in the order a message meets them.
pub const CRASH_POINTS: &[&str] = &[
    "claim::linked",
    "fence::written",
    "seal::segment-created",
    "seal::written",
    "seal::committed",
    "commit::written",
    "commit::synced",
    "commit::durable",
    "rotate::created",
    "rotate::named",
    "rotate::announced",
    "digest::written",
    "rotate::done",
    "carry::committed",
    "retire::remembered",
    "retire::committed",
    "retire::unlinked",
    "clean::committed",
];

/// One of [`CRASH_POINTS`].
#[inline]
pub(crate) fn crash_point(name: &'static str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not listed");
    #[cfg(feature = "fail-points")]
    fail::eval(name, |_| ());
    #[cfg(not(feature = "fail-points"))]
    let _ = name;
}
