//! What a subject must hold for a job, when it is created and again when it is run.
//!
//! To run anything, the execute right, as for `exec`: in the directory of the program where that
//! lies in the tree, whether it is named there or bound into the sandbox from there, and in `/` for
//! every other one. For its files, R where an input lies and W where an output goes.

use std::path::Path;

use chirp_proto::acl::Rights;
use chirp_proto::{Code, VirtualPath};

use super::description::{Binding, Description, File, Kind};
use super::sandbox::TaskPath;
use super::text::Text;
use crate::authorize::{Door, Failure};

/// How often a path is looked at anew because it changed meanwhile.
const RACES_MAX: usize = 16;

/// Checks a description against the rights of whoever sends it.
///
/// # Errors
///
/// -2, -3 where the directory of a binding is missing, -8 and -24 for what cannot be a path here or in
/// the sandbox.
pub(super) fn check(root: &Path, door: Door<'_>, description: &Description) -> Result<(), Code> {
    may_run(root, door, description)?;
    for file in &description.files {
        TaskPath::parse(&file.task_path)?;
        // Those will not be used: the job's status says so when it comes to that.
        if file.binding != Binding::Url {
            let path = server_path(&file.serv_path)?;
            retried(door, || door.bind(&path, needed(file)).map(drop))?;
        }
    }
    Ok(())
}

/// Checks that the program may be run.
///
/// # Errors
///
/// As [`check`].
pub(super) fn may_run(root: &Path, door: Door<'_>, description: &Description) -> Result<(), Code> {
    let path = match place(root, description)? {
        Some(place) => place,
        None => VirtualPath::root(),
    };
    retried(door, || door.bind(&path, Rights::EXECUTE).map(drop))
}

/// Returns the right that a binding needs where its file lies.
pub(super) const fn needed(file: &File) -> Rights {
    match file.kind {
        Kind::Input => Rights::READ,
        Kind::Output => Rights::WRITE,
    }
}

/// Returns the path that a binding means. It is not escaped.
///
/// # Errors
///
/// -24, -8.
pub(super) fn server_path(path: &Text) -> Result<VirtualPath, Code> {
    VirtualPath::from_decoded(path.as_bytes())
}

/// Repeats a check whose object was replaced meanwhile, or for which a group is fetched first. Only for
/// threads that may wait.
///
/// # Errors
///
/// The check's, or -11 if that goes on.
pub(super) fn retried<T>(
    door: Door<'_>,
    mut action: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Code> {
    for _ in 0..RACES_MAX {
        match action() {
            Ok(value) => return Ok(value),
            Err(Failure::Stale) => {}
            Err(Failure::Group(group)) => door.fetch_waiting(&group),
            Err(Failure::Code(code)) => return Err(code),
        }
    }
    Err(Code::TryAgain)
}

/// Returns where in the tree the program lies, if it does.
fn place(root: &Path, description: &Description) -> Result<Option<VirtualPath>, Code> {
    let executable = &description.executable;
    if executable.as_bytes().starts_with(b"/") {
        return Ok(crate::exec::inside_tree(
            root,
            Path::new(executable.as_os_str()),
        ));
    }
    let named = |path: &Text| -> Vec<Vec<u8>> {
        let names = path.as_bytes().split(|&byte| byte == b'/');
        names
            .filter(|name| !name.is_empty() && *name != b".")
            .map(<[u8]>::to_vec)
            .collect()
    };
    let program = named(executable);
    let bound = description
        .files
        .iter()
        .find(|file| file.kind == Kind::Input && named(&file.task_path) == program);
    bound.map(|file| server_path(&file.serv_path)).transpose()
}
