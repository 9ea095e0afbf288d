//! What all connections share, and the server's life from start to stop.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use chirp_proto::Method;
use chirp_proto::acl::Rights;
use rustix::process::{Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::AuthConfig;
use crate::auth::cookie::{CookieFile, CookieLogin};
use crate::config::Args;
use crate::export::{Export, Policy};
use crate::features::{Answer, Identity};
use crate::heavy::Heavy;
use crate::jobs::Jobs;
use crate::listener::{self, Listeners, Stop, UnixSocket};
use crate::manner::Manner;
use crate::places::Places;
use crate::privileges::{self, Account};
use crate::restore::Watch;
use crate::settings::Settings;
use crate::third_party::ThirdParty;
use crate::tickets::{SWEEP_EVERY, Tickets};
use crate::transient::Transient;
use crate::{announce, catalog, daemon, exec, logging, parent, space};

/// Open files below which the log says at the start that they are few.
const DESCRIPTORS_WISHED: u64 = 4096;

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
    /// Which servers are called for clients.
    pub third_party: ThirdParty,
    /// Runs what keeps a processor or a disk busy for long.
    pub heavy: Arc<Heavy>,
    /// Counts what connections read, so that one that waits sees whether others have work.
    pub turns: AtomicU64,
    /// How long each request waits before it is carried out (`-l`).
    pub latency: Option<Duration>,
    /// How many connections each subject has.
    pub places: Places,
    /// What clients did, counted where a catalog is told of it.
    pub clients: Option<Arc<catalog::Clients>>,
    /// Which machine and which run this is.
    pub identity: Arc<Identity>,
    /// The answer to `features`.
    pub features: Answer,
    /// Cancelled, and replaced, when a new run begins.
    renewal: Mutex<CancellationToken>,
    /// Programs, where they may be run.
    pub exec: Option<Arc<exec::Exec>>,
    /// Jobs, where they may be run.
    pub jobs: Option<Jobs>,
}

impl Server {
    /// Returns what is cancelled when the present run ends and another begins.
    #[must_use]
    pub fn until_renewed(&self) -> CancellationToken {
        // A token is whole whatever its owner was about.
        let renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        renewal.clone()
    }

    /// Begins a new run: there is a new id, all connections are closed, and programs go on whatever was to
    /// happen to them when their connection is lost. Returns how many of them lost a client.
    pub fn renew(&self) -> usize {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *renewal);
        self.identity.renew();
        drop(renewal);
        let detached = self
            .exec
            .as_ref()
            .map_or(0, |exec| exec.executions.detach_all());
        before.cancel();
        detached
    }
}

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// Whatever kept it from starting; the message names the thing and the remedy.
pub fn run(args: Args, manner: Manner) -> anyhow::Result<()> {
    // Before the log: the file may be root's own, as the passcodes in it deserve.
    let settings = Settings::of(&args)?;
    let (args, mut settings) = absolute(args, settings)?;
    if args.detached {
        daemon::detach(manner);
    }
    let settling = privileges::choose(args.user.as_deref())?;
    // Still as whoever started the server: the log and the port may be out of the account's reach.
    logging::start(&args.debug, args.log.as_deref(), args.debug_rotate_max)?;
    for warning in settings.warnings.drain(..) {
        tracing::warn!("{warning}");
    }
    if !args.overlooked.is_empty() {
        tracing::warn!(arguments = ?args.overlooked, "overlooked what is no option");
    }
    let cookie = args
        .cookie_file
        .as_deref()
        .map(CookieFile::open)
        .transpose()?;
    let search = args.port_file.is_some() || args.port == 0;
    let socket = listener::bind(args.interface, args.port, search)?;
    let local = args
        .listen_unix
        .as_deref()
        .map(|path| UnixSocket::bind(path, args.listen_unix_mode.0, settling.owner()))
        .transpose()?;
    let account = settling.settle()?;
    // What the server makes is nobody else's, as the reference has it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if args.no_core_dump {
        forbid_core_dumps();
    }
    raise_descriptor_limit();
    // No file system is kept from being unmounted.
    std::env::set_current_dir("/").context("cannot work in /")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(args, settings, (socket, local), account, cookie));
    // A digest of a huge file would keep the process for as long as it takes, with nobody to tell.
    runtime.shutdown_background();
    outcome
}

/// Makes the paths of the command line independent of the working directory.
fn absolute(mut args: Args, mut settings: Settings) -> anyhow::Result<(Args, Settings)> {
    let named = |path: &Path| {
        std::path::absolute(path)
            .with_context(|| format!("cannot tell where {} is", path.display()))
    };
    settings.root = named(&settings.root)?;
    args.challenge_dir = named(&args.challenge_dir)?;
    args.default_acl = args.default_acl.as_deref().map(named).transpose()?;
    args.transient = args.transient.as_deref().map(named).transpose()?;
    args.cookie_file = args.cookie_file.as_deref().map(named).transpose()?;
    args.passwd = args.passwd.as_deref().map(named).transpose()?;
    args.listen_unix = args.listen_unix.as_deref().map(named).transpose()?;
    args.port_file = args.port_file.as_deref().map(named).transpose()?;
    // `:stderr` and `:stdout` are no files.
    args.log = match args.log {
        Some(path) if !path.as_os_str().as_encoded_bytes().starts_with(b":") => Some(named(&path)?),
        other => other,
    };
    Ok((args, settings))
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
    let granted = rustix::process::getrlimit(Resource::Nofile).current;
    if let Some(granted) = granted.filter(|&granted| granted < DESCRIPTORS_WISHED) {
        tracing::warn!(
            granted,
            "few open files are allowed: connections and the files open on them must share these; \
             raise the hard limit (`ulimit -Hn`, LimitNOFILE=) for more clients"
        );
    }
}

/// Returns how many connections one subject may have at once; None for any number.
fn clients_per_subject(args: &Args) -> Option<usize> {
    let half = || {
        let files = rustix::process::getrlimit(Resource::Nofile).current;
        let all = match args.max_clients {
            0 => usize::try_from(files?).ok()?,
            clients => clients,
        };
        Some(all.div_ceil(2))
    };
    match args.clients_per_subject {
        Some(0) => None,
        Some(limit) => Some(limit),
        None => args.exec.then(half).flatten(),
    }
}

fn forbid_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "cannot forbid core dumps (-C)");
    }
}

async fn serve(
    args: Args,
    mut settings: Settings,
    (socket, local): (OwnedFd, Option<UnixSocket>),
    account: Account,
    cookie: Option<CookieFile>,
) -> anyhow::Result<()> {
    let root = open_root(&settings.root)?;
    settings.root.clone_from(&root);
    let runs_programs = args.exec || args.jobs;
    let transient = Transient::open(args.transient.as_deref(), &root, &account, runs_programs)?;
    let identity = Arc::new(Identity::new());
    let cookie = cookie
        .map(|file| file.read(rustix::process::geteuid(), &root))
        .transpose()?
        .map(|cookie| CookieLogin::new(cookie, &account.name));
    let exec = args
        .exec
        .then(|| exec::Exec::open(&args, &root, &transient, &account))
        .transpose()?;
    if exec.is_none() {
        exec::Exec::end_left(&transient)?;
    }
    // Before the tree is opened, which removes the sandboxes of a server that was killed.
    let jobs = Jobs::open(&args, &root, &transient)?;
    let export = open_export(&args, &settings, &transient, &account).await?;
    let server = Arc::new(Server {
        auth: auth_config(&args, &export, cookie)?,
        export,
        idle: args.idle,
        stalled: args.stalled,
        third_party: args.third_party.clone(),
        heavy: Arc::default(),
        turns: AtomicU64::new(0),
        latency: (args.latency > 0).then(|| Duration::from_micros(args.latency)),
        places: Places::new(clients_per_subject(&args)),
        clients: catalogs(&args).next().is_some().then(Arc::default),
        features: Answer::new(
            &identity,
            args.exec,
            exec::sandbox_features(exec.as_ref()),
            exec::feature_limits(exec.as_ref()),
        ),
        identity: Arc::clone(&identity),
        renewal: Mutex::default(),
        exec: exec.map(Arc::new),
        jobs,
    });

    let signals = Signals::new()?;
    let watch = Watch::new()?;
    let parent = args.parent_death.then(parent::ended).transpose()?;
    let socket = TcpListener::from_std(socket.into()).context("cannot listen")?;
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
    let announcing = announce::start(&args, &settings, &identity, address)?;
    let advertising = advertise(&args, &settings, address.port(), &account, &server);
    let restores = tokio::spawn(watch.run(Arc::clone(&server)));
    let sweeping = tokio::spawn(sweep_tickets(Arc::clone(server.export.tickets())));
    let clients = tokio::spawn(listener::run(
        Listeners::new(socket, local)?,
        Arc::clone(&server),
        args.max_clients,
        args.drain,
        stop.clone(),
    ));
    if args.detached {
        daemon::ready()?;
    }
    let saving = tokio::spawn(space::upkeep(Arc::clone(&server)));
    if let Some(jobs) = &server.jobs {
        jobs.start(Arc::clone(&server), address.port());
    }
    signals.wait(parent, &stop).await;
    tracing::info!("stopping");
    stop.drain.cancel();
    if let Some(advertising) = advertising {
        advertising.abort();
    }
    sweeping.abort();
    restores.abort();
    announcing.stop().await;
    let end_executions = async {
        if let Some(exec) = &server.exec {
            exec.shutdown(args.drain).await;
        }
    };
    let end_jobs = async {
        if let Some(jobs) = &server.jobs {
            jobs.shutdown(args.drain).await;
        }
    };
    tokio::join!(end_executions, end_jobs);
    clients.await.context("the listener failed")?;
    server.export.tickets().close();
    saving.abort();
    server.export.space().save();
    tracing::info!("stopped");
    Ok(())
}

/// The signals that stop the server, TERM, INT and QUIT, and the one that does not: HUP.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to listen for them; from here on none ends the process by itself.
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                // The reference ignores it. Whoever sends it has moved the log away, or means a terminal
                // that the server does not need.
                _ = self.hangup.recv() => logging::reopen(),
            }
        }
    }

    /// Waits for the first, or for the end of the parent if that matters. A second one cuts everything
    /// off at once.
    async fn wait(mut self, parent: Option<oneshot::Receiver<()>>, stop: &Stop) {
        let orphaned = async {
            match parent {
                // The sender only goes when the parent has ended.
                Some(parent) => drop(parent.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.next() => {}
            () = orphaned => tracing::info!("the parent process ended (-E)"),
        }
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
/// `--exec`, `--jobs` and `--announce` add to it).
async fn open_export(
    args: &Args,
    settings: &Settings,
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
        runs_programs: args.exec,
        inherit_acl: args.inherit_default_acl,
        groups: args
            .group_url
            .clone()
            .map(|url| (url, args.group_cache_exp)),
    };
    let export = Export::open(&settings.root, transient.path(), policy)?;
    let own = if args.exec || args.jobs {
        "rwldax"
    } else {
        "rwlda"
    };
    let mut acl = format!("unix:{} {own}\n", account.name);
    let host = announce::host(settings).await;
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

/// Returns the catalogs to tell. `-` is the reference's word for none.
fn catalogs(args: &Args) -> impl Iterator<Item = &String> {
    let named = |name: &&String| !name.is_empty() && *name != "-";
    args.advertise.iter().filter(named)
}

fn advertise(
    args: &Args,
    settings: &Settings,
    port: u16,
    account: &Account,
    server: &Server,
) -> Option<JoinHandle<()>> {
    let clients = Arc::clone(server.clients.as_ref()?);
    let name = args.catalog_name.as_ref().or(settings.name.as_ref());
    let advertiser = catalog::Advertiser {
        catalogs: catalogs(args).cloned().collect(),
        transport: catalog::Transport::from_environment(),
        interval: args.catalog_update,
        description: catalog::Description {
            root: settings.root.clone(),
            port,
            name: name.cloned().unwrap_or_else(beacon::net::host_name),
            owner: args.owner.as_ref().unwrap_or(&account.name).clone(),
            project: args.project_name.clone(),
            uuid: catalog::tree_id(&server.export),
            free: args.free_space,
            started: SystemTime::now(),
        },
        clients,
    };
    Some(tokio::spawn(advertiser.run()))
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
    if let Some(path) = &args.passwd {
        std::fs::File::open(path)
            .with_context(|| format!("password file {} (-W)", path.display()))?;
    }
    let named = |method: &Method| {
        args.auth.is_empty() || args.auth.iter().any(|name| name == method.name())
    };
    let served = Method::ALL;
    Ok(AuthConfig {
        methods: served.into_iter().filter(named).collect(),
        challenge_dir: args.challenge_dir.clone(),
        unix_timeout: args.unix_timeout,
        passwd: args.passwd.clone(),
        tickets: Arc::clone(export.tickets()),
        cookie,
    })
}
