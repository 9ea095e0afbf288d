//! Under which name the program runs. As `chirp_server`, by a link of that name, it ends as the
//! reference does, so that scripts made for that find what they look for (part 12.1).

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use jiff::Zoned;

/// The reference's name.
const REFERENCE: &str = "chirp_server";

/// The status of a process that SIGTERM ended, as a shell tells it: how the reference leaves when it
/// cannot start.
const TERMINATED: u8 = 128 + 15;

/// How the program speaks of itself, and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As every program does.
    Own,
    /// As the reference does.
    Reference,
}

impl Manner {
    /// Decides by the name that the program was started by, which may be a path.
    #[must_use]
    pub fn of(program: Option<&OsStr>) -> Self {
        let name = program.and_then(|program| Path::new(program).file_name());
        if name == Some(OsStr::new(REFERENCE)) {
            Self::Reference
        } else {
            Self::Own
        }
    }

    /// Returns the program's name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Own => "chirp-server",
            Self::Reference => REFERENCE,
        }
    }

    /// Returns what `-v` prints. Its first line has the form of the reference's.
    #[must_use]
    pub fn version(self) -> String {
        format!(
            "{} version {} (Chirp protocol 2, as cctools 8.0.0)\n",
            self.program(),
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Returns the line that says why the program cannot start.
    #[must_use]
    pub fn fatal(self, error: &anyhow::Error) -> String {
        match self {
            Self::Own => format!("chirp-server: {error:#}"),
            Self::Reference => {
                let now = Zoned::now();
                let (date, hundredths) =
                    (now.strftime("%Y/%m/%d %H:%M:%S"), now.millisecond() / 10);
                let pid = std::process::id();
                format!("{date}.{hundredths:02} {REFERENCE}[{pid}] fatal: {error:#}")
            }
        }
    }

    /// Returns the exit status after help or version, which were asked for.
    #[must_use]
    pub fn after_help(self) -> ExitCode {
        match self {
            Self::Own => ExitCode::SUCCESS,
            Self::Reference => ExitCode::FAILURE,
        }
    }

    /// Returns the exit status of a server that could not start.
    #[must_use]
    pub fn after_fatal(self) -> ExitCode {
        match self {
            Self::Own => ExitCode::FAILURE,
            Self::Reference => ExitCode::from(TERMINATED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        let of = |name: &str| Manner::of(Some(OsStr::new(name)));
        assert_eq!(of("/usr/local/bin/chirp_server"), Manner::Reference);
        assert_eq!(of("chirp_server"), Manner::Reference);
        assert_eq!(of("./chirp-server"), Manner::Own);
        assert_eq!(of("chirp_server/other"), Manner::Own);
        assert_eq!(Manner::of(None), Manner::Own);
    }

    #[test]
    fn the_reference_s_fatal_line_has_its_form() {
        let line = Manner::Reference.fatal(&anyhow::anyhow!("no"));
        let words: Vec<&str> = line.split(' ').collect();
        let form: String = line
            .chars()
            .map(|letter| if letter.is_ascii_digit() { '9' } else { letter })
            .collect();
        assert!(
            form.starts_with("9999/99/99 99:99:99.99 chirp_server["),
            "{line}"
        );
        assert_eq!(words.get(3..), Some(&["fatal:", "no"][..]), "{line}");
    }
}
