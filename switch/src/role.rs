//! The wiring: everything a switch is made of is built here, once, and handed down.
//!
//! A **primary** owns its node's queue, listens, and answers health probes. A **secondary** owns the queue of another node
//! for a while: it delivers and listens nowhere. Both answer on a control socket named after the queue.

mod lifecycle;
mod proof;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use accounts::Directory;
use anyhow::{Context, Result};
use arc_swap::{ArcSwap, ArcSwapOption};
use cluster::instance::Order;
use control::switch::Request;
use control::{Server, maildrop};
use daemon_kit::logging::Levels;
use daemon_kit::signals::Signals;
use daemon_kit::{SystemClock, boot_id, instance_id};
use mail_model::{Clock, InstanceId, QueueId, Role};
use queue_store::{Queue, QueueOptions};
use settings::Settings;
use tokio::sync::{mpsc, watch};

use self::lifecycle::Lifecycle;
use crate::admin::Admin;
use crate::counters::Counters;
use crate::delivery::Delivery;
use crate::health;
use crate::intake::{
    self, Door, Inspection, Intake, LiveDirectory, LiveInspection, Logins, Notice, Parts, Phase, Turns,
};
use crate::names::{LiveNames, Names};
use crate::readiness::Gate;
use crate::reload::{Reloader, Watch};
use crate::sockets::HandedDown;
use crate::tls::{LiveTls, Tls};
use crate::tracers::Tracers;

/// What the command line and the configuration say.
#[derive(Debug)]
pub(crate) struct Start {
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// What it says.
    pub(crate) settings: Settings,
    /// The certificates it names.
    pub(crate) tls: Tls,
    /// The users it names.
    pub(crate) directory: Option<Arc<dyn Directory>>,
    /// The queue to own.
    pub(crate) queue: QueueId,
    /// At home or not.
    pub(crate) role: Role,
    /// For a secondary: what it was told.
    pub(crate) order: Option<Order>,
}

/// Runs a switch to its end. The exit code.
pub(crate) async fn run(start: Start, levels: Levels) -> Result<u8> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let instance = instance_id();
    let state_dir = start.settings.node.state_dir.clone();
    make_directory("node.state_dir", &state_dir)?;

    // Whatever can be refused is tried before the queue is claimed.
    let server = Server::bind(&control::paths::switch(&state_dir, &start.queue))?;
    let doors = Doors::open(&start)?;
    let options = queue_options(&start, instance, &clock)?;
    if start.role == Role::Primary && options.proof.is_none() {
        // A secondary makes no directory: a queue that is not there is on a disk that is not mounted.
        make_directory("the queue directory", &options.dir)?;
    }
    let names: LiveNames = Arc::new(ArcSwap::from_pointee(Names::new(&start.settings)?));
    let (counters, delivery): (Arc<Counters>, Arc<OnceLock<Delivery>>) = Default::default();
    let inspection = Inspection::load(&start.settings, start.role, &counters)
        .map_err(|faults| anyhow::anyhow!(faults.join("\n")))?;
    let inspection: LiveInspection = Arc::new(ArcSwap::from_pointee(inspection));
    let queue = Queue::open(options)?;

    let watch = Watch::start(&start.file, &start.settings.table_files);
    let settings = Arc::new(ArcSwap::from_pointee(start.settings));
    let tls: LiveTls = Arc::new(ArcSwap::from_pointee(start.tls));
    let directory: LiveDirectory = Arc::new(ArcSwapOption::from_pointee(start.directory));
    let tracers = Arc::new(Tracers::new(Arc::clone(&clock)));
    let gate = Arc::new(Gate::new(queue.clone(), start.role));
    let (phase, phases) = watch::channel(Phase::Open);
    let intake = (start.role == Role::Primary).then(|| {
        Intake::new(Parts {
            queue: queue.clone(),
            settings: Arc::clone(&settings),
            tls: Arc::clone(&tls),
            tracers: Arc::clone(&tracers),
            logins: Logins::new(Arc::clone(&directory)),
            inspection: Arc::clone(&inspection),
            names: Arc::clone(&names),
            clock: Arc::clone(&clock),
            counters: Arc::clone(&counters),
            gate: Arc::clone(&gate),
            turns: Turns::default(),
            notice: notice(Arc::clone(&delivery)),
            phase: phases,
        })
    });
    let (orders, order) = mpsc::channel(1);
    let reloader = Arc::new(Reloader::new(
        start.file.clone(),
        start.role,
        Arc::clone(&settings),
        Arc::clone(&tls),
        Arc::clone(&names),
        directory,
        inspection,
    ));
    let admin = Arc::new(Admin {
        queue: queue.clone(),
        role: start.role,
        instance,
        settings,
        clock,
        counters,
        gate: Arc::clone(&gate),
        tls: Arc::clone(&tls),
        tracers,
        levels,
        intake: intake.clone(),
        reloader: Arc::clone(&reloader),
        orders,
        delivery: Arc::clone(&delivery),
    });

    doors.serve(intake.as_ref(), &admin)?;
    if let Some(intake) = &intake {
        intake.pick_up(make_maildrop(&state_dir)?);
    }
    let asked = Arc::clone(&admin);
    let serving = tokio::spawn(server.serve(move |request: Request| {
        let admin = Arc::clone(&asked);
        async move { admin.answer(request).await }
    }));
    let lifecycle =
        Lifecycle { queue, role: start.role, tls, names, gate, intake, delivery, admin, reloader, phase };
    let code = lifecycle.run(signals, order, watch).await;
    // Ended here and waited for, so that the socket's file goes.
    serving.abort();
    serving.await.ok();
    Ok(code)
}

/// Tells delivery of new mail. None is taken before delivery was started, and it begins with what is in the queue by then.
fn notice(delivery: Arc<OnceLock<Delivery>>) -> Notice {
    Arc::new(move |key, content| {
        if let Some(delivery) = delivery.get() {
            delivery.accepted(key, content);
        }
    })
}

fn make_directory(what: &str, directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {what} {}", directory.display()))
}

/// Makes the directory where programs of this machine leave mail.
fn make_maildrop(state_dir: &Path) -> Result<PathBuf> {
    let directory = maildrop::directory(state_dir);
    let failed = || format!("cannot make the maildrop {}", directory.display());
    std::fs::create_dir_all(&directory).with_context(failed)?;
    std::fs::set_permissions(&directory, Permissions::from_mode(maildrop::MODE)).with_context(failed)?;
    Ok(directory)
}

fn queue_options(start: &Start, instance: InstanceId, clock: &Arc<dyn Clock>) -> Result<QueueOptions> {
    let settings = &start.settings;
    let proof = proof::proof(settings, &start.queue)?;
    Ok(QueueOptions {
        dir: settings.queue.dir.join(start.queue.as_str()),
        cluster: settings.cluster.id.clone(),
        queue: start.queue.clone(),
        owner: settings.node.id.clone(),
        instance,
        boot: boot_id().context("cannot tell this boot from others")?,
        role: start.role,
        order: start.order,
        timers: settings.cluster.timers,
        segment_size: settings.queue.segment_size,
        free_space_reserve: settings.queue.free_space_reserve,
        clock: Arc::clone(clock),
        proof,
    })
}

/// The sockets that clients and load balancers reach. Opened at once, so that a balancer sees 421 and 503 while the queue
/// is being taken.
struct Doors {
    smtp: Vec<(std::net::TcpListener, Door)>,
    health: Option<std::net::TcpListener>,
}

impl Doors {
    fn open(start: &Start) -> Result<Self> {
        if start.role == Role::Secondary {
            return Ok(Self { smtp: Vec::new(), health: None });
        }
        let mut handed_down = HandedDown::receive()?;
        let mut bind = |key: &str, address: SocketAddr| {
            if let Some(listener) = handed_down.take(address) {
                return Ok(listener);
            }
            intake::bind(address).with_context(|| {
                format!("cannot listen on {address} ({key}); stop what listens there, or change {key}")
            })
        };
        let settings = &start.settings;
        let smtp = settings.listeners.iter().enumerate().map(|(index, listener)| {
            let door = Door { index, kind: listener.kind, mode: listener.tls_mode };
            bind("listeners", listener.address).map(|listener| (listener, door))
        });
        let smtp = smtp.collect::<Result<_>>()?;
        let health = settings.health.map(|address| bind("health.address", address)).transpose()?;
        handed_down.end()?;
        Ok(Self { smtp, health })
    }

    fn serve(self, intake: Option<&Intake>, admin: &Arc<Admin>) -> Result<()> {
        if let Some(listener) = self.health {
            let listener =
                tokio::net::TcpListener::from_std(listener).context("cannot serve health probes")?;
            let asked = Arc::clone(admin);
            let measured = Arc::clone(admin);
            let heartbeatd = control::paths::heartbeatd(&admin.settings.load().node.state_dir);
            tokio::spawn(health::serve(
                listener,
                health::Sources {
                    report: Arc::new(move || asked.report()),
                    metrics: Arc::new(move || measured.metrics()),
                    heartbeatd,
                },
            ));
        }
        if let Some(intake) = intake {
            for (listener, door) in self.smtp {
                intake.listen(listener, door).context("cannot serve SMTP")?;
            }
        }
        Ok(())
    }
}
