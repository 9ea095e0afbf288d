//! What all connections share, and the server's life from start to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use chirp_proto::Method;
use chirp_proto::acl::Rights;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::auth::AuthConfig;
use crate::auth::cookie::{CookieFile, CookieLogin};
use crate::config::Args;
use crate::export::{Export, Policy};
use crate::features::Identity;
use crate::heavy::Heavy;
use crate::listener::{self, Stop};
use crate::privileges::{self, Account};
use crate::tickets::{SWEEP_EVERY, Tickets};
use crate::transient::Transient;
use crate::{announce, catalog, exec, logging};

/// How old the figures in the files of allocations may be.
const SPACE_SAVED_EVERY: Duration = Duration::from_secs(30);

/// What all connections share.
#[derive(Debug)]
pub struct Server {
    /// The exported tree and what governs it.
    pub export: Export,
    /// How clients log in.
    pub auth: AuthConfig,
    /// How long a connection may make no request.
    pub idle: Duration,
    /// How long a transfer may fail to get on.
    pub stalled: Duration,
    /// Runs what keeps a processor or a disk busy for long.
    pub heavy: Arc<Heavy>,
    /// Counts what connections read, so that one that waits sees whether others have work.
    pub turns: AtomicU64,
    /// The answer to `features`.
    pub features: String,
    /// Programs, where they may be run.
    pub exec: Option<Arc<exec::Exec>>,
}

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// Whatever kept it from starting; the message names the thing and the remedy.
pub fn run(args: Args) -> anyhow::Result<()> {
    let args = absolute(args)?;
    let cookie = args
        .cookie_file
        .as_deref()
        .map(CookieFile::open)
        .transpose()?;
    let account = privileges::settle(args.user.as_deref())?;
    logging::start(&args.debug, args.log.as_deref())?;
    // What the server makes is nobody else's, as the reference has it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(args, account, cookie));
    // A digest of a huge file would keep the process for as long as it takes, with nobody to tell.
    runtime.shutdown_background();
    outcome
}

/// Makes the paths of the command line independent of the working directory.
fn absolute(mut args: Args) -> anyhow::Result<Args> {
    let named = |path: &Path| {
        std::path::absolute(path)
            .with_context(|| format!("cannot tell where {} is", path.display()))
    };
    args.root = named(&args.root)?;
    args.challenge_dir = named(&args.challenge_dir)?;
    args.default_acl = args.default_acl.as_deref().map(named).transpose()?;
    args.cookie_file = args.cookie_file.as_deref().map(named).transpose()?;
    args.transient = args.transient.as_deref().map(named).transpose()?;
    Ok(args)
}

/// Each connection needs a descriptor, and so does each open file: take what the system grants.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

async fn serve(args: Args, account: Account, cookie: Option<CookieFile>) -> anyhow::Result<()> {
    let root = open_root(&args.root)?;
    let transient = Transient::open(args.transient.as_deref(), &root, &account, args.exec)?;
    let identity = Identity::new();
    let cookie = cookie
        .map(|file| file.read(rustix::process::geteuid(), &root))
        .transpose()?
        .map(|cookie| CookieLogin::new(cookie, &account.name));
    let exec = args
        .exec
        .then(|| exec::Exec::open(&args, &root, &transient, &account))
        .transpose()?;
    let export = open_export(&args, &root, &transient, &account).await?;
    let server = Arc::new(Server {
        auth: auth_config(&args, &export, cookie)?,
        export,
        idle: args.idle,
        stalled: args.stalled,
        heavy: Arc::default(),
        turns: AtomicU64::new(0),
        features: identity
            .features(args.exec, exec::feature_limits(exec.as_ref()))
            .context("cannot write the features")?,
        exec: exec.map(Arc::new),
    });

    let signals = Signals::new()?;
    let socket = listener::bind(args.interface, args.port, args.port_file.is_some()).await?;
    let address = socket
        .local_addr()
        .context("cannot tell the listening address")?;
    if let Some(path) = &args.port_file {
        listener::write_port_file(path, address.port())?;
    }
    tracing::info!(
        %address,
        root = %root.display(),
        transient = %transient.path().display(),
        user = %account.name,
        "serving"
    );

    // Under a limit on file sizes a write beyond it would end the process; with a handler it fails
    // with EFBIG, which the client is told. Programs get the default back.
    let _file_size = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))
        .context("cannot handle SIGXFSZ")?;
    let stop = Stop::default();
    let announcing = announce::start(&args, &identity, address, &root)?;
    let sweeping = tokio::spawn(sweep_tickets(Arc::clone(server.export.tickets())));
    let advertising = advertise(&args, &root, address.port(), &account);
    let clients = tokio::spawn(listener::run(
        socket,
        Arc::clone(&server),
        args.max_clients,
        args.drain,
        stop.clone(),
    ));
    let saving = tokio::spawn(save_space(Arc::clone(&server)));
    signals.wait(&stop).await;
    tracing::info!("stopping");
    stop.drain.cancel();
    advertising.abort();
    sweeping.abort();
    announcing.stop().await;
    if let Some(exec) = &server.exec {
        exec.shutdown(args.drain).await;
    }
    clients.await.context("the listener failed")?;
    saving.abort();
    server.export.space().save();
    tracing::info!("stopped");
    Ok(())
}

/// The signals that stop the server: TERM, INT and QUIT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Starts to listen for them; from here on none ends the process by itself.
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }

    /// Waits for the first. A second one cuts everything off at once.
    async fn wait(mut self, stop: &Stop) {
        self.next().await;
        let abort = stop.abort.clone();
        tokio::spawn(async move {
            self.next().await;
            abort.cancel();
        });
    }
}

/// Makes the last component of the exported directory if it is missing, as the reference does, and
/// returns the path without links.
fn open_root(path: &Path) -> anyhow::Result<PathBuf> {
    let named = || format!("cannot serve {} (-r)", path.display());
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(named),
    }
    path.canonicalize().with_context(named)
}

/// Opens the tree, and gives one without an access control list its first (part 6.4, and what
/// `--exec` and `--announce` add to it).
async fn open_export(
    args: &Args,
    root: &Path,
    transient: &Transient,
    account: &Account,
) -> anyhow::Result<Export> {
    let policy = Policy {
        default_acl: args.default_acl.clone(),
        superuser: args.superuser.clone(),
        read_only: args.read_only,
        keep_free: args.free_space,
        quota: args.root_quota,
        max_ticket_duration: args.max_ticket_duration,
    };
    let export = Export::open(root, transient.path(), policy)?;
    let own = if args.exec { "rwldax" } else { "rwlda" };
    let mut acl = format!("unix:{} {own}\n", account.name);
    let host = announce::host(args).await;
    let host_rights = Rights::parse(args.host_rights.as_bytes());
    if let Some(host) = host.filter(|_| args.host_rights != "none" && !host_rights.is_empty()) {
        acl.push_str(&format!(
            "address:{} {}\n",
            host.to_canonical(),
            args.host_rights
        ));
    }
    if export
        .initialise_acl(acl.as_bytes())
        .context("cannot write the first access control list")?
    {
        tracing::info!(acl = %acl.trim_end().replace('\n', ", "), "the tree had no access control list; wrote one");
        if args.announce.is_some() && host.is_none() {
            tracing::warn!(
                "the broker's address is not known yet, so the host got no rights; \
                 name it with --announce=BROKER or give rights with setacl"
            );
        }
    }
    Ok(export)
}

/// Brings the figures of allocations to the disk now and then, where there are any.
async fn save_space(server: Arc<Server>) {
    while server.export.space().has_allocations() {
        tokio::time::sleep(SPACE_SAVED_EVERY).await;
        let server = Arc::clone(&server);
        // A task that cannot be joined was cut off by the server's end.
        let _ = tokio::task::spawn_blocking(move || server.export.space().save()).await;
    }
}

fn advertise(args: &Args, root: &Path, port: u16, account: &Account) -> JoinHandle<()> {
    let advertiser = catalog::Advertiser {
        catalogs: args
            .advertise
            .iter()
            .filter(|name| *name != "-")
            .cloned()
            .collect(),
        root: root.to_owned(),
        port,
        name: args.name.clone().unwrap_or_else(beacon::net::host_name),
        owner: account.name.clone(),
    };
    tokio::spawn(advertiser.run())
}

/// Removes tickets whose time is over, now and then. By the clock that only goes forward: a step of the
/// system's time makes it neither come early nor stay away.
async fn sweep_tickets(tickets: Arc<Tickets>) {
    let start = tokio::time::Instant::now() + SWEEP_EVERY;
    let mut timer = tokio::time::interval_at(start, SWEEP_EVERY);
    loop {
        timer.tick().await;
        let tickets = Arc::clone(&tickets);
        if let Err(error) = tokio::task::spawn_blocking(move || tickets.sweep()).await {
            tracing::error!(%error, "looking for old tickets failed");
        }
    }
}

fn auth_config(
    args: &Args,
    export: &Export,
    cookie: Option<CookieLogin>,
) -> anyhow::Result<AuthConfig> {
    anyhow::ensure!(
        args.challenge_dir.is_dir(),
        "challenge directory {} (-c) is not a directory",
        args.challenge_dir.display()
    );
    let named = |method: &Method| {
        args.auth.is_empty() || args.auth.iter().any(|name| name == method.name())
    };
    let served = Method::ALL;
    Ok(AuthConfig {
        methods: served.into_iter().filter(named).collect(),
        challenge_dir: args.challenge_dir.clone(),
        unix_timeout: args.unix_timeout,
        tickets: Arc::clone(export.tickets()),
        cookie,
    })
}
