//! A script as people and files have it: a text for each step, `BY: LINE` and, after a line feed, the
//! body; one code point for each byte, as in the vectors. `{HOSTPORT}` stands for the server's own address.
//!
//! ```text
//! unix: mkdir /s/a 448
//! address: putfile /s/a/b 420 3⏎abc
//! ```

use anyhow::{Context as _, Result, ensure};
use chirp_proto::Dialect;
use chirp_proto::parse::{Decoder, Step as Decoded};

use super::generate::OWN_ADDRESS;
use super::{By, Step};
use crate::vector::latin1;

/// What stands for the server's own address.
const HOSTPORT: &str = "{HOSTPORT}";

/// Returns a step as a text.
#[must_use]
pub fn write(step: &Step) -> String {
    let line: String = step.line().iter().copied().map(char::from).collect();
    let own: String = OWN_ADDRESS.iter().copied().map(char::from).collect();
    let mut text = format!(
        "{}: {}",
        step.by.name(),
        line.trim_end_matches('\n').replace(&own, HOSTPORT)
    );
    if !step.body.is_empty() {
        text.push('\n');
        text.extend(step.body.iter().copied().map(char::from));
    }
    text
}

/// Reads a step.
///
/// # Errors
///
/// Fails on a text that is none: an unknown subject, or a line that is no request.
pub fn read(text: &str) -> Result<Step> {
    let (name, rest) = text
        .split_once(": ")
        .with_context(|| format!("{text:?} does not say whose request it is"))?;
    let by = By::ALL.into_iter().find(|by| by.name() == name);
    let by = by.with_context(|| format!("{name:?} is no subject"))?;
    let (line, body) = rest.split_once('\n').unwrap_or((rest, ""));
    let mut own = String::from_utf8(OWN_ADDRESS.to_vec())?;
    own = line.replace(HOSTPORT, &own);
    let line = latin1(&format!("{own}\n"))?;
    let Decoded::Request { request, used } = Decoder::new(Dialect::Plain).step(&line) else {
        anyhow::bail!("{text:?} is no request");
    };
    ensure!(used == line.len(), "{text:?} is more than one request");
    Ok(Step {
        by,
        request,
        body: latin1(body)?,
    })
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::super::generate;
    use super::*;

    #[test]
    fn every_step_is_read_as_it_was_written() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..5000 {
            let step = generate::step(&mut rng, &[]);
            let text = write(&step);
            // The place where `search` begins has no escape for a blank: such a line is no request.
            if step.line().starts_with(b"search ") && read(&text).is_err() {
                continue;
            }
            assert_eq!(read(&text).unwrap().line(), step.line(), "{text:?}");
            assert_eq!(read(&text).unwrap().body, step.body, "{text:?}");
        }
        assert!(write(&read("unix: thirdput /s {HOSTPORT} /t").unwrap()).contains("{HOSTPORT}"));
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for text in ["", "unix", "nobody: whoami 1", "unix: nonsense", "unix: "] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
