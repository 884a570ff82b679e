//! Mail given to a next hop as one of its users. The next hop is another switch.

use accounts::{User, Verifiers, edit};

use crate::certificates;
use crate::site::{Config, Running, Site, begin, say, until};

/// A next hop that takes mail of `alice` only.
async fn next_hop(auth: &str) -> (Site, Running) {
    let listener = "kind: submission\n    tls: { cert: mx.pem, key: mx.key }";
    let site = Site::new(&Config { trusted: "192.0.2.0/24", listener, ..Config::default() });
    certificates::write(site.path(), "mx", "mx.example.test");
    let folder = site.path().join("conf.d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("auth.yaml"), format!("auth: {{ users: ../users, {auth} }}\n")).unwrap();
    let verifiers = Verifiers::of("secret", true).unwrap();
    let user = User { name: "alice".into(), verifiers, senders: vec!["*".parse().unwrap()] };
    edit(&site.path().join("users"), |users| {
        users.put(user);
        Ok(())
    })
    .unwrap();
    let running = site.start_ready().await;
    (site, running)
}

/// A switch whose mail goes there, with a message in its queue.
async fn sender(next: &Site, route: &'static str) -> (Site, Running) {
    let site = Site::new(&Config { next_hop: Some(next.smtp), route, ..Config::default() });
    std::fs::write(site.path().join("next.pw"), "secret\n").unwrap();
    let running = site.start_ready().await;
    let mut client = site.client().await;
    begin(&mut client).await;
    client.send("Subject: hi\r\n\r\nhello\r\n").await.unwrap();
    assert_eq!(say(&mut client, ".").await.code, 250);
    (site, running)
}

#[tokio::test]
async fn mail_is_given_to_a_next_hop_as_its_user_by_every_mechanism() {
    for (offer, route, mechanism) in [
        ("", "tls: encrypt\n    auth: { user: alice, password: '${file:next.pw}' }", "SCRAM-SHA-256"),
        ("mechanisms: [plain]", "auth: { user: alice, password: secret }", "PLAIN"),
        ("", "tls: encrypt\n    auth: { user: alice, password: secret, mechanism: login }", "LOGIN"),
    ] {
        let (next, taken) = next_hop(offer).await;
        let (site, switch) = sender(&next, route).await;
        until("the mail is there", || taken.log().contains("message.accepted")).await;
        let told = format!("auth.accepted client=127.0.0.1 user=alice mechanism={mechanism}");
        assert!(taken.log().contains(&told), "{told}: {}", taken.log());
        until("the mail is gone", || site.inspect().replay.books.is_empty()).await;
        assert!(!switch.log().contains("secret"), "{}", switch.log());
    }
}

#[tokio::test]
async fn without_tls_or_with_a_wrong_password_mail_waits_and_no_password_is_sent_in_clear() {
    for (route, told) in [
        ("tls: none\n    auth: { user: alice, password: secret }", "a password is not sent in clear"),
        ("auth: { user: alice, password: wrong }", "it did not authenticate us: 535"),
        ("auth: { user: alice, password: '${file:none.pw}' }", "the password for it cannot be read"),
        ("auth: { user: alice, password: secret, mechanism: login }", "it offers no mechanism"),
    ] {
        let (next, taken) = next_hop("failure_delay: 0s, mechanisms: [scram-sha-256, plain]").await;
        let (site, switch) = sender(&next, route).await;
        until(told, || switch.log().contains(told)).await;
        assert!(switch.log().contains("deferred=1"), "{}", switch.log());
        assert_eq!(site.inspect().replay.books.len(), 1, "it waits");
        assert!(!taken.log().contains("message.accepted"));
        let asked = taken.log().contains("auth.denied");
        assert_eq!(asked, told.contains("535"), "{}", taken.log());
    }
}
