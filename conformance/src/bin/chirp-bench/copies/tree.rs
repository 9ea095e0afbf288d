//! The trees that are copied.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;

/// Bytes of each file.
const SIZE: usize = 4096;
/// Files of one directory.
const TOGETHER: usize = 100;

/// Returns the names of the directories in a tree of `count` files.
pub(crate) fn directories(count: usize) -> impl Iterator<Item = String> {
    (0..count.div_ceil(TOGETHER)).map(|at| format!("d{at}"))
}

/// Puts `count` files into the [`directories`] below `directory`, which are there, for `account` if one is given.
pub(crate) fn fill(directory: &Path, count: usize, account: Option<&Account>) -> Result<()> {
    for at in 0..count {
        let path = file(directory, at);
        fs::write(&path, content(at))
            .with_context(|| format!("cannot write {}", path.display()))?;
        if let Some(account) = account {
            account.own(&path)?;
        }
    }
    Ok(())
}

/// Checks that `directory` holds every file of [`fill`], byte for byte.
pub(crate) fn check(directory: &Path, count: usize) -> Result<()> {
    for at in 0..count {
        let path = file(directory, at);
        let found = fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
        ensure!(found == content(at), "{} was changed", path.display());
    }
    Ok(())
}

fn file(directory: &Path, at: usize) -> PathBuf {
    directory.join(format!("d{}/f{at}", at / TOGETHER))
}

/// Bytes that nobody can compress, the same for the same file.
fn content(at: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(at as u64);
    let mut bytes = vec![0; SIZE];
    random.fill(&mut bytes);
    bytes
}
