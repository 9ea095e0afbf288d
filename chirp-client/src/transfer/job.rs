//! What all parts of one running transfer share.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chirp_proto::acl::{Acl, Rights};
use chirp_proto::{Code, VirtualPath};
use sha2::{Digest, Sha256};

use super::digest::Algorithm;
use super::facts::Facts;
use super::tally::{Count, Tally};
use super::worker::many;
use super::{Existing, Summary, TransferOptions};
use crate::{Client, Error};

/// How long the end of a transfer may take for removing unfinished files on the server.
const CLEANING_MAX: Duration = Duration::from_secs(3);

/// A running transfer.
pub(super) struct Job<'a> {
    /// The connection of the caller: listings and small requests.
    pub(super) client: &'a Client,
    pub(super) options: &'a TransferOptions,
    pub(super) tally: Tally,
    /// Whether the server takes whole files in one step.
    pub(super) store: bool,
    /// Whether the server puts a `putfile` into place only when it is whole.
    pub(super) whole: bool,
    /// Devices of the server, and whether the sizes of files there mean nothing.
    pseudo: Mutex<HashMap<u64, bool>>,
    /// Unfinished files on the server.
    debris: Mutex<HashSet<VirtualPath>>,
    /// Directories of the server, and whether files may be renamed there.
    renaming: Mutex<HashMap<Vec<u8>, bool>>,
}

impl<'a> Job<'a> {
    /// Begins a transfer; asks the server what it can.
    pub(super) async fn begin(
        client: &'a Client,
        options: &'a TransferOptions,
        tally: &Tally,
    ) -> Result<Self, Error> {
        let features = client.features().await?;
        let store = features.is_some_and(|features| features.features.contains_key("store"));
        Ok(Self {
            store: store && options.preserve,
            whole: features.is_some(),
            ..Self::quiet(client, options, tally)
        })
    }

    /// Begins a transfer that takes the server as any other.
    pub(super) fn quiet(client: &'a Client, options: &'a TransferOptions, tally: &Tally) -> Self {
        Self {
            client,
            options,
            tally: tally.clone(),
            store: false,
            whole: false,
            debris: Mutex::default(),
            renaming: Mutex::default(),
            pseudo: Mutex::default(),
        }
    }

    /// Returns the best digest that the server can compute.
    pub(super) async fn algorithm(&self) -> Result<Algorithm, Error> {
        let features = self.client.features().await?;
        let has = features.is_some_and(|features| features.features.contains_key("sha256"));
        Ok(if has {
            Algorithm::Sha256
        } else {
            Algorithm::Md5
        })
    }

    /// Reports whether files on a device of the server are made up as they are read, so that their
    /// sizes mean nothing; `directory` is one there.
    pub(super) async fn is_pseudo(
        &self,
        device: u64,
        directory: &VirtualPath,
    ) -> Result<bool, Error> {
        if let Some(&known) = locked(&self.pseudo).get(&device) {
            return Ok(known);
        }
        let pseudo = match self.client.statfs(directory).await {
            Ok(found) => PSEUDO.contains(&found.kind),
            Err(Error::Refused { .. }) => false,
            Err(error) => return Err(error),
        };
        locked(&self.pseudo).insert(device, pseudo);
        Ok(pseudo)
    }

    /// Runs the transfer until it ends or is cancelled, and removes what is unfinished then.
    pub(super) async fn run(
        &self,
        work: impl Future<Output = Result<(), Error>>,
    ) -> Result<Summary, Error> {
        let result = tokio::select! {
            biased;
            () = self.options.cancel.cancelled() => Err(Error::Cancelled),
            result = work => result,
        };
        self.clean().await;
        result.and_then(|()| self.tally.finish())
    }

    /// Reports whether what is there already is looked at.
    pub(super) fn compares(&self) -> bool {
        self.options.existing != Existing::Replace || self.options.delete || self.options.resume
    }

    /// Returns the name beside `name` under which a part of this very version of the file is kept.
    pub(super) fn part_name(name: &[u8], from: &Facts) -> Vec<u8> {
        let mut digest = Sha256::new();
        digest.update(name);
        digest.update([0]);
        digest.update(from.size.to_le_bytes());
        digest.update(from.mtime.to_le_bytes());
        let digest = digest.finalize();
        let mut part = PART_PREFIX.to_vec();
        for byte in digest.iter().take(12) {
            part.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        part
    }

    /// Remembers a file on the server that is to be removed if the transfer ends before it has its
    /// name.
    pub(super) fn unfinished(&self, path: &VirtualPath) {
        locked(&self.debris).insert(path.clone());
    }

    /// Forgets it: it has its name, or is gone.
    pub(super) fn finished(&self, path: &VirtualPath) {
        locked(&self.debris).remove(path);
    }

    async fn clean(&self) {
        let debris = std::mem::take(&mut *locked(&self.debris));
        if debris.is_empty() {
            return;
        }
        let (client, spare);
        // The connection may be in the middle of something, or lost.
        match self.client.connect_another().await {
            Some(Ok(another)) => {
                spare = another;
                client = &spare;
            }
            _ => client = self.client,
        }
        let removing = many(debris, |path| async move {
            let _gone = client.unlink(&path).await;
            Ok(())
        });
        let _in_time = tokio::time::timeout(CLEANING_MAX, removing).await;
    }

    /// Reports whether our rights in the directory of `path` allow to write a file under another
    /// name and rename it.
    pub(super) async fn may_rename(&self, path: &VirtualPath) -> Result<bool, Error> {
        let Some((parent, _)) = path.split_last() else {
            return Ok(false);
        };
        if self.client.is_condor() {
            // Nothing tells. Who has the cookie is the account that the server runs under.
            return Ok(true);
        }
        if let Some(&known) = locked(&self.renaming).get(parent) {
            return Ok(known);
        }
        let directory = VirtualPath::from_decoded(parent).map_err(|code| Error::Argument {
            what: path.to_string(),
            reason: code.text(),
        })?;
        let allowed = match self.client.getacl(&directory).await {
            Ok(lines) => {
                let needed = Rights::READ.union(Rights::WRITE).union(Rights::DELETE);
                let list = Acl::parse(&lines.join(&b'\n'));
                list.rights_of(&self.client.subject().to_string())
                    .contains(needed)
            }
            Err(Error::Refused { .. }) => false,
            Err(error) => return Err(error),
        };
        locked(&self.renaming).insert(parent.to_vec(), allowed);
        Ok(allowed)
    }

    /// Counts a mode or time that the rights do not allow to set; any other error is handed back.
    pub(super) fn attribute(&self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if error.code() == Some(Code::NotAuthorized) => {
                self.tally.one(Count::Unset);
                Ok(())
            }
            other => other,
        }
    }
}

/// The magic numbers of file systems whose files are made up as they are read: proc, sysfs, cgroup,
/// cgroup2, debugfs, tracefs, securityfs.
const PSEUDO: [i64; 7] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
];

/// How the names of parts begin.
pub(super) const PART_PREFIX: &[u8] = b".chirp-part.";

/// Locks what a panic elsewhere leaves usable.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
