//! Space that is there and space that is taken.

use chirp_client::{Client, VirtualPath};

use crate::compat::text;
use crate::compat::trouble::Trouble;
use crate::output;

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
            None => text::size(bytes),
            Some((shift, unit)) => format!("{:.1} {unit}", bytes / (1_u64 << shift) as f64),
        }
    };
    let total = show(space.blocks);
    let taken = show(space.blocks.saturating_sub(space.blocks_available));
    Ok(output::write(
        format!("/\n{total} TOTAL\n{taken} INUSE\n").as_bytes(),
    )?)
}
