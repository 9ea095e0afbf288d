//! `getacl`, `setacl`, `resetacl` (part 3.8).

use chirp_proto::acl::{Acl, Entry, Rights};
use chirp_proto::{Subject, VirtualPath};

use crate::authorize::{Door, Failure, Granted};
use crate::export::Export;
use crate::outcome::Outcome;

/// The effective list in canonical spelling, with an empty line after it.
pub(crate) fn getacl(door: Door<'_>, path: &VirtualPath) -> Result<Outcome, Failure> {
    let mut text = door.effective_acl(path)?.to_text();
    text.push(b'\n');
    Ok(Outcome::Text(text))
}

/// Changes one line (part 6.8).
pub(crate) fn setacl(
    export: &Export,
    dir: &Granted,
    subject: &[u8],
    rights: &[u8],
) -> Result<Outcome, Failure> {
    change(export, dir, |acl| {
        let mut acl = acl.clone();
        acl.set(subject, Rights::parse(rights));
        acl
    })
}

/// Leaves one line: the caller's, with A besides what it asks for.
pub(crate) fn resetacl(
    export: &Export,
    dir: &Granted,
    subject: &Subject,
    rights: &[u8],
) -> Result<Outcome, Failure> {
    change(export, dir, |_| {
        Acl::new(vec![Entry {
            subject: subject.as_str().as_bytes().to_vec(),
            rights: Rights::parse(rights).union(Rights::ADMIN),
        }])
    })
}

fn change(
    export: &Export,
    dir: &Granted,
    change: impl FnOnce(&Acl) -> Acl,
) -> Result<Outcome, Failure> {
    let handle = dir.directory()?;
    export
        .acls
        .change(handle, dir.path(), &export.journal, change)?;
    Ok(Outcome::Number(0))
}
