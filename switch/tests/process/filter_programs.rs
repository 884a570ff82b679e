//! Real content filters on loopback, from Debian: rspamd, clamd, and a milter on sendmail's own library.

use std::fmt::Write as _;
use std::fs::{File, write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::site::{free_port, until};

/// The harmless text that every scanner takes for a virus, in two parts so that none takes this file for one.
pub(crate) const EICAR: [&str; 2] =
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD", r"-ANTIVIRUS-TEST-FILE!$H+H*"];

/// What the tests ask of rspamd stands in a field.
const RULES: &str = r"
rspamd_config:register_symbol{ name = 'WISH', score = 1.0, callback = function(task)
  local wish = task:get_header('X-Wish') or ''
  if wish == 'fields' then
    local seen = tostring(task:get_ip()) .. ' ' .. tostring(task:get_helo()) .. ' ' .. task:get_from('smtp')[1].addr
    task:set_milter_reply({ add_headers = { ['X-Seen'] = { value = seen, order = 0 } }, remove_headers = { ['X-Old'] = 0 } })
  elseif wish == 'greylist' then
    task:insert_result('WISH', 45.0)
  elseif wish ~= '' then
    task:set_pre_result(wish, 'rspamd says ' .. wish)
  end
end }
";

const MILTER: &str = r"
import Milter, sys
class Wishes(Milter.Base):
    def connect(self, name, family, address):
        self.wish, self.body_seen, self.client = '', 0, address[0]
        return Milter.CONTINUE
    def envrcpt(self, to, *parameters):
        return Milter.TEMPFAIL if 'later' in to else Milter.CONTINUE
    def header(self, name, value):
        if name == 'X-Wish': self.wish = value
        return Milter.CONTINUE
    def body(self, piece):
        self.body_seen += len(piece)
        return Milter.CONTINUE
    def eom(self):
        wish = self.wish
        if wish == 'reject': return Milter.REJECT
        if wish == 'tempfail': return Milter.TEMPFAIL
        if wish == 'discard': return Milter.DISCARD
        if wish == 'reply':
            self.setreply('554', '5.7.9', 'go away')
            return Milter.REJECT
        if wish == 'quarantine': self.quarantine('odd')
        if wish == 'fields': self.addheader('X-Seen', '%s %d' % (self.client, self.body_seen))
        if wish == 'change':
            self.chgheader('Subject', 1, 'changed')
            self.chgheader('X-Old', 1, '')
            self.replacebody('new body\r\n')
            self.addrcpt('<c@example.test>')
            self.delrcpt('<b@example.test>')
        return Milter.CONTINUE
Milter.factory = Wishes
Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.DELRCPT | Milter.QUARANTINE)
Milter.runmilter('wishes', sys.argv[1], 60)
";

/// A filter that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    dir: TempDir,
    child: Child,
}

impl Program {
    /// `None` without the program.
    pub(crate) async fn rspamd() -> Option<Self> {
        let (dir, address) = ready("rspamd", "/usr/bin/rspamd")?;
        let (path, folder) = (dir.path().to_owned(), dir.path().display());
        write(path.join("rules.lua"), RULES).unwrap();
        // The list of all top level domains takes rspamd half a minute to learn.
        write(path.join("tld"), "test\n").unwrap();
        let config = format!(
            "options {{ pidfile = \"{folder}/pid\"; filters = \"\"; control_socket = \"{folder}/control mode=0600\"; \
             dns {{ nameserver = [\"127.0.0.1:9\"]; }} url_tld = \"{folder}/tld\"; hs_cache_dir = \"{folder}\"; }}\n\
             logging {{ type = \"file\"; filename = \"{folder}/log\"; level = \"info\"; }}\n\
             worker \"normal\" {{ bind_socket = \"{address}\"; count = 1; }}\n\
             actions {{ reject = 100; rewrite_subject = 90; add_header = 80; greylist = 40; quarantine = 110; discard = 120; \
             subject = \"*** %s\"; }}\nlua = \"{folder}/rules.lua\";\n"
        );
        write(path.join("conf"), config).unwrap();
        Some(Self::start(dir, address, "/usr/bin/rspamd", &["-i", "-f", "-c", "conf"]).await)
    }

    /// Knows one virus, and takes no more than 1 MiB.
    pub(crate) async fn clamd() -> Option<Self> {
        let (dir, address) = ready("clamav-daemon", "/usr/sbin/clamd")?;
        let folder = dir.path().display();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        let mut signature = "Test-Virus:0:*:".to_owned();
        for byte in EICAR.concat().bytes() {
            write!(signature, "{byte:02x}").unwrap();
        }
        write(dir.path().join("db/test.ndb"), signature + "\n").unwrap();
        let config = format!(
            "TCPSocket {}\nTCPAddr {}\nLocalSocket {folder}/socket\nDatabaseDirectory {folder}/db\nForeground yes\n\
             StreamMaxLength 1M\n",
            address.port(),
            address.ip()
        );
        write(dir.path().join("conf"), config).unwrap();
        Some(Self::start(dir, address, "/usr/sbin/clamd", &["-c", "conf"]).await)
    }

    /// Listens at a unix socket only.
    pub(crate) async fn milter() -> Option<Self> {
        let (dir, address) = ready("python3-milter", "/usr/lib/python3/dist-packages/Milter")?;
        write(dir.path().join("wishes.py"), MILTER).unwrap();
        let socket = format!("unix:{}/socket", dir.path().display());
        let mut program = Self::launch(dir, address, "/usr/bin/python3", &["wishes.py", &socket]);
        let path = program.socket();
        until("the milter listens", || program.lives() && UnixStream::connect(&path).is_ok()).await;
        Some(program)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    async fn start(dir: TempDir, address: SocketAddr, program: &str, arguments: &[&str]) -> Self {
        let mut started = Self::launch(dir, address, program, arguments);
        until("the filter listens", || started.lives() && TcpStream::connect(address).is_ok()).await;
        started
    }

    fn launch(dir: TempDir, address: SocketAddr, program: &str, arguments: &[&str]) -> Self {
        let output = File::create(dir.path().join("output")).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir.path()).stdin(Stdio::null());
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Self { address, dir, child }
    }

    fn lives(&mut self) -> bool {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{}", self.output());
        true
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("output")).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // rspamd ends its workers when it is asked to end, not when it is killed.
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        self.child.wait().ok();
    }
}

fn ready(package: &str, needed: &str) -> Option<(TempDir, SocketAddr)> {
    if !Path::new(needed).exists() {
        eprintln!("skipped: needs {package}");
        return None;
    }
    Some((tempfile::tempdir().unwrap(), free_port()))
}
