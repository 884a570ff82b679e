//! What every command gets, and how it ends when it does not do its work.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::network::{KeyFault, Members, Node, read_key};
use control::{CallError, Code, Program};
use daemon_kit::configuration;
use daemon_kit::tables::{self, TableFault};
use mail_model::{NodeId, QueueId};
use nix::unistd::{User, getuid};
use queue_store::inspect::{self, Depth, Inspection};
use settings::Settings;

use crate::exit::Exit;
use crate::output::{Format, Listing};

/// An arbiter may be asked several times for one answer.
const ARBITER_WITHIN: Duration = Duration::from_secs(20);
/// How long a program may take to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A command's end without an answer: the exit code, and a sentence that says what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }
    pub(crate) fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }
    pub(crate) fn not_found(message: impl Display) -> Self {
        Self::new(Exit::NotFound, message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let exit = match &error {
            CallError::Timeout { .. } => Exit::Timeout,
            CallError::Fault(fault) => match fault.code {
                Code::RefusedUnsafe => Exit::Unsafe,
                Code::NotFound => Exit::NotFound,
                Code::Timeout => Exit::Timeout,
                Code::Failed | Code::Busy | Code::NotRunning | Code::Invalid => Exit::Failed,
            },
            CallError::NotRunning { .. }
            | CallError::Permission { .. }
            | CallError::Closed { .. }
            | CallError::Protocol { .. }
            | CallError::Node(_)
            | CallError::Io { .. } => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// How a command ends.
pub(crate) type Outcome = Result<Exit, Failure>;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    /// What is wrong with tables. They are marked as not to be had in the settings.
    pub(crate) table_faults: Vec<TableFault>,
    pub(crate) format: Format,
    /// `--node`: the one node that is asked about.
    pub(crate) only: Option<NodeId>,
}

impl Context {
    /// Reads the configuration. Wrong ones end with every fault and exit code 2.
    pub(crate) fn load(config: &Path, format: Format, only: Option<NodeId>) -> Result<Self, Failure> {
        let loaded = configuration::load(config).map_err(|error| Failure::new(Exit::Usage, error))?;
        let mut settings = loaded.settings;
        let table_faults = tables::load(&mut settings, None);
        let context = Self { settings, table_faults, format, only };
        if let Some(node) = &context.only {
            context.known(node)?;
        }
        Ok(context)
    }

    /// Fails if there is no such node.
    pub(crate) fn known(&self, node: &NodeId) -> Result<(), Failure> {
        let nodes = &self.settings.cluster.nodes;
        if nodes.iter().any(|peer| peer.id == *node) {
            return Ok(());
        }
        let names: Vec<&str> = nodes.iter().map(|peer| peer.id.as_str()).collect();
        Err(Failure::not_found(format_args!("there is no node '{node}'; the nodes are {}", names.join(", "))))
    }

    /// Shows a listing. Rows go to standard output; what is missing is said on standard error where rows are for
    /// programs.
    pub(crate) fn show(&self, listing: &Listing) -> Outcome {
        show(self.format, listing)
    }

    /// Who calls, and where: `USER@HOST`.
    pub(crate) fn operator(&self) -> String {
        let uid = getuid();
        let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        // Under sudo the person is more telling than root.
        let user = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty()).unwrap_or(user);
        format!("{user}@{}", self.settings.node.hostname)
    }

    /// Where a queue lies.
    pub(crate) fn queue_dir(&self, queue: &QueueId) -> PathBuf {
        self.settings.queue.dir.join(queue.as_str())
    }

    /// The queues of the cluster: those of every node, and those of former nodes that still lie in the spool. With
    /// `--node` that node's alone.
    pub(crate) fn queues(&self) -> Vec<QueueId> {
        if let Some(node) = &self.only {
            return vec![QueueId::of(node.clone())];
        }
        let mut queues: Vec<QueueId> =
            self.settings.cluster.nodes.iter().map(|node| QueueId::of(node.id.clone())).collect();
        // A spool that cannot be read shows as every one of its queues missing.
        let former = inspect::queues(&self.settings.queue.dir).unwrap_or_default();
        queues.extend(former);
        queues.sort();
        queues.dedup();
        queues
    }

    /// Reads a queue. A directory without a lease is not an empty queue: the storage may not be mounted.
    pub(crate) fn inspect(&self, queue: &QueueId, depth: Depth) -> Result<Inspection, String> {
        let dir = self.queue_dir(queue);
        match inspect::top_lease(&dir) {
            Ok(Some(_)) => {
                let cluster = &self.settings.cluster.id;
                inspect::inspect(&dir, cluster, queue, depth).map_err(|error| error.to_string())
            }
            Ok(None) => Err(unclaimed(&dir)),
            Err(error) => Err(format!("{}: {error}", dir.display())),
        }
    }

    /// The node whose programs are asked: that of `--node`, or this one.
    pub(crate) fn asked(&self) -> &NodeId {
        self.only.as_ref().unwrap_or(&self.settings.node.id)
    }

    /// Asks a program of a node: here over its socket, elsewhere over the control address of the node.
    pub(crate) fn ask<R: control::Request>(
        &self,
        node: &NodeId,
        program: &Program,
        request: R,
        within: Duration,
    ) -> Result<R::Answer, Failure> {
        Ok(self.call(node, program, request, within)??)
    }

    fn call<R: control::Request>(
        &self,
        node: &NodeId,
        program: &Program,
        request: R,
        within: Duration,
    ) -> Result<Result<R::Answer, CallError>, Failure> {
        if *node == self.settings.node.id {
            let socket = program.socket(&self.settings.node.state_dir);
            return Ok(runtime()?.block_on(control::ask(&socket, request, within)));
        }
        let far = self.far(node)?;
        let members = self.members()?;
        Ok(runtime()?.block_on(control::ask_node(&far, &members, program, request, within)))
    }

    /// Another node, as it is reached from here.
    fn far(&self, node: &NodeId) -> Result<Node, Failure> {
        let cluster = &self.settings.cluster;
        let peer = cluster.nodes.iter().chain(&cluster.witness).find(|peer| peer.id == *node);
        let address = peer.and_then(|peer| peer.control).ok_or_else(|| {
            let text = "has no control address; write cluster.nodes[].control, or run this command there";
            Failure::new(Exit::Usage, format_args!("node {node} {text}"))
        })?;
        Ok(Node { id: node.clone(), address })
    }

    /// Another node and who asks it, for who asks by itself.
    pub(crate) fn way(&self, node: &NodeId) -> Result<(Node, Members), Failure> {
        Ok((self.far(node)?, self.members()?))
    }

    fn members(&self) -> Result<Members, Failure> {
        let cluster = &self.settings.cluster;
        let usage = |fault: KeyFault| Failure::new(Exit::Usage, fault);
        let path = cluster.key_file.as_deref().ok_or_else(|| {
            Failure::new(Exit::Usage, "nodes prove themselves by the cluster's key; write cluster.key_file")
        })?;
        let key = read_key(path).map_err(usage)?;
        let nodes = cluster.nodes.iter().chain(&cluster.witness).map(|peer| &peer.id);
        Members::new(&key, &cluster.id, &self.settings.node.id, nodes).map_err(usage)
    }

    /// Asks the heartbeatd of the node that is asked.
    pub(crate) fn ask_heartbeatd(
        &self,
        request: control::heartbeatd::Request,
    ) -> Result<control::heartbeatd::Answer, Failure> {
        self.ask_heartbeatd_within(request, ANSWER_WITHIN)
    }

    /// The same with a longer or shorter patience.
    pub(crate) fn ask_heartbeatd_within(
        &self,
        request: control::heartbeatd::Request,
        within: Duration,
    ) -> Result<control::heartbeatd::Answer, Failure> {
        self.ask(self.asked(), &Program::Heartbeatd, request, within)
    }

    /// Asks this node's heartbeatd about the devices of promoted storage.
    pub(crate) fn ask_of_devices(
        &self,
        request: control::device::Request,
    ) -> Result<control::device::Answer, Failure> {
        let socket = control::paths::devices(&self.settings.node.state_dir);
        Ok(runtime()?.block_on(control::ask(&socket, request, ARBITER_WITHIN))?)
    }

    /// Asks the switch of `queue` on the node that is asked.
    pub(crate) fn ask_switch(
        &self,
        queue: &QueueId,
        request: control::switch::Request,
    ) -> Result<control::switch::Answer, Failure> {
        self.ask(self.asked(), &Program::Switch(queue.clone()), request, ANSWER_WITHIN)
    }

    /// Asks a program of the node that is asked; `None` if it does not run.
    pub(crate) fn ask_if_running<R: control::Request>(
        &self,
        program: &Program,
        request: R,
    ) -> Result<Option<R::Answer>, Failure> {
        match self.call(self.asked(), program, request, ANSWER_WITHIN)? {
            Ok(answer) => Ok(Some(answer)),
            Err(CallError::NotRunning { .. }) => Ok(None),
            Err(CallError::Fault(fault)) if fault.code == Code::NotRunning => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Shows a listing in a format.
pub(crate) fn show(format: Format, listing: &Listing) -> Outcome {
    let mut text = Vec::new();
    let exit = render(format, listing, &mut text)?;
    put(&text)?;
    Ok(exit)
}

/// Writes a listing into a page. What is missing is said on standard error where rows are for programs.
pub(crate) fn render(format: Format, listing: &Listing, page: &mut Vec<u8>) -> Outcome {
    if format != Format::Table {
        for warning in listing.warnings() {
            // Standard error is the last resort: if it is gone there is nobody to tell.
            drop(writeln!(io::stderr().lock(), "switchctl: {warning}"));
        }
    }
    Ok(listing.write(format, page)?)
}

/// Writes a page to standard output. A reader that went away (`| head`) is not a fault; then the answer is false.
pub(crate) fn put(page: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(page).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is said about a directory without a lease.
pub(crate) fn unclaimed(dir: &Path) -> String {
    format!(
        "no queue was ever claimed in {}; mount the storage there, look at queue.dir, or start its switch once",
        dir.display()
    )
}

/// For one question.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Writes a line to standard output. A reader that went away (`| head`) is not a fault.
pub(crate) fn say(line: impl Display) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line to standard error, beside what is printed.
pub(crate) fn complain(line: impl Display) -> Result<(), Failure> {
    Ok(writeln!(io::stderr().lock(), "switchctl: {line}")?)
}

/// An answer that does not fit the question: two versions talk to each other.
pub(crate) fn misfit() -> Failure {
    Failure::failed("the answer does not fit the question; are both programs of one version?")
}
