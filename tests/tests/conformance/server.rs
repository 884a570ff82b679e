//! The servers that are asked: a `switch`, and a private Postfix with a private Dovecot that knows its users. Both relay for
//! example.test and for nobody else, take 1,000,000 octets, 1,000 recipients and any number of errors, and deliver nothing. At
//! another address they take mail from `alice@example.test`, whose password is `secret`.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use tempfile::TempDir;
use tests::dovecot::Dovecot;
use tests::postfix::{Postfix, free_address, open_to_all};

/// What the servers call themselves.
pub(crate) const NAME: &str = "mx.example.test";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) submission: SocketAddr,
    postfix: Option<(Postfix, Dovecot)>,
    switch: Option<Child>,
    // Last, since the others have it open.
    dir: TempDir,
}

fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

impl Server {
    pub(crate) async fn switch() -> Self {
        let nowhere = free_address().unwrap();
        Self::switch_with(&format!("routes: [ {{ match: \"*\", next_hop: \"{nowhere}\" }} ]\n")).await
    }

    /// A switch with these routes and whatever else.
    pub(crate) async fn switch_with(routes: &str) -> Self {
        let programs = tests::programs::build().unwrap();
        let (dir, address, submission) =
            (tempfile::tempdir().unwrap(), free_address().unwrap(), free_address().unwrap());
        certificate(dir.path());
        let tls = "tls: { cert: cert.pem, key: key.pem }";
        let text = format!(
            "cluster: {{ id: demo }}\nnode: {{ id: a, state_dir: state, hostname: {NAME} }}\nqueue: {{ dir: spool }}\n\
             listeners:\n  - {{ address: \"{address}\", {tls} }}\n  - {{ address: \"{submission}\", kind: submission, {tls} }}\n\
             auth: {{ users: users, failure_delay: 0s }}\n\
             relay: {{ domains: [example.test, far.test, refusing.test, dsn.test] }}\n{routes}\
             limits: {{ message_size: 1000000B, recipients: 1000, errors: 10000, tarpit: 0s, connections_per_client: 1000 }}\n"
        );
        let file = dir.path().join("mailswitch.yaml");
        fs::write(&file, text).unwrap();
        let mut user = Command::new(programs.join("switchctl"));
        user.arg("--config").arg(&file).args(["user", "add", "alice@example.test"]);
        let mut user = user.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        user.stdin.take().unwrap().write_all(b"secret\n").unwrap();
        assert!(user.wait().unwrap().success());
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child =
            Command::new(programs.join("switch")).args(["run", "--config"]).arg(&file).stderr(log).spawn();
        let server = Self { address, submission, postfix: None, switch: Some(child.unwrap()), dir };
        server.ready().await;
        server
    }

    /// `None` where it cannot be started.
    pub(crate) async fn postfix() -> Option<Self> {
        if !Dovecot::is_there() {
            return None;
        }
        let (dir, address, submission) =
            (tempfile::tempdir().unwrap(), free_address().unwrap(), free_address().unwrap());
        let path = dir.path();
        // Its processes run as another user and must pass through.
        open_to_all(path).unwrap();
        certificate(path);
        let postfix = Postfix::start(path, &main_cf(path), &master_cf(path, address, submission)).unwrap()?;
        let dovecot = Dovecot::start(path, "alice@example.test").unwrap();
        let server = Self { address, submission, postfix: Some((postfix, dovecot)), switch: None, dir };
        server.ready().await;
        Some(server)
    }

    async fn ready(&self) {
        for _ in 0..400 {
            if let Ok(mut client) = rig::Dialogue::connect(self.address, Duration::from_secs(20)).await
                && client.reply().await.is_ok_and(|greeting| greeting.code == 220)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} does not greet: {}", self.address, self.log());
    }

    pub(crate) fn is_postfix(&self) -> bool {
        self.postfix.is_some()
    }

    /// A client that trusts this server alone.
    pub(crate) fn trusted(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.dir.path().join("cert.pem")).unwrap()).unwrap();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn lives(&mut self) -> bool {
        let runs = match (&mut self.switch, &mut self.postfix) {
            (Some(switch), _) => switch.try_wait().unwrap().is_none(),
            (None, Some((_, dovecot))) => dovecot.lives(),
            (None, None) => false,
        };
        runs && TcpStream::connect(self.address).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(switch) = &mut self.switch {
            switch.kill().ok();
            switch.wait().ok();
        }
    }
}

fn main_cf(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "myhostname = {NAME}\nmynetworks = 192.0.2.0/24\nrelay_domains = example.test\n\
         smtpd_relay_restrictions = reject_unauth_destination\nsmtpd_tls_security_level = may\n\
         smtpd_tls_cert_file = {dir}/cert.pem\nsmtpd_tls_key_file = {dir}/key.pem\n\
         smtpd_client_connection_count_limit = 0\nsmtpd_soft_error_limit = 10000\nsmtpd_hard_error_limit = 10000\n\
         smtpd_error_sleep_time = 0\nmessage_size_limit = 1000000\nsmtpd_recipient_limit = 1000\n\
         smtpd_recipient_overshoot_limit = 10000\nsmtpd_discard_ehlo_keywords =\ndefault_transport = discard:\n\
         relay_transport = discard:\nsmtpd_junk_command_limit = 10000\n"
    )
}

fn master_cf(dir: &Path, smtp: SocketAddr, submission: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "{smtp} inet n - n - - smtpd\n\
         {submission} inet n - n - - smtpd\n  -o smtpd_tls_security_level=encrypt\n  -o smtpd_sasl_auth_enable=yes\n  \
         -o smtpd_sasl_type=dovecot\n  -o smtpd_sasl_path={dir}/auth\n  -o smtpd_delay_reject=no\n  \
         -o smtpd_sender_restrictions=permit_sasl_authenticated,reject\n  \
         -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n"
    )
}
