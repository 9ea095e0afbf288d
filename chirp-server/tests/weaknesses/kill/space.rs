//! What the server says of its space, against a count that is made past it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::{Place, Server};

/// Every allocation has the size that its state says, and the use that its files add up to.
#[track_caller]
pub(super) fn check(place: &Place, server: &Server<'_>, context: &str) {
    let mut figures = Vec::new();
    let root = place.base("root");
    assert!(root.join(".__alloc").exists(), "the root is an allocation");
    count(&root, "/", &mut figures);
    let mut owner = server.owner();
    for (path, size, used) in figures {
        let answer = String::from_utf8(owner.answer(format!("lsalloc {path}\n"))).unwrap();
        assert_eq!(answer, format!("0\n{path} {size} {used}\n"), "{context}");
    }
}

/// Returns what a directory costs the allocation that it is in; adds the allocations in it.
fn count(host: &Path, path: &str, figures: &mut Vec<(String, u64, u64)>) -> u64 {
    let mut used = 0;
    for entry in fs::read_dir(host).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let meta = entry.metadata().unwrap();
        if name.starts_with(".__") {
            continue;
        }
        if meta.is_dir() {
            used += count(
                &entry.path(),
                &format!("{}/{name}", path.trim_end_matches('/')),
                figures,
            );
        } else if meta.is_file() {
            used += meta.size().div_ceil(4096) * 4096;
        }
    }
    match fs::read_to_string(host.join(".__alloc")) {
        Ok(state) => {
            let size = state.split_whitespace().next().unwrap().parse().unwrap();
            // Nobody may ask about one that a removal has left without its list, which goes last.
            if host.join(".__acl").exists() {
                figures.push((path.to_owned(), size, used));
            } else {
                assert_eq!(used, 0, "{path} has lost its list, but not its files");
            }
            size
        }
        Err(_) => used,
    }
}
