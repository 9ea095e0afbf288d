//! What the name of a target means.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chirp_proto::{Code, Stat, VirtualPath};

use super::Placement;
use crate::Error;
use crate::error::printable;

/// Returns the remote path that `source` becomes; `there` is what `target` has.
pub(super) fn remote(
    there: Option<&Stat>,
    source: &Path,
    target: &VirtualPath,
    placement: Placement,
) -> Result<VirtualPath, Error> {
    let name = source_name(source.as_os_str().as_bytes());
    match (placement, name) {
        (Placement::Cp, Some(name)) if there.is_some_and(Stat::is_directory) => join(target, name),
        _ => Ok(target.clone()),
    }
}

/// Returns the local path that `source` becomes.
pub(super) fn local(source: &VirtualPath, target: &Path, placement: Placement) -> PathBuf {
    match (placement, source_name(source.as_bytes())) {
        (Placement::Cp, Some(name)) if target.is_dir() => {
            target.join(std::ffi::OsStr::from_bytes(name))
        }
        _ => target.to_owned(),
    }
}

/// Returns the path of an entry of a remote directory; names that the protocol cannot carry are
/// refused.
pub(super) fn join(directory: &VirtualPath, name: &[u8]) -> Result<VirtualPath, Error> {
    let refused = |reason| Error::Argument {
        what: printable(name),
        reason,
    };
    if name.contains(&b'\n') {
        return Err(refused(
            "a name with a line end cannot be told apart in a listing; rename it",
        ));
    }
    if name.starts_with(b".__") {
        return Err(refused(
            "names beginning with .__ are reserved by Chirp servers",
        ));
    }
    directory.join(name).map_err(|code| match code {
        Code::NameTooLong => refused("the path is longer than a server takes"),
        _ => refused("no file name"),
    })
}

/// Returns the last component, or `None` where the source means its content: `/`, `x/.`, `..`.
fn source_name(source: &[u8]) -> Option<&[u8]> {
    let trimmed = source
        .iter()
        .rposition(|&byte| byte != b'/')
        .and_then(|last| source.get(..=last))?;
    let name = trimmed.rsplit(|&byte| byte == b'/').next()?;
    (name != b"." && name != b"..").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_source_is_that_of_cp() {
        for (source, name) in [
            ("a", Some("a")),
            ("/x/a//", Some("a")),
            ("a/.", None),
            ("./a", Some("a")),
            (".", None),
            ("a/..", None),
            ("/", None),
            ("", None),
        ] {
            let found = source_name(source.as_bytes());
            assert_eq!(found, name.map(str::as_bytes), "{source}");
        }
    }

    #[test]
    fn names_that_cannot_be_carried_are_refused() {
        let root = VirtualPath::root();
        assert!(join(&root, b"a b\xff").is_ok());
        for name in [&b"a\nb"[..], b".__acl", &[b'a'; 256], b"a\0"] {
            assert!(join(&root, name).is_err());
        }
    }
}
