//! Leases that cannot be read: of a newer version, or torn by a loss of power.

use crate::common::Site;

#[tokio::test]
async fn a_queue_in_a_format_that_is_not_known_is_told_while_its_owner_lives() {
    let site = Site::of(&["a", "b"], "1s");
    let mut others = site.lease("a", 1, "a");
    let _own = site.lease("b", 1, "b");
    let (a, b) = (site.start("a"), site.start("b"));
    b.until("is protected", |status| status.protection == "full").await;
    others.write_format(2);
    let status = b.until("tells of it", |status| !status.unfit.is_empty()).await;
    let told = "the lease of queue a cannot be read here: ";
    let remedy = "bring this node to the version of the owner";
    for text in [&status.protection, status.unfit.first().unwrap()] {
        assert!(text.contains(told) && text.contains("format 2") && text.contains(remedy), "{text}");
    }
    others.write_format(1);
    b.until("is well again", |status| status.protection == "full" && status.unfit.is_empty()).await;
    drop(a);
}

#[tokio::test]
async fn a_dead_owner_whose_last_renewal_is_torn_is_taken_like_any_other() {
    let site = Site::of(&["a", "b"], "1s");
    let mut lease = site.lease("a", 1, "a");
    let _own = site.lease("b", 1, "b");
    let b = site.start("b");
    b.until_state("a", "HEALTHY").await;
    lease.tear();
    b.until_recorded("a", "take", "stale_window").await;
}
