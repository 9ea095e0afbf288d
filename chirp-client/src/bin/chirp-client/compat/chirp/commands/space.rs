//! Space that is there and space that is taken.

use chirp_client::{Client, VirtualPath};

use super::{foreign, line};
use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::Trouble;
use crate::output;
use crate::size;

pub(crate) async fn df(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let unit = match words {
        [] => None,
        [b"-k"] => Some((10, "KB")),
        [b"-m"] => Some((20, "MB")),
        [b"-g"] => Some((30, "GB")),
        [b"-t"] => Some((40, "TB")),
        _ => return Err(Trouble::invalid()),
    };
    let space = client.statfs(&VirtualPath::root()).await?;
    let show = |blocks: i64| {
        let bytes = blocks as f64 * space.block_size as f64;
        match unit {
            None => size::shown(bytes),
            Some((shift, unit)) => format!("{:.1} {unit}", bytes / (1_u64 << shift) as f64),
        }
    };
    let total = show(space.blocks);
    let taken = show(space.blocks.saturating_sub(space.blocks_available));
    Ok(output::write(
        format!("/\n{total} TOTAL\n{taken} INUSE\n").as_bytes(),
    )?)
}

/// The mode that the reference asks for in an allocation.
const ALLOCATION_MODE: u32 = 0o700;

pub(crate) async fn mkalloc(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, size] = session::exactly(words)?;
    let size = size::parse(session::text(size)?).map_err(|_| Trouble::invalid())?;
    let path = session.path(word)?;
    Ok(client.mkalloc(&path, size, ALLOCATION_MODE).await?)
}

pub(crate) async fn lsalloc(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let path = session.path_or_here(words.first().copied())?;
    let allocation = client.lsalloc(&path).await?;
    foreign(&allocation.path)?;
    let total = size::shown(allocation.total as f64);
    let taken = size::shown(allocation.in_use as f64);
    Ok(output::write(
        format!("{total} TOTAL\n{taken} INUSE\n").as_bytes(),
    )?)
}

pub(crate) async fn audit(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let raw = match words {
        [] => false,
        [b"-r"] => true,
        [other, ..] => {
            let other = String::from_utf8_lossy(other);
            line(format!("audit: unknown option: {other}").as_bytes())?;
            return Err(Trouble::invalid());
        }
    };
    let mut usage = client.audit(&VirtualPath::root()).await?;
    usage.sort_by(|one, other| one.owner.cmp(&other.owner));
    let mut shown = Vec::new();
    if !raw {
        shown.extend_from_slice(b"   FILES     DIRS      DATA OWNER\n");
    }
    for owner in usage {
        let (files, directories) = (owner.files, owner.directories);
        let numbers = if raw {
            format!("{files} {directories} {} ", owner.bytes)
        } else {
            let bytes = size::shown(owner.bytes as f64);
            format!("{files:8} {directories:8} {bytes:>9} ")
        };
        shown.extend_from_slice(numbers.as_bytes());
        shown.extend_from_slice(&output::name(&owner.owner));
        shown.push(b'\n');
    }
    Ok(output::write(&shown)?)
}
