//! Finding names in trees (part 11).

use bytes::{Bytes, BytesMut};
use chirp_proto::{Code, Request, Stat, VirtualPath};

use crate::client::word;
use crate::connection::Rest;
use crate::error::printable;
use crate::{Client, Error, Listing};

/// What a search looks for besides the patterns, and how it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchOptions {
    /// End after the first match.
    pub first_only: bool,
    /// Answer what `lstat` says of each match.
    pub metadata: bool,
    /// Name matches from the virtual root on, not from the directory that is searched.
    pub from_root: bool,
    /// Only what the server's account may read.
    pub readable: bool,
    /// Only what the server's account may write.
    pub writable: bool,
    /// Only what the server's account may execute.
    pub executable: bool,
}

impl SearchOptions {
    /// Returns the number on the wire.
    const fn flags(self) -> u64 {
        self.first_only as u64
            | (self.metadata as u64) << 1
            | (self.from_root as u64) << 2
            | (self.readable as u64) << 4
            | (self.writable as u64) << 5
            | (self.executable as u64) << 6
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Something that matches.
    Match {
        /// Where, byte for byte.
        path: Bytes,
        /// What it is, if that was asked for.
        stat: Option<Stat>,
    },
    /// Something that could not be searched; the search goes on.
    Failed {
        /// What did not work.
        step: FailedStep,
        /// The error number of the server's system, as Linux counts them.
        errno: i32,
        /// Where.
        path: Bytes,
    },
}

/// What a search could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedStep {
    /// Open a directory, for lack of rights too.
    Open,
    /// Read a directory.
    Read,
    /// Close a directory.
    Close,
    /// Describe an entry.
    Stat,
}

impl Found {
    /// Returns the wire's code for what failed, if something did.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Match { .. } => None,
            Self::Failed { errno, .. } => Some(Code::from_errno(*errno)),
        }
    }

    /// Reads `0:PATH::`, `0:PATH:STAT:` or `ERRNO:STEP:PATH:`. A path may have colons.
    fn parse(line: &Bytes) -> Option<Self> {
        let line = line.strip_suffix(b":").map(|rest| line.slice_ref(rest))?;
        let errno_end = line.iter().position(|&byte| byte == b':')?;
        let errno = std::str::from_utf8(line.get(..errno_end)?).ok()?;
        let rest = line.slice(errno_end + 1..);
        if errno == "0" {
            let path_end = rest.iter().rposition(|&byte| byte == b':')?;
            let stat = rest.get(path_end + 1..)?;
            let stat = match stat {
                b"" => None,
                stat => Some(Stat::parse(stat)?),
            };
            let path = rest.slice(..path_end);
            return Some(Self::Match { path, stat });
        }
        let step = match rest.get(..2)? {
            b"1:" => FailedStep::Open,
            b"2:" => FailedStep::Read,
            b"3:" => FailedStep::Close,
            b"4:" => FailedStep::Stat,
            _ => return None,
        };
        Some(Self::Failed {
            step,
            errno: errno.parse().ok()?,
            path: rest.slice(2..),
        })
    }
}

/// What a search finds, as the server finds it. Held before its end, it holds back the answers to
/// all later calls on the connection.
pub struct Search {
    client: Client,
    lines: Listing,
}

impl Search {
    /// Returns the next line of the answer; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::Lost`] or [`Error::Protocol`]; the connection is then of no
    /// more use.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Found>, Error> {
        let Some(line) = self.lines.next().await? else {
            return Ok(None);
        };
        let found = Found::parse(&line).ok_or_else(|| {
            let line = printable(line.get(..80).unwrap_or(&line));
            let what = format!("search answered {line:?}, which is no such line");
            self.client.violation(what)
        });
        found.map(Some)
    }
}

impl Client {
    /// Searches trees for names. A pattern is one or more shell patterns with `|` between them;
    /// one without a slash in front matches at any depth.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for patterns with blanks, which the protocol cannot carry, for a root
    /// with `|`, and for no root at all. What cannot be searched is among what is found.
    pub async fn search(
        &self,
        patterns: &[u8],
        roots: &[VirtualPath],
        options: SearchOptions,
    ) -> Result<Search, Error> {
        let mut list = BytesMut::new();
        for root in roots {
            if root.as_bytes().contains(&b'|') {
                return Err(Error::Argument {
                    what: printable(root.as_bytes()),
                    reason: "| stands between the roots of a search",
                });
            }
            if !list.is_empty() {
                list.extend_from_slice(b"|");
            }
            root.encode_into(&mut list);
        }
        let request = Request::Search {
            patterns: word(patterns)?,
            roots: word(&list)?,
            flags: options.flags(),
        };
        let (_, loan, client) = self.lent(&request, |_| Rest::Lines).await?;
        Ok(Search {
            lines: Listing::new(client.clone(), request, loan),
            client,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<Found> {
        Found::parse(&Bytes::copy_from_slice(line.as_bytes()))
    }

    #[test]
    fn every_kind_of_line_reads() {
        let path = Bytes::from_static(b"/a:b");
        let stat = None;
        assert_eq!(found("0:/a:b::"), Some(Found::Match { path, stat }));
        let Some(Found::Match { path, stat }) = found("0:/a:1 2 33152 1 5 6 0 7 8 9 10 11 12:")
        else {
            panic!("no match");
        };
        assert_eq!(path, "/a");
        assert_eq!(stat.unwrap().size, 7);
        let failed = found("1:4:/x:y:").unwrap();
        assert_eq!(failed.code(), Some(Code::NotAuthorized));
        let (step, errno) = (FailedStep::Stat, 1);
        let path = Bytes::from_static(b"/x:y");
        assert_eq!(failed, Found::Failed { step, errno, path });
        for bad in [
            "",
            ":",
            "0",
            "0:",
            "0:/a",
            "0:/a:1 2:",
            "x:1:/a:",
            "2:9:/a:",
            "2:1",
        ] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_flags_are_the_wires() {
        let all = SearchOptions {
            first_only: true,
            metadata: true,
            from_root: true,
            readable: true,
            writable: true,
            executable: true,
        };
        assert_eq!(all.flags(), 1 + 2 + 4 + 16 + 32 + 64);
        assert_eq!(SearchOptions::default().flags(), 0);
    }
}
