//! What a script leaves behind, looked at on the host, or asked for where that cannot be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::generate::PLACE;
use crate::connection::{Connection, Stop};
use crate::target::Target;

/// What lies under each path, in a form to compare and to read.
pub type Tree = BTreeMap<String, String>;

/// What the list of the root is found under: links of the place lead there.
const ROOT_LIST: &str = "/.__acl";

/// Directories within each other that are asked for; more than a script can make.
const DEPTH: usize = 64;

/// Reads the place of scripts on two servers, on both in the same way; on the host the list of the root, too.
///
/// # Errors
///
/// Fails if something in it cannot be read.
pub fn read(servers: [&dyn Target; 2]) -> Result<[Tree; 2]> {
    let [left, right] = servers;
    Ok(match (left.served(), right.served()) {
        (Some(left), Some(right)) => [on_host(&left)?, on_host(&right)?],
        _ => [asked_for(left)?, asked_for(right)?],
    })
}

fn on_host(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let place = root.join(PLACE.trim_start_matches('/'));
    // A script may have put a file there, or nothing.
    if place.is_dir() {
        walk(&place, &place, &mut tree)?;
    }
    // There is none where the server's default holds.
    if let Ok(list) = fs::read(root.join(".__acl")) {
        tree.insert(ROOT_LIST.to_owned(), list.escape_ascii().to_string());
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

/// Reads the place through the server. What the scripts' first subject may not read is told by the
/// refusal.
fn asked_for(server: &dyn Target) -> Result<Tree> {
    let mut connection = Connection::open(server.address())?;
    connection.log_in_by_unix(server.account())?;
    let mut tree = Tree::new();
    ask_directory(&mut connection, PLACE, DEPTH, &mut tree)?;
    Ok(tree)
}

fn ask_directory(
    connection: &mut Connection,
    path: &str,
    depth: usize,
    tree: &mut Tree,
) -> Result<()> {
    let list = ask(connection, &format!("getacl {path}\n"))?;
    let listing = ask(connection, &format!("getdir {path}\n"))?;
    tree.insert(path.to_owned(), format!("directory, list {list}"));
    let Some(names) = listing.strip_prefix("0\n") else {
        tree.insert(format!("{path}/"), format!("listing {listing}"));
        return Ok(());
    };
    for name in names.lines() {
        if name.is_empty() || name == "." || name == ".." {
            continue;
        }
        let name = name.replace('%', "%25").replace(' ', "%20");
        let path = format!("{path}/{name}");
        let stat = ask(connection, &format!("lstat {path}\n"))?;
        let word = |at| stat.split_ascii_whitespace().nth(at).unwrap_or_default();
        let mode: u32 = word(3).parse().unwrap_or_default();
        let shown = match mode & 0o170_000 {
            0o040_000 if depth > 0 => {
                ask_directory(connection, &path, depth - 1, tree)?;
                continue;
            }
            0o120_000 => ask(connection, &format!("readlink {path} 4096\n"))?,
            _ => {
                let content = ask(connection, &format!("getfile {path}\n"))?;
                format!("file {mode:o}, {} links, {content}", word(4))
            }
        };
        tree.insert(path, shown);
    }
    Ok(())
}

fn ask(connection: &mut Connection, request: &str) -> Result<String> {
    connection.send(request.as_bytes())?;
    let mut reply = Vec::new();
    let stop = connection.settle(&mut reply)?;
    ensure!(stop == Stop::Satisfied, "{request:?}: {stop:?}");
    // One code point for each byte; names and texts are compared, not understood.
    Ok(reply.iter().copied().map(char::from).collect())
}
