//! The demo's input: which files, and how they are split into shards.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use walkdir::WalkDir;

use super::words::SCRIPT;

/// How much of cargo's sources is counted at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount {
    /// Files.
    pub(super) files: usize,
    /// Bytes.
    pub(super) bytes: u64,
}

/// So much that the demo stays well under a minute on two slow cores.
pub(super) const FOR_PROCESSES: Amount = Amount {
    files: 3_000,
    bytes: 32 * 1024 * 1024,
};

/// What processors that are emulated do in that time.
pub(super) const FOR_MACHINES: Amount = Amount {
    files: 400,
    bytes: 4 * 1024 * 1024,
};

/// Bytes of one file of the default input at most: generated tables are no text to read.
const DEFAULT_FILE_BYTES: u64 = 256 * 1024;

/// Endings of the default input's files.
const TEXT: &[&str] = &["rs", "md", "toml", "txt"];

/// One file to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InputFile {
    /// Where it is on this host.
    pub(super) path: PathBuf,
    /// Its path below the input directory.
    pub(super) relative: PathBuf,
    /// Its bytes, as far as the directory tells.
    pub(super) size: u64,
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Input {
    /// The files, in order of their paths.
    pub(super) files: Vec<InputFile>,
    /// What was chosen from where, for people.
    pub(super) description: String,
}

/// A part of the input that one guest counts at a time.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    /// Its number, from 0.
    pub(super) number: usize,
    /// Its files.
    pub(super) files: Vec<InputFile>,
}

impl Shard {
    /// Returns the bytes of its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Chooses the input: every regular file below `directory`, or without one a part of the sources that
/// cargo has on this machine.
///
/// # Errors
///
/// The directory cannot be read, or holds too few files to split.
pub(super) fn choose(
    directory: Option<&Path>,
    amount: Amount,
    shards: usize,
) -> anyhow::Result<Input> {
    let input = match directory {
        Some(directory) => {
            let files = walk(directory, |_| true)?;
            Input {
                description: format!("all {} files below {}", files.len(), directory.display()),
                files,
            }
        }
        None => cargo_sources(amount)?,
    };
    if input.files.len() < shards {
        bail!(
            "only {} files to count, fewer than {shards} shards; name a larger directory with --input DIR",
            input.files.len()
        );
    }
    Ok(input)
}

fn cargo_sources(amount: Amount) -> anyhow::Result<Input> {
    let remedy = "name a directory of text files with --input DIR";
    let cargo = std::env::var_os("CARGO_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .with_context(|| {
            format!("there is no home directory to find cargo's sources in; {remedy}")
        })?;
    let directory = cargo.join("registry/src");
    if !directory.is_dir() {
        bail!("cargo has no sources in {}; {remedy}", directory.display());
    }
    let all = walk(&directory, |file| {
        file.size <= DEFAULT_FILE_BYTES
            && file
                .path
                .extension()
                .is_some_and(|ending| TEXT.iter().any(|&text| ending == text))
    })?;
    let found = all.len();
    let files = thin(&all, amount.files, amount.bytes);
    let description = format!(
        "{} of the {found} text files below {}, in whole packages, the same each time; --input DIR takes all \
         of another directory",
        files.len(),
        directory.display()
    );
    Ok(Input { files, description })
}

/// Returns the wanted regular files below a directory in order of their paths. Links are not followed.
fn walk(directory: &Path, wanted: impl Fn(&InputFile) -> bool) -> anyhow::Result<Vec<InputFile>> {
    let directory = fs::canonicalize(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in WalkDir::new(&directory).sort_by_file_name() {
        let entry = entry.context("cannot read the input")?;
        if !entry.file_type().is_file() {
            continue;
        }
        let size = entry.metadata().context("cannot read the input")?.len();
        let relative = entry
            .path()
            .strip_prefix(&directory)
            .unwrap_or_else(|_| entry.path())
            .to_owned();
        let file = InputFile {
            relative,
            path: entry.into_path(),
            size,
        };
        if wanted(&file) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Takes whole packages, spread evenly over the list, as long as they fit into so many files and bytes.
fn thin(all: &[InputFile], files: usize, bytes: u64) -> Vec<InputFile> {
    let size: u64 = all.iter().map(|file| file.size).sum();
    // The share that fits, in parts of a million; whole numbers, so that every machine takes the same.
    let part = |most: u64, there: u64| most.saturating_mul(MILLION).checked_div(there);
    let by_files = part(files as u64, all.len() as u64).unwrap_or(MILLION);
    let share = by_files
        .min(part(bytes, size).unwrap_or(MILLION))
        .min(MILLION);
    let packages: Vec<&[InputFile]> = all.chunk_by(|a, b| package(a) == package(b)).collect();
    let (mut due, mut even, mut others) = (0, Vec::new(), Vec::new());
    for (place, package) in packages.into_iter().enumerate() {
        due += share;
        if due >= MILLION {
            due -= MILLION;
            even.push((place, package));
        } else {
            others.push((place, package));
        }
    }
    // Packages differ in size, so an even choice may leave room: the others fill it.
    let (mut left_files, mut left_bytes) = (files, bytes);
    let mut taken = Vec::new();
    for (place, package) in even.into_iter().chain(others) {
        let package_bytes: u64 = package.iter().map(|file| file.size).sum();
        if package.len() <= left_files && package_bytes <= left_bytes {
            left_files -= package.len();
            left_bytes -= package_bytes;
            taken.push((place, package));
        }
    }
    taken.sort_by_key(|&(place, _)| place);
    taken
        .into_iter()
        .flat_map(|(_, package)| package)
        .cloned()
        .collect()
}

const MILLION: u64 = 1_000_000;

/// Returns the directory of a package's sources: `INDEX/NAME-VERSION` below cargo's.
fn package(file: &InputFile) -> Vec<&std::ffi::OsStr> {
    file.relative.iter().take(2).collect()
}

/// Splits the files into at most so many shards of nearly the same size, each a run of neighbours: a
/// directory is made again in few shards only.
pub(super) fn split(files: Vec<InputFile>, shards: usize) -> Vec<Shard> {
    // A file weighs at least what its round trips cost.
    let weight = |file: &InputFile| file.size + 4096;
    let total: u64 = files.iter().map(weight).sum();
    let mut parts: Vec<Vec<InputFile>> = vec![Vec::new(); shards];
    let mut before = 0;
    for file in files {
        let middle = before + weight(&file) / 2;
        before += weight(&file);
        let place = (u128::from(middle) * shards as u128).checked_div(u128::from(total));
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(part) = place.and_then(|place| parts.get_mut(place)) {
            part.push(file);
        }
    }
    let parts = parts.into_iter().filter(|files| !files.is_empty());
    (0..)
        .zip(parts)
        .map(|(number, files)| Shard { number, files })
        .collect()
}

/// Makes copies of shards in tasks that can be stopped and waited for: nothing may write into the temporary
/// directory while it is removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Stager {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Stager {
    /// Copies a shard's files below `input/` in a new directory, beside the job's script.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written, or the demo is being stopped.
    pub(super) async fn stage(&self, shard: &Shard, directory: &Path) -> anyhow::Result<()> {
        let (shard, directory, stop) = (shard.clone(), directory.to_owned(), self.stop.clone());
        self.tasks
            .spawn_blocking(move || stage(&shard, &directory, SCRIPT, &stop))
            .await?
    }

    /// Stops all copying and waits until nothing writes any more.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn stage(
    shard: &Shard,
    directory: &Path,
    script: &str,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if stop.is_cancelled() {
        bail!("stopped");
    }
    fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(directory.join("count.sh"), script)?;
    let input = directory.join("input");
    fs::create_dir(&input)?;
    for (number, file) in shard.files.iter().enumerate() {
        if stop.is_cancelled() {
            bail!("stopped");
        }
        // The words do not depend on names.
        let odd = !is_portable(&file.relative);
        let to = if odd {
            input.join(format!("renamed-{number}"))
        } else {
            input.join(&file.relative)
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let copied = fs::File::open(&file.path)
            .and_then(|mut from| std::io::copy(&mut from, &mut fs::File::create(&to)?));
        copied
            .with_context(|| format!("cannot copy {} to {}", file.path.display(), to.display()))?;
    }
    Ok(())
}

/// Returns whether a Chirp server takes this path: no listing can carry a line's end, and the names of its
/// own files are refused.
fn is_portable(path: &Path) -> bool {
    let own = |name: &[u8]| name.starts_with(b".__") || name.ends_with(b".__acl");
    path.components().all(|name| {
        let name = name.as_os_str().as_bytes();
        !own(name) && !name.contains(&b'\n')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<InputFile> {
        sizes
            .iter()
            .enumerate()
            .map(|(number, &size)| InputFile {
                path: format!("/in/{number:04}").into(),
                relative: format!("{number:04}").into(),
                size,
            })
            .collect()
    }

    /// Packages of ten files of ten bytes each.
    fn packages(count: usize) -> Vec<InputFile> {
        let mut all = files(&vec![10; count * 10]);
        for (number, file) in all.iter_mut().enumerate() {
            file.relative = format!("index/{:03}/{number:04}", number / 10).into();
        }
        all
    }

    #[test]
    fn thinning_takes_whole_packages_evenly_and_keeps_the_bounds() {
        let all = packages(100);
        let some = thin(&all, 100, u64::MAX);
        assert_eq!(some.len(), 100);
        assert!(
            some.chunk_by(|a, b| package(a) == package(b))
                .all(|p| p.len() == 10)
        );
        assert!(
            some.iter()
                .any(|file| file.relative.starts_with("index/009"))
        );
        assert!(
            some.iter()
                .any(|file| file.relative.starts_with("index/099"))
        );
        let bytes: u64 = thin(&all, 1000, 1550).iter().map(|file| file.size).sum();
        assert!((1000..=1550).contains(&bytes), "{bytes}");
        assert_eq!(thin(&all, 1000, u64::MAX), all);
        assert!(thin(&[], 10, 10).is_empty());
        assert!(thin(&files(&[0; 100]), 10, 0).len() <= 10);
    }

    #[test]
    fn shards_hold_every_file_once_and_weigh_the_same() {
        let all = files(&(0..200).map(|n| n * 1000).collect::<Vec<_>>());
        let shards = split(all.clone(), 7);
        assert_eq!(shards.len(), 7);
        let mut again: Vec<_> = shards
            .iter()
            .flat_map(|shard| shard.files.clone())
            .collect();
        again.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(again, all);
        let weights: Vec<u64> = shards.iter().map(Shard::bytes).collect();
        let (least, most) = (weights.iter().min().unwrap(), weights.iter().max().unwrap());
        // Each end of a shard lies at most half the largest file off its place.
        assert!(most - least < 2 * 210_000, "{weights:?}");
        assert_eq!(split(files(&[5]), 7).len(), 1);
        assert!(split(Vec::new(), 7).is_empty());
    }

    #[test]
    fn staging_keeps_paths_and_renames_what_chirp_cannot_carry() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/plain"), "x").unwrap();
        fs::write(from.join("line\nend"), "y").unwrap();
        fs::write(from.join(".__acl"), "z").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let found = choose(Some(&from), FOR_PROCESSES, 1).unwrap();
        let [shard] = split(found.files, 1).try_into().unwrap();
        let to = directory.path().join("to");
        stage(&shard, &to, "script", &CancellationToken::new()).unwrap();
        assert_eq!(fs::read(to.join("input/a/b/plain")).unwrap(), b"x");
        let names: Vec<_> = fs::read_dir(to.join("input"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let renamed = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("renamed-");
        assert_eq!(names.iter().filter(renamed).count(), 2, "{names:?}");
    }
}
