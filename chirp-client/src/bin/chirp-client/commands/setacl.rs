use chirp_client::Client;
use clap::Args;

use super::Failure;
use crate::cli::RemotePath;

/// Names for sets of rights, as the reference's `chirp` has them.
pub(crate) const ALIASES: [(&str, &str); 5] = [
    ("read", "rl"),
    ("write", "rwld"),
    ("admin", "rwldva"),
    ("reserve", "lv"),
    ("none", "."),
];

/// Gives a subject rights on a directory of the server, in place of those it had.
///
/// RIGHTS are letters (r read, w write, l list, d delete, p put new files, a administer, x execute,
/// v or v(LETTERS) make directories of one's own) or one of read (rl), write (rwld), admin (rwldva),
/// reserve (lv), none.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest setacl /jobs unix:alice write
  chirp-client guest setacl /jobs 'hostname:*.example.org' rl
  chirp-client guest setacl /jobs unix:alice none")]
pub(crate) struct Setacl {
    /// The directory.
    #[arg(value_parser = RemotePath::parser())]
    path: RemotePath,
    /// METHOD:NAME, with at most one * in it.
    subject: String,
    /// Letters or a name for some.
    #[arg(value_parser = rights)]
    rights: String,
}

impl Setacl {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let path = &self.path.0;
        Ok(client.setacl(path, &self.subject, &self.rights).await?)
    }
}

/// Expands a name. A word that is none and has other letters is refused: servers would take the
/// letters of `admn` that are rights, and grant `a` and `d`.
pub(super) fn rights(text: &str) -> Result<String, String> {
    if let Some((_, letters)) = ALIASES.iter().find(|(alias, _)| *alias == text) {
        return Ok((*letters).to_owned());
    }
    let known = |letter| "rwldpaxv()".contains(letter);
    // A word such as `all` has a letter twice.
    let own = text.split('(').next().unwrap_or_default();
    let twice = own.char_indices().any(|(at, c)| own.find(c) != Some(at));
    if matches!(text, "." | "n" | "-") || (!own.is_empty() && text.chars().all(known) && !twice) {
        return Ok(text.to_owned());
    }
    Err("rights are letters of rwldpaxv(), or read, write, admin, reserve or none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::rights;

    #[test]
    fn aliases_are_expanded_and_other_words_refused() {
        assert_eq!(rights("read").as_deref(), Ok("rl"));
        assert_eq!(rights("none").as_deref(), Ok("."));
        assert_eq!(rights("rlv(rwl)").as_deref(), Ok("rlv(rwl)"));
        for bad in ["", "reda", "all", "r w"] {
            assert!(rights(bad).is_err(), "{bad}");
        }
    }
}
