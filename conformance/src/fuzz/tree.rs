//! What a script leaves behind, looked at on the host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::generate::PLACE;
use crate::target::Server;

/// What lies under each path, in a form to compare and to read.
pub type Tree = BTreeMap<String, String>;

/// Reads the place of scripts on a server.
///
/// # Errors
///
/// Fails if something in it cannot be read.
pub fn read(server: &Server) -> Result<Tree> {
    let mut tree = Tree::new();
    let place = server.root().join(PLACE.trim_start_matches('/'));
    // A script may have put a file there, or nothing.
    if place.is_dir() {
        walk(&place, &place, &mut tree)?;
    }
    Ok(tree)
}

fn walk(place: &Path, directory: &Path, tree: &mut Tree) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        // Other hidden names are a server's own affair; a list is compared as it is written.
        if name.starts_with(b".__") && name != b".__acl" {
            continue;
        }
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.mode();
        let shown = if metadata.is_dir() {
            walk(place, &path, tree)?;
            format!("directory {mode:o}")
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path)?;
            format!("link to {}", target.as_os_str().as_bytes().escape_ascii())
        } else {
            let content =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            format!(
                "file {mode:o}, {} links, {}",
                metadata.nlink(),
                content.escape_ascii()
            )
        };
        let path = path
            .strip_prefix(place)?
            .as_os_str()
            .as_bytes()
            .escape_ascii();
        tree.insert(path.to_string(), shown);
    }
    Ok(())
}
