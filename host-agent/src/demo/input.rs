//! The demo's input: which files, and how they are split into shards.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use walkdir::WalkDir;

/// Files of the default input at most, so that the demo stays well under a minute on two slow cores.
const DEFAULT_FILES: usize = 3_000;

/// Bytes of the default input at most.
const DEFAULT_BYTES: u64 = 32 * 1024 * 1024;

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
pub(super) fn choose(directory: Option<&Path>, shards: usize) -> anyhow::Result<Input> {
    let input = match directory {
        Some(directory) => {
            let files = walk(directory, |_| true)?;
            Input {
                description: format!("all {} files below {}", files.len(), directory.display()),
                files,
            }
        }
        None => cargo_sources()?,
    };
    if input.files.len() < shards {
        bail!(
            "only {} files to count, fewer than {shards} shards; name a larger directory with --input DIR",
            input.files.len()
        );
    }
    Ok(input)
}

fn cargo_sources() -> anyhow::Result<Input> {
    let remedy = "name a directory of text files with --input DIR";
    let cargo = std::env::var_os("CARGO_HOME")
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
    let files = thin(all, DEFAULT_FILES, DEFAULT_BYTES);
    let description = format!(
        "{} of the {found} text files below {}, spread evenly and the same each time; --input DIR takes all \
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

/// Takes at most so many files and bytes, spread evenly over the list.
fn thin(all: Vec<InputFile>, files: usize, bytes: u64) -> Vec<InputFile> {
    let total = all.len();
    let average = all.iter().map(|file| file.size).sum::<u64>() / total.max(1) as u64;
    let by_bytes = usize::try_from(bytes / average.max(1)).unwrap_or(usize::MAX);
    let take = files.min(by_bytes).min(total);
    let mut left = bytes;
    all.into_iter()
        .enumerate()
        // Of `total` places, `take` are hit: those where the running share passes a whole number.
        .filter(|(place, _)| (place + 1) * take / total > place * take / total)
        .map(|(_, file)| file)
        .take_while(|file| {
            let fits = file.size <= left;
            left = left.saturating_sub(file.size);
            fits
        })
        .collect()
}

/// Splits the files into so many shards of nearly the same size.
pub(super) fn split(mut files: Vec<InputFile>, shards: usize) -> Vec<Shard> {
    let mut parts: Vec<(u64, Shard)> = (0..shards)
        .map(|number| {
            (
                0,
                Shard {
                    number,
                    files: Vec::new(),
                },
            )
        })
        .collect();
    // The largest first, each to the lightest shard; a file weighs at least what its round trips cost.
    files.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    for file in files {
        if let Some((weight, shard)) = parts
            .iter_mut()
            .min_by_key(|(weight, shard)| (*weight, shard.number))
        {
            *weight += file.size + 4096;
            shard.files.push(file);
        }
    }
    parts
        .into_iter()
        .map(|(_, shard)| shard)
        .filter(|shard| !shard.files.is_empty())
        .collect()
}

/// Copies a shard's files below `input/` in a new directory, beside the job's script.
///
/// # Errors
///
/// A file cannot be read or written.
pub(super) fn stage(shard: &Shard, directory: &Path, script: &str) -> anyhow::Result<()> {
    fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(directory.join("count.sh"), script)?;
    let input = directory.join("input");
    fs::create_dir(&input)?;
    for (number, file) in shard.files.iter().enumerate() {
        // No Chirp listing can carry a line's end in a name; the words do not depend on names.
        let odd = file.relative.as_os_str().as_bytes().contains(&b'\n');
        let to = if odd {
            input.join(format!("renamed-{number}"))
        } else {
            input.join(&file.relative)
        };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let copied = fs::read(&file.path).and_then(|bytes| fs::write(&to, bytes));
        copied
            .with_context(|| format!("cannot copy {} to {}", file.path.display(), to.display()))?;
    }
    Ok(())
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

    #[test]
    fn thinning_spreads_evenly_and_keeps_the_bounds() {
        let all = files(&[10; 100]);
        let some = thin(all.clone(), 10, u64::MAX);
        assert_eq!(some.len(), 10);
        assert!(some.iter().any(|file| *file.path < *Path::new("/in/0010")));
        assert!(some.iter().any(|file| *file.path >= *Path::new("/in/0090")));
        let bytes: u64 = thin(all.clone(), 100, 155)
            .iter()
            .map(|file| file.size)
            .sum();
        assert!((100..=155).contains(&bytes), "{bytes}");
        assert_eq!(thin(all.clone(), 1000, u64::MAX), all);
        assert!(thin(Vec::new(), 10, 10).is_empty());
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
        assert!(most - least < 250_000, "{weights:?}");
    }

    #[test]
    fn staging_keeps_paths_and_renames_what_chirp_cannot_carry() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/plain"), "x").unwrap();
        fs::write(from.join("line\nend"), "y").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let found = choose(Some(&from), 1).unwrap();
        let [shard] = split(found.files, 1).try_into().unwrap();
        let to = directory.path().join("to");
        stage(&shard, &to, "script").unwrap();
        assert_eq!(fs::read(to.join("input/a/b/plain")).unwrap(), b"x");
        let names: Vec<_> = fs::read_dir(to.join("input"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(
            names
                .iter()
                .any(|name| name.to_string_lossy().starts_with("renamed-"))
        );
    }
}
