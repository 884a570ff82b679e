//! Next hops that speak LMTP: a sink over TCP, and Dovecot over its socket.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use queue_format::books::Balance;
use rig::{Behaviour, Rule, Sink, SinkOptions, Stage};

use crate::site::{Config, PATIENCE, Site, clock, send_to, until};

fn balance(site: &Site) -> Balance {
    let balance = site.inspect().replay.books.balance();
    assert!(balance.holds, "{balance:?}");
    balance
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_has_its_own_answer_after_the_content() {
    let rules = vec![
        Rule::at(Stage::Recipient).for_local_part("nobody").reply(550, "5.1.1 no such user"),
        Rule::at(Stage::FinalDot).for_local_part("full").first(1).reply(452, "4.2.2 over quota"),
        Rule::at(Stage::FinalDot).for_local_part("banned").reply(554, "5.7.1 not for you"),
    ];
    for chunking in [true, false] {
        let extensions = rig::Extensions { chunking, ..rig::Extensions::default() };
        let behaviour = Behaviour { lmtp: true, rules: rules.clone(), extensions, ..Behaviour::default() };
        let sink = Sink::start(SinkOptions { behaviour, ..SinkOptions::new(clock()) }).unwrap();
        let site = Site::new(&Config::default());
        site.configure_more(&format!(
            "retry: {{ first: 200ms }}\nroutes:\n  - {{ match: example.test, next_hop: \"lmtp://{}\" }}\n  - {{ match: \"*\", next_hop: discard }}\n",
            sink.address()
        ));
        let _switch = site.start_ready().await;
        let to = ["one@example.test", "nobody@example.test", "full@example.test", "banned@example.test"];
        assert_eq!(send_to(&site, &to).await.1.code, 250);
        // One got it at once, full at the second try; for the others there is a bounce, which is discarded.
        until("all have their end", || balance(&site).queued == 0).await;
        let totals = balance(&site).totals;
        assert_eq!((totals.delivered, totals.bounced, totals.deleted), (2, 2, 1), "{totals:?}");
        let taken: Vec<Vec<String>> = sink.deliveries().into_iter().map(|d| d.recipients).collect();
        assert_eq!(taken, [["one@example.test"], ["full@example.test"]]);
        assert_eq!(sink.tally().violations, 0, "{:?}", sink.violations());
    }
}

/// A Dovecot of this test's own. Stopped when dropped.
struct Dovecot(Child);

impl Dovecot {
    /// One with a mailbox for anybody but `nobody`, below `dir`, its socket at `dir/lmtp`. `None` if it cannot be started
    /// here.
    fn start(dir: &Path) -> Option<Self> {
        if !Path::new("/usr/lib/dovecot/lmtp").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root and the Debian package dovecot-lmtpd");
            return None;
        }
        std::fs::create_dir_all(dir.join("mail")).unwrap();
        // Mail belongs to nobody on this machine; Dovecot never touches it as root.
        std::os::unix::fs::chown(dir.join("mail"), Some(65_534), Some(65_534)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir, mode).unwrap();
        let shown = dir.display();
        let text = format!(
            "protocols = lmtp\nbase_dir = {shown}/run\nstate_dir = {shown}/state\nlog_path = {shown}/log\nssl = no\n\
             mail_location = maildir:{shown}/mail/%n\nfirst_valid_uid = 1\npostmaster_address = postmaster@example.test\n\
             default_internal_user = nobody\ndefault_login_user = nobody\ndefault_internal_group = nogroup\n\
             userdb {{\n driver = passwd-file\n args = {shown}/users\n}}\n\
             passdb {{\n driver = passwd-file\n args = {shown}/users\n}}\n\
             service lmtp {{\n unix_listener {shown}/lmtp {{\n mode = 0600\n user = root\n }}\n}}\n"
        );
        let home = dir.join("mail");
        let user = |name| format!("{name}@example.test:{{PLAIN}}x:65534:65534::{}/{name}\n", home.display());
        std::fs::write(dir.join("users"), user("one") + &user("two")).unwrap();
        std::fs::write(dir.join("dovecot.conf"), text).unwrap();
        let child = Command::new("dovecot")
            .args(["-F", "-c"])
            .arg(dir.join("dovecot.conf"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Some(Self(child))
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its own children end with it only if it is told.
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        self.0.wait().ok();
    }
}

/// The messages in the mailbox of `user`.
fn mailbox(dir: &Path, user: &str) -> Vec<String> {
    let found = std::fs::read_dir(dir.join("mail").join(user).join("new"));
    let text =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
    found.map(|entries| entries.map(text).collect()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn dovecot_takes_mail_over_its_socket_and_says_whom_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_dovecot) = Dovecot::start(dir.path()) else { return };
    let socket = dir.path().join("lmtp");
    until("Dovecot listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    let returned = Sink::start(SinkOptions { keep_bytes_max: 1 << 20, ..SinkOptions::new(clock()) }).unwrap();
    let site = Site::new(&Config { next_hop: Some(returned.address()), ..Config::default() });
    site.configure_more(&format!(
        "routes:\n  - {{ match: example.test, next_hop: \"lmtp:unix:{}\" }}\n  - {{ match: \"*\", next_hop: \"{}\" }}\n",
        socket.display(),
        returned.address()
    ));
    let _switch = site.start_ready().await;
    let to = ["one@example.test", "stranger@example.test", "two@example.test"];
    assert_eq!(send_to(&site, &to).await.1.code, 250);
    until("both have it", || ["one", "two"].iter().all(|user| mailbox(dir.path(), user).len() == 1)).await;
    assert!(mailbox(dir.path(), "two").remove(0).ends_with("Subject: x\n\ntext\n"));
    assert!(returned.wait_for(|tally| tally.deliveries == 1, PATIENCE).await, "{:?}", returned.tally());
    let report = returned.deliveries().remove(0).content.unwrap();
    let report = String::from_utf8_lossy(&report).into_owned();
    assert!(report.contains("Final-Recipient: rfc822;stranger@example.test"), "{report}");
    assert!(report.contains("Diagnostic-Code: smtp;550 5.1.1"), "{report}");
    until("the books know", || balance(&site).queued == 0).await;
    let totals = balance(&site).totals;
    assert_eq!((totals.delivered, totals.bounced), (3, 1), "{totals:?}");
}
