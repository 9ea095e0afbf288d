//! Finding names (part 11).

use chirp_client::{Client, FailedStep, Found, SearchOptions, VirtualPath};

use crate::compat::chirp::session::Session;
use crate::compat::text;
use crate::compat::trouble::Trouble;
use crate::output;

pub(crate) async fn search(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let (options, roots, patterns) = match words {
        [roots, patterns] => (SearchOptions::default(), roots, patterns),
        [letters, roots, patterns] => (options(letters), roots, patterns),
        _ => return Err(Trouble::Usage),
    };
    let roots: Vec<VirtualPath> = roots
        .split(|&byte| byte == b'|')
        .map(|root| session.path(root))
        .collect::<Result<_, _>>()?;
    let mut found = client.search(patterns, &roots, options).await?;
    while let Some(found) = found.next().await? {
        output::write(&shown(found))?;
    }
    Ok(())
}

/// Reads the letters; as in the reference, those that mean nothing mean nothing.
fn options(letters: &[u8]) -> SearchOptions {
    SearchOptions {
        first_only: letters.contains(&b's'),
        metadata: letters.contains(&b'm'),
        from_root: letters.contains(&b'i'),
        ..SearchOptions::default()
    }
}

/// Returns the line of something found. The reference fills up to 30 bytes.
fn shown(found: Found) -> Vec<u8> {
    let mut line = match found {
        Found::Match { path, stat } => {
            let mut line = output::name(&path);
            line.resize(line.len().max(30), b' ');
            if let Some(stat) = stat {
                line.extend_from_slice(format!("\t{}\t{}", stat.size, stat.inode).as_bytes());
            }
            line
        }
        Found::Failed { step, errno, path } => {
            let step = match step {
                FailedStep::Open => "Open",
                FailedStep::Read => "Read",
                FailedStep::Close => "Close",
                FailedStep::Stat => "Stat",
            };
            let mut line = format!("{step} error on ").into_bytes();
            line.extend_from_slice(&output::name(&path));
            line.extend_from_slice(format!(": {}", text::errno(errno)).as_bytes());
            line
        }
    };
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_reference_s_form() {
        let path = || "/a".into();
        let plain = shown(Found::Match {
            path: path(),
            stat: None,
        });
        assert_eq!(plain, format!("{:<30}\n", "/a").as_bytes());
        let failed = Found::Failed {
            step: FailedStep::Open,
            errno: 2,
            path: path(),
        };
        assert_eq!(
            shown(failed),
            b"Open error on /a: No such file or directory\n"
        );
    }
}
