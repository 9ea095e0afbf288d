//! Colours, for people: `--color`, else NO_COLOR, CLICOLOR, CLICOLOR_FORCE and whether it is a
//! terminal decide.

use std::io;

use anstream::{AutoStream, ColorChoice};
use chirp_client::Stat;

/// The end of all colours.
const RESET: &str = "\x1b[0m";

/// Takes over what `--color` says.
pub(crate) fn choose(wish: clap::ColorChoice) {
    match wish {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
    .write_global();
}

/// Reports whether stdout gets colours.
pub(crate) fn on_stdout() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Reports whether stderr gets colours.
pub(crate) fn on_stderr() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Returns a name in the colour that `ls` has for its type; `name` is printable already.
pub(crate) fn entry(name: Vec<u8>, stat: &Stat, coloured: bool) -> Vec<u8> {
    let colour = match () {
        () if !coloured => return name,
        () if stat.is_directory() => "\x1b[1;34m",
        () if stat.is_symlink() => "\x1b[1;36m",
        () if stat.is_file() && stat.mode & 0o111 != 0 => "\x1b[1;32m",
        () if stat.is_file() => return name,
        () => "\x1b[33m",
    };
    [colour.as_bytes(), &name, RESET.as_bytes()].concat()
}

/// Returns the beginning of a message.
pub(crate) fn program() -> &'static str {
    if on_stderr() {
        "\x1b[1;31mchirp-client:\x1b[0m"
    } else {
        "chirp-client:"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_colours_where_there_are_any() {
        let stat = |mode| Stat {
            mode,
            ..Stat::default()
        };
        let shown = |mode| String::from_utf8(entry(b"x".to_vec(), &stat(mode), true)).unwrap();
        assert_eq!(shown(0o040_755), "\x1b[1;34mx\x1b[0m");
        assert_eq!(shown(0o120_777), "\x1b[1;36mx\x1b[0m");
        assert_eq!(shown(0o100_755), "\x1b[1;32mx\x1b[0m");
        assert_eq!(shown(0o100_644), "x");
        assert_eq!(entry(b"x".to_vec(), &stat(0o040_755), false), b"x");
    }
}
