//! A new configuration while the switch runs.

use control::switch::{Answer, Request};
use rustix::process::Signal;

use crate::site::{Config, Site, begin, say, until};

#[tokio::test]
async fn sighup_changes_limits_and_drops_no_session() {
    let site = Site::new(&Config::default());
    let switch = site.start_ready().await;
    let mut client = site.client().await;
    begin(&mut client).await;
    let before = site.status().await.config_hash;

    site.configure(&Config {
        trusted: "192.0.2.0/24",
        limits: "connections_per_client: 1",
        ..Config::default()
    });
    switch.signal(Signal::HUP);
    until("the new configuration is in use", || switch.log().contains("config.reloaded")).await;
    assert_ne!(site.status().await.config_hash, before);

    client.send("the session goes on\r\n.\r\n").await.unwrap();
    assert_eq!(client.reply().await.unwrap().code, 250);
    assert_eq!(say(&mut client, "MAIL FROM:<a@client.test>").await.code, 250);
    assert_eq!(
        say(&mut client, "RCPT TO:<b@elsewhere.test>").await.code,
        550,
        "it is no trusted client any more"
    );
    let (_, greeting) = site.connect().await;
    assert_eq!(greeting.code, 421, "one connection is the limit now");
}

#[tokio::test]
async fn a_faulty_configuration_is_told_whole_and_the_old_one_stays() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    let before = site.status().await;
    site.configure(&Config { trusted: "nobody", limits: "hopps: 3", ..Config::default() });
    let fault = site.ask(Request::Reload).await.unwrap_err().to_string();
    assert!(fault.contains("nobody") && fault.contains("hopps"), "{fault}");
    let after = site.status().await;
    assert_eq!((after.config_hash, after.ready), (before.config_hash, true));

    site.configure(&Config { limits: "hops: 3", ..Config::default() });
    let answer = site.ask(Request::Reload).await.unwrap();
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_judged_but_not_taken_into_use() {
    let site = Site::new(&Config::default());
    let switch = site.start_ready().await;
    let before = site.status().await.config_hash;
    site.configure(&Config { limits: "hops: 3", ..Config::default() });
    until("the change is noticed", || switch.log().contains("config.changed_on_disk valid=true")).await;
    site.configure(&Config { limits: "hopps: 3", ..Config::default() });
    until("the fault is noticed", || switch.log().contains("config.changed_on_disk valid=false")).await;
    assert_eq!(site.status().await.config_hash, before);
}

#[tokio::test]
async fn what_only_a_restart_changes_is_named() {
    let site = Site::new(&Config::default());
    let _switch = site.start_ready().await;
    site.configure(&Config { queue: "segment_size: 32MiB".to_owned(), ..Config::default() });
    match site.ask(Request::Reload).await.unwrap() {
        Answer::Done { message } => {
            assert!(message.contains("queue") && message.contains("restart"), "{message}");
        }
        other @ (Answer::Status(_)
        | Answer::Ready(_)
        | Answer::Operated(_)
        | Answer::Traced(_)
        | Answer::Metrics { .. }) => {
            unreachable!("{other:?}")
        }
    }
}
