//! Never an open relay.

use crate::site::{Config, Site, say, until};

#[tokio::test]
async fn a_stranger_reaches_the_relay_domains_whatever_the_address_looks_like() {
    let site = Site::new(&Config { trusted: "192.0.2.0/24", ..Config::default() });
    let switch = site.start_ready().await;
    let mut client = site.client().await;
    for accepted in ["<b@example.test>", "<B@EXAMPLE.TEST>", "<\"b c\"@example.test>", "<postmaster>"] {
        assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
        let reply = say(&mut client, &format!("RCPT TO:{accepted}")).await;
        assert_eq!(reply.code, 250, "{accepted}: {reply:?}");
        assert_eq!(say(&mut client, "RSET").await.code, 250);
    }
    let refused = [
        "<b@elsewhere.test>",
        "<b@sub.example.test>",
        "<b@example.test.elsewhere.test>",
        "<b@[127.0.0.1]>",
        "<b@[192.0.2.1]>",
        "<b@[IPv6:::1]>",
        "<b%elsewhere.test@example.test>",
        "<\"b%elsewhere.test\"@example.test>",
        "<elsewhere.test!b@example.test>",
        "<\"b@elsewhere.test\"@example.test>",
        "<@example.test:b@elsewhere.test>",
        "<b@elsewhere.test@example.test>",
        "<b@example.test@elsewhere.test>",
        "<b>",
        "<>",
        "b@elsewhere.test",
        "<b@elsewhere.test",
        "<b@elsewhere.test\0@example.test>",
    ];
    for (number, address) in refused.iter().enumerate() {
        // A few a session: whoever errs without end is sent away.
        if number % 5 == 0 {
            client = site.client().await;
        }
        assert_eq!(say(&mut client, "MAIL FROM:<a@example.test>").await.code, 250);
        let reply = say(&mut client, &format!("RCPT TO:{address}")).await;
        assert!(reply.is_permanent(), "{address}: {reply:?}");
        let reply = say(&mut client, "DATA").await;
        assert!(reply.is_permanent(), "{address}, then DATA: {reply:?}");
        assert_eq!(say(&mut client, "RSET").await.code, 250);
    }
    until("it is in the log", || switch.log().contains("relay.denied client=127.0.0.1 to=b@elsewhere.test"))
        .await;
}

#[tokio::test]
async fn a_trusted_client_may_send_anywhere() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let mut client = site.client().await;
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
    assert_eq!(say(&mut client, "RCPT TO:<b@elsewhere.test>").await.code, 250);
}
