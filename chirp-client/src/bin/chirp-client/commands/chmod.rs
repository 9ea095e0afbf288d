use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Changes the mode of files or directories of the server.
///
/// Who may do what is decided by the ACL of the directory; of a mode only the owner's execute bit and
/// what lies below it counts for a file.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest chmod 755 /jobs/17/run")]
pub(crate) struct Chmod {
    /// Octal digits.
    #[arg(value_parser = octal)]
    mode: u32,
    /// The files or directories.
    #[arg(value_parser = RemotePath::parser(), required = true)]
    paths: Vec<RemotePath>,
}

impl Chmod {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        super::each(client, &self.paths, async |path| {
            Ok(client.chmod(&path.0, self.mode).await?)
        })
        .await
    }
}

/// Reads a mode. The reference sends 0 for anything that is none.
fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err("a mode is up to four octal digits, as in 755".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::octal;

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("0755"), Ok(0o755));
        for bad in ["", "u+x", "888", "+7", "17777", "-1"] {
            assert!(octal(bad).is_err(), "{bad}");
        }
    }
}
