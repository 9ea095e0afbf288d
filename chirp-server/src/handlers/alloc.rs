//! `lsalloc`, `mkalloc` (part 8.3).

use chirp_proto::Code;
use chirp_proto::acl::Acl;

use super::name;
use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::outcome::Outcome;

/// The allocation that an object belongs to: its top directory, its size, what of it is in use.
pub(crate) fn lsalloc(export: &Export, object: &Granted) -> Result<Outcome, Failure> {
    let figures = export.space.figures(object)?.ok_or(Code::InvalidRequest)?;
    let mut text = figures.path;
    text.extend_from_slice(format!(" {} {}\n", figures.size, figures.used).as_bytes());
    Ok(Outcome::Text(text))
}

/// Makes a directory with a part of the space for itself, whole or not at all. Without `-Q` there is
/// nothing to take a part of (-8), which `lsalloc` says by having no figures.
pub(crate) fn mkalloc(
    export: &Export,
    target: &Granted,
    acl: &Acl,
    size: u64,
) -> Result<Outcome, Failure> {
    if !export.space.has_allocations() {
        return Err(Code::InvalidRequest.into());
    }
    let _changing = export.guard().changing();
    let built = name::build_directory(export, target, acl)?;
    export.space.allocate(target, size, built)?;
    Ok(Outcome::Number(0))
}
