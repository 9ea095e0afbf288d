//! Programs for clients: the server's side of `exec-extension.md`. The runner, the frames and the
//! stream are [`exec_ext`]'s; here are rights, confined paths and the answers.

mod options;
mod policy;
mod prepare;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use exec_ext::StreamSettings;
use exec_ext::runner::{Confinement, Executions, ExecutionsConfig, clean_environment};
use exec_ext::status::{FeatureLimits, Limits, SandboxFeatures};
use policy::Allowed;

use crate::config::{Args, Namespaces, Sandbox};
use crate::privileges::Account;
use crate::transient::Transient;

pub use options::ExecOptions;
pub(crate) use prepare::{inside_tree, prepare};

/// What running programs needs.
#[derive(Debug)]
pub struct Exec {
    /// The table of executions.
    pub executions: Executions,
    bounds: ExecOptions,
    limits: FeatureLimits,
    /// The exported directory as programs see it.
    root: PathBuf,
    environment: Vec<(OsString, OsString)>,
    confinement: Option<Arc<Confinement>>,
    /// What the policy lets every program write to, without devices: only root makes those, or puts something in
    /// their place.
    writable: Vec<PathBuf>,
    allowed: Option<Allowed>,
    /// Why nothing may run, if so.
    unconfined: Option<String>,
}

impl Exec {
    /// Makes an empty table for the tree at `root`.
    ///
    /// # Errors
    ///
    /// The transient directory, the sandbox's policy or the list of allowed programs cannot be used.
    pub fn open(
        args: &Args,
        root: &Path,
        transient: &Transient,
        account: &Account,
    ) -> anyhow::Result<Self> {
        let confinement = match args.sandbox {
            Sandbox::Off => None,
            Sandbox::BestEffort | Sandbox::Require => {
                let policy = args.sandbox_policy.as_deref();
                let reach = policy::reach(policy, root, transient.path())?;
                let mut confinement = Confinement::new(reach);
                enclose(&mut confinement, args.sandbox_namespaces)?;
                Some(Arc::new(confinement))
            }
        };
        let counted = confinement.as_ref().is_some_and(|c| c.limits_processes());
        ensure!(
            counted || !args.bounds.limit_processes(),
            "--exec-limit processes: nothing here counts the processes of one program; that takes namespaces, \
             which need the sandbox and a system that has them for this account"
        );
        let unconfined = report(args.sandbox, confinement.as_deref());
        let allowed = args.exec_allow.as_deref().map(Allowed::read).transpose()?;
        let mut config = ExecutionsConfig::new(transient.path());
        config.confinement.clone_from(&confinement);
        args.bounds.bound(&mut config);
        let limits = args.bounds.features(&config);
        let reach = confinement.as_deref().map(Confinement::reach);
        let named = reach.into_iter().flat_map(|reach| &reach.write);
        let writable = named.filter(|path| !is_device(path)).cloned().collect();
        let home = account.home.as_deref().unwrap_or(root);
        let executions = Executions::new(config)
            .with_context(|| format!("cannot keep executions in {}", transient.path().display()))?;
        Ok(Self {
            executions,
            bounds: args.bounds.clone(),
            limits,
            root: root.to_owned(),
            environment: clean_environment(home.as_os_str(), account.name.as_ref()),
            confinement,
            writable,
            allowed,
            unconfined,
        })
    }

    /// Ends what is left of the programs of a server that was killed, for one that runs none itself.
    ///
    /// # Errors
    ///
    /// What the transient directory says about them cannot be used.
    pub fn end_left(transient: &Transient) -> anyhow::Result<()> {
        let path = transient.path();
        if path.join("exec").exists() {
            Executions::new(ExecutionsConfig::new(path))
                .with_context(|| format!("cannot end the executions in {}", path.display()))?;
        }
        Ok(())
    }

    /// Ends all executions, within a bounded time.
    pub async fn shutdown(&self, patience: Duration) {
        let left = self.executions.shutdown(patience).await;
        if left > 0 {
            tracing::warn!(left, "executions that could not be ended in time");
        }
    }

    /// Reports whether the kernel keeps programs from writing where they may not.
    pub(crate) fn is_confined(&self) -> bool {
        let confinement = self.confinement.as_deref();
        confinement.is_some_and(|confinement| confinement.landlock() > 0)
    }

    /// Returns the paths below the exported directory that every program may write to, besides its own: as
    /// the policy names them, empty for all of it.
    fn writable_inside(&self) -> impl Iterator<Item = Vec<u8>> {
        let named = self.writable.iter();
        // No list lies below what is no directory.
        named.filter(|path| path.is_dir()).filter_map(|path| {
            // As the kernel finds it when the program is started.
            let real = path.canonicalize().ok()?;
            if self.root.starts_with(&real) {
                return Some(Vec::new());
            }
            let inside = real.strip_prefix(&self.root).ok()?;
            Some(inside.as_os_str().as_bytes().to_vec())
        })
    }

    /// Returns what confines programs, for those that run outside the table. `None` where nothing does.
    ///
    /// # Errors
    ///
    /// Why nothing may run.
    pub(crate) fn confinement(&self) -> Result<Option<Arc<Confinement>>, &str> {
        match self.unconfined.as_deref() {
            Some(reason) => Err(reason),
            None => Ok(self.confinement.clone()),
        }
    }

    /// Returns the limits in force for a request.
    pub(crate) fn limits_for(&self, asked: &Limits) -> Limits {
        self.bounds.limits(asked)
    }

    /// Returns the times of stream mode.
    pub(crate) fn stream_settings(&self) -> StreamSettings {
        self.bounds.stream()
    }
}

fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// Gives programs namespaces of their own where `wanted` asks for that and the system has them.
fn enclose(confinement: &mut Confinement, wanted: Namespaces) -> anyhow::Result<()> {
    if wanted == Namespaces::Off {
        return Ok(());
    }
    match confinement.enclose() {
        Ok(()) => {
            tracing::info!("each program has namespaces of its own");
            Ok(())
        }
        Err(error) if wanted == Namespaces::On => Err(error).context(
            "--sandbox-namespaces=on: the system has no user, pid and mount namespaces for this account; \
             it may allow them by sysctl (user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)",
        ),
        Err(error) => {
            tracing::info!(%error, "programs have no namespaces of their own: the system has none for this account");
            Ok(())
        }
    }
}

/// Says in the log what is not enforced, and returns why nothing may run, where that follows.
fn report(sandbox: Sandbox, confinement: Option<&Confinement>) -> Option<String> {
    let Some(confinement) = confinement else {
        tracing::warn!("programs run with all that this account may do: --sandbox=off");
        return None;
    };
    let missing = confinement.missing().join(", ");
    if missing.is_empty() {
        let landlock = confinement.landlock();
        tracing::info!(landlock, "programs are confined");
        return None;
    }
    tracing::warn!(missing, "the sandbox of programs has gaps on this kernel");
    (sandbox == Sandbox::Require).then(|| {
        tracing::warn!("no program will run: --sandbox=require allows no gaps");
        format!("the sandbox that --sandbox=require asks for has gaps on this kernel: {missing}")
    })
}

/// Returns what confines programs, as `features` tells it.
#[must_use]
pub fn sandbox_features(exec: Option<&Exec>) -> SandboxFeatures {
    let confinement = exec.and_then(|exec| exec.confinement.as_deref());
    confinement.map_or_else(SandboxFeatures::default, |confinement| SandboxFeatures {
        landlock: confinement.landlock(),
        seccomp: confinement.seccomp(),
        namespaces: confinement.namespaces(),
        cgroup: false,
    })
}

/// Returns the bounds that `features` tells.
#[must_use]
pub fn feature_limits(exec: Option<&Exec>) -> FeatureLimits {
    exec.map_or_else(FeatureLimits::default, |exec| exec.limits)
}
