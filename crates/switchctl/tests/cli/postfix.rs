//! Mail of a real Postfix that could not send it, taken over.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use control::maildrop;
use daemon_kit::SystemClock;
use mail_model::Clock;

use super::Site;

const PATIENCE: Duration = Duration::from_secs(20);

const SERVICES: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
";

/// Stopped when dropped.
struct Postfix<'a>(&'a Path);

impl Postfix<'_> {
    fn order(&self, verb: &str) -> bool {
        let mut command = Command::new("/usr/sbin/postfix");
        command.arg("-c").arg(self.0.join("conf")).arg(verb);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Postfix<'_> {
    fn drop(&mut self) {
        self.order("stop");
    }
}

/// One that sends nothing.
fn configure(path: &Path) -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Its processes run as another user and must pass through.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    for part in ["conf", "spool", "data"] {
        std::fs::create_dir_all(path.join(part)).unwrap();
    }
    let owner = nix::unistd::User::from_name("postfix").unwrap().unwrap();
    nix::unistd::chown(&path.join("data"), Some(owner.uid), None).unwrap();
    let at = path.display();
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {at}/spool\ndata_directory = {at}/data\n\
         command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\n\
         setgid_group = postdrop\nmyhostname = pf.test\nmydestination =\ninet_interfaces = 127.0.0.1\n\
         default_transport = smtp\ndefer_transports = smtp\nsmtpd_recipient_restrictions = permit_mynetworks, reject\n\
         maillog_file = {at}/log\nmaillog_file_prefixes = {at}\n"
    );
    std::fs::write(path.join("conf/main.cf"), main).unwrap();
    let smtpd = format!("127.0.0.1:{port} inet n - n - - smtpd\n{SERVICES}");
    std::fs::write(path.join("conf/master.cf"), smtpd).unwrap();
    port
}

fn say(stream: &mut BufReader<TcpStream>, line: &str) {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    hear(stream);
}

fn hear(stream: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        assert!(matches!(line.as_bytes().first(), Some(b'2' | b'3')), "{line:?}");
        if line.as_bytes().get(3) == Some(&b' ') {
            return;
        }
    }
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let begun = SystemClock.now();
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => {
                assert!(SystemClock.now().since(begun) < PATIENCE, "postfix does not listen: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

#[test]
fn the_queue_of_a_postfix_is_taken_once_it_is_stopped() {
    if !Path::new("/usr/sbin/postfix").is_file() || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root and postfix");
        return;
    }
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let drop = maildrop::directory(&site.path("state"));
    std::fs::create_dir_all(&drop).unwrap();
    let port = configure(dir.path());
    let postfix = Postfix(dir.path());
    assert!(postfix.order("start"));
    let mut client = connect(port);
    hear(&mut client);
    for line in ["EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"] {
        say(&mut client, line);
    }
    for line in ["RCPT TO:<\"x y\"@other.test>", "DATA", "Subject: hi\r\n\r\nhello\r\n..dot\r\n.", "QUIT"] {
        say(&mut client, line);
    }
    let spool = dir.path().join("spool");
    let run = site.run(&["queue", "import", "--postfix", spool.to_str().unwrap()]);
    assert_eq!(run.code, 4, "{}{}", run.out, run.err);
    assert!(run.err.contains("stop it first"), "{}", run.err);
    assert!(postfix.order("stop"));
    let import = |terms: &[&str]| {
        site.run(&[&["queue", "import", "--postfix", spool.to_str().unwrap()], terms].concat())
    };
    assert_eq!(import(&["age:1h"]).code, 2);
    let other = import(&["to:@elsewhere.test"]);
    assert!(other.code == 0 && other.out.contains("0 messages taken"), "{}{}", other.out, other.err);
    let run = import(&["to:b@example.test", "from:@client.test", "size:<1MiB"]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    let slots = maildrop::slots(&drop).unwrap();
    assert_eq!(slots.len(), 1);
    let mut left = slots.first().unwrap().open().unwrap();
    let (from, to) = left.letter.addresses().unwrap();
    assert_eq!(from.to_string(), "a@client.test");
    assert_eq!(
        to.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["b@example.test", "\"x y\"@other.test"]
    );
    let mut content = String::new();
    std::io::Read::read_to_string(&mut left.content, &mut content).unwrap();
    assert!(content.starts_with("Received: ") && content.ends_with("\r\n\r\nhello\r\n.dot\r\n"), "{content}");
}
