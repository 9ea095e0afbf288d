//! What is left in a directory: names, kinds, modes, contents, texts of links, lists of rights.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// How much of a file is shown; of the rest a sum tells.
const SHOWN: usize = 200;

/// Lists everything below a directory, sorted by name, with the contents of files as `normal` makes
/// them. Of the names that a server reserves only the lists of rights count.
pub(super) fn list(directory: &Path, normal: impl FnMut(&[u8]) -> Vec<u8>) -> Result<Vec<String>> {
    let mut visit = Visit {
        normal,
        linked: BTreeMap::new(),
        lines: Vec::new(),
    };
    visit.directory(directory, "")?;
    Ok(visit.lines)
}

struct Visit<F> {
    normal: F,
    /// The first name of each file that has several.
    linked: BTreeMap<u64, String>,
    lines: Vec<String>,
}

impl<F: FnMut(&[u8]) -> Vec<u8>> Visit<F> {
    fn directory(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        let listing = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        let mut paths = listing
            .map(|item| Ok(item?.path()))
            .collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path
                .file_name()
                .unwrap_or_default()
                .as_encoded_bytes()
                .escape_ascii();
            let name = name.to_string();
            if name.starts_with(".__") && name != ".__acl" {
                continue;
            }
            let name = format!("{prefix}/{name}");
            let metadata = fs::symlink_metadata(&path)?;
            let mode = metadata.permissions().mode();
            if metadata.is_dir() {
                self.lines.push(format!("{name} {mode:o}"));
                self.directory(&path, &name)?;
            } else if metadata.is_symlink() {
                self.lines
                    .push(format!("{name} -> {}", fs::read_link(&path)?.display()));
            } else if metadata.is_file() {
                if metadata.nlink() > 1
                    && let Some(first) = self.linked.get(&metadata.ino())
                {
                    self.lines.push(format!("{name} is {first}"));
                    continue;
                }
                self.linked.insert(metadata.ino(), name.clone());
                let content = (self.normal)(&fs::read(&path)?);
                let start = content.get(..SHOWN).unwrap_or(&content);
                self.lines.push(format!(
                    "{name} {mode:o} {} bytes, sum {}: {}",
                    content.len(),
                    sum(&content),
                    start.escape_ascii()
                ));
            } else {
                self.lines.push(format!("{name} {mode:o}"));
            }
        }
        Ok(())
    }
}

/// Adds up the bytes so that a changed or moved one shows.
fn sum(content: &[u8]) -> u64 {
    content.iter().fold(1, |sum, byte| {
        u64::wrapping_mul(sum, 31).wrapping_add(u64::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn everything_but_reserved_names_is_listed() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::set_permissions(at("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(at("d/a"), "x\n").unwrap();
        fs::set_permissions(at("d/a"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(at("d/a"), at("d/b")).unwrap();
        symlink("a", at("d/l")).unwrap();
        fs::write(at("d/.__acl"), "").unwrap();
        fs::set_permissions(at("d/.__acl"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(at("d/.__ticket.1"), "").unwrap();
        assert_eq!(
            list(top.path(), <[u8]>::to_vec).unwrap(),
            [
                "/d 40700",
                "/d/.__acl 100600 0 bytes, sum 1: ",
                "/d/a 100640 2 bytes, sum 4691: x\\n",
                "/d/b is /d/a",
                "/d/l -> a",
            ]
        );
    }
}
