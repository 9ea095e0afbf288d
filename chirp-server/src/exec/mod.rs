//! Programs for clients: the server's side of `exec-extension.md`. The runner, the frames and the
//! stream are [`exec_ext`]'s; here are rights, confined paths and the answers.

mod prepare;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use exec_ext::runner::{Executions, ExecutionsConfig, clean_environment};
use exec_ext::status::{FeatureLimits, Limits};

use crate::config::{Args, Sandbox};
use crate::privileges::Account;
use crate::transient::Transient;

pub(crate) use prepare::{inside_tree, prepare};

/// Seconds that a program may go on with nobody attached to its streams, unless the request says
/// otherwise.
const ORPHAN_DEFAULT: u64 = 3600;

/// What running programs needs.
#[derive(Debug)]
pub struct Exec {
    /// The table of executions.
    pub executions: Executions,
    limits: FeatureLimits,
    /// The exported directory as programs see it.
    root: PathBuf,
    environment: Vec<(OsString, OsString)>,
    sandbox: Sandbox,
}

impl Exec {
    /// Makes an empty table for the tree at `root`.
    ///
    /// # Errors
    ///
    /// The transient directory cannot be used.
    pub fn open(
        args: &Args,
        root: &Path,
        transient: &Transient,
        account: &Account,
    ) -> anyhow::Result<Self> {
        match args.sandbox {
            Sandbox::Off => {}
            Sandbox::BestEffort => tracing::warn!(
                "programs run with all that this account may do: this version enforces no sandbox"
            ),
            Sandbox::Require => tracing::warn!(
                "no program will run: this version enforces no sandbox, and --sandbox=require asks for one"
            ),
        }
        let config = ExecutionsConfig::new(transient.path());
        let limits = FeatureLimits {
            executions: config.max_executions as u64,
            window_bytes: config.window_bytes as u64,
            ..FeatureLimits::default()
        };
        let home = account.home.as_deref().unwrap_or(root);
        let executions = Executions::new(config)
            .with_context(|| format!("cannot keep executions in {}", transient.path().display()))?;
        Ok(Self {
            executions,
            limits,
            root: root.to_owned(),
            environment: clean_environment(home.as_os_str(), account.name.as_ref()),
            sandbox: args.sandbox,
        })
    }

    /// Ends all executions, within a bounded time.
    pub async fn shutdown(&self, patience: Duration) {
        let left = self.executions.shutdown(patience).await;
        if left > 0 {
            tracing::warn!(left, "executions that could not be ended in time");
        }
    }

    /// Returns the limits in force for a request.
    fn limits_for(&self, asked: &Limits) -> Limits {
        Limits {
            orphan_s: asked.orphan_s.or(Some(ORPHAN_DEFAULT)),
            ..*asked
        }
    }
}

/// Returns the bounds that `features` tells.
#[must_use]
pub fn feature_limits(exec: Option<&Exec>) -> FeatureLimits {
    exec.map_or_else(FeatureLimits::default, |exec| exec.limits)
}
