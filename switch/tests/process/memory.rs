//! Memory does not follow message size.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;

use crate::site::{Config, Site, begin, say};

const SESSIONS: usize = 200;
const MESSAGE: usize = 10 << 20;
/// Two gigabytes go through a debug build, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(5);
/// Peak resident memory, in KiB.
const RESIDENT_MAX: u64 = 300_000;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sessions_of_ten_mebibytes_stay_below_300_mb() {
    let site = Arc::new(Site::new(&Config { limits: "connections_per_client: 300", ..Config::default() }));
    let switch = site.start_ready().await;
    let line = [&[b'x'; 998][..], b"\r\n"].concat();
    let block: Arc<[u8]> = line.repeat(64).into();
    let blocks = MESSAGE / block.len();
    let together = Arc::new(Barrier::new(SESSIONS));
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..SESSIONS {
        let (site, block, together) = (Arc::clone(&site), Arc::clone(&block), Arc::clone(&together));
        sessions.spawn(async move {
            let (mut client, greeting) = site.connect_patiently(PATIENCE).await;
            assert_eq!(greeting.code, 220);
            assert_eq!(say(&mut client, "EHLO client.test").await.code, 250);
            begin(&mut client).await;
            client.send("Subject: large\r\n\r\n").await.unwrap();
            for _ in 1..blocks {
                client.send(&block).await.unwrap();
            }
            // All of them hold a nearly whole message at this point.
            together.wait().await;
            client.send(&block).await.unwrap();
            client.send(".\r\n").await.unwrap();
            client.reply().await.unwrap().code
        });
    }
    while let Some(code) = sessions.join_next().await {
        assert_eq!(code.unwrap(), 250);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", switch.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("peak resident: {peak} KiB");
    assert!(peak < RESIDENT_MAX, "{peak} KiB");
    assert_eq!(site.status().await.queued_messages, SESSIONS as u64);
}
