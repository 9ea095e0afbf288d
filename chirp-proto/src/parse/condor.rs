//! Request lines in HTCondor's dialect (`chirp-protocol.md`, part 2.9).

use super::request::{Malformed, Words, after_body, descriptor, parse_verb};
use crate::code::Code;
use crate::dialect::{Dialect, SHARED};
use crate::request::{Request, Whence};

/// Parses a line without LF that is not empty.
pub(super) fn parse(line: &[u8]) -> Result<Request, Malformed> {
    let blank = line.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (verb, rest) = line.split_at(blank.unwrap_or(line.len()));
    let verb: &[u8] = &super::clean(verb);
    let w = &mut Words::new(Dialect::Condor, rest);
    Ok(match verb {
        b"read" => Request::Read {
            fd: w.descriptor()?,
            length: w.unsigned()?,
        },
        b"write" => {
            let (fd, length) = (w.number()?, w.unsigned()?);
            Request::Write {
                fd: descriptor(fd).map_err(after_body(length))?,
                length,
            }
        }
        b"lseek" => Request::Lseek {
            fd: w.descriptor()?,
            offset: w.number()?,
            whence: Whence::from_number(w.number()?).ok_or(Code::InvalidRequest)?,
        },
        b"get_job_attr" => Request::GetJobAttr { name: w.text()? },
        b"get_job_attr_delayed" => Request::GetJobAttrDelayed { name: w.text()? },
        b"set_job_attr" => Request::SetJobAttr {
            name: w.text()?,
            value: w.text()?,
        },
        b"set_job_attr_delayed" => Request::SetJobAttrDelayed {
            name: w.text()?,
            value: w.text()?,
        },
        b"ulog" => Request::Ulog { text: w.text()? },
        b"constrain" => Request::Constrain {
            expression: w.text()?,
        },
        b"lookup" => Request::Lookup { path: w.path()? },
        b"version" => Request::Version,
        shared if SHARED.contains(&shared) => parse_verb(shared, w)?,
        _ => return Err(Code::InvalidRequest.into()),
    })
}
