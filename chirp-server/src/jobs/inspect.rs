//! What is read from outside, without a server: the bodies of the verbs, and the file of jobs. Nothing
//! here does I/O, so that any bytes can be tried.

use chirp_proto::Code;

use super::description::{self, Description};
use super::job::{Job, Owner};
use super::{json, store};

/// Returns the status object that a new job with this description has; it says all of it, so it can be
/// read as a description again.
///
/// # Errors
///
/// -8 for what is no description, -24 for a path that is too long.
pub fn described(body: &[u8]) -> Result<Vec<u8>, Code> {
    let owner = Owner {
        login: "unix:nobody".to_owned(),
        subject: "unix:nobody".to_owned(),
    };
    let job = Job::new(0, owner, Description::parse(body)?, 0);
    let mut status = Vec::new();
    json::status(&job, &mut status);
    Ok(status)
}

/// Returns the ids in the body of `job_commit`, `job_kill`, `job_reap` and `job_status`.
///
/// # Errors
///
/// -8 for anything else, -7 for more ids than there can be jobs.
pub fn ids(body: &[u8]) -> Result<Vec<i64>, Code> {
    description::parse_ids(body)
}

/// Returns what a start makes of the file of jobs, which it then writes in its place; none for what is no
/// such file.
#[must_use]
pub fn restarted(content: &[u8]) -> Option<Vec<u8>> {
    store::restarted(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_the_description_that_it_says() {
        let body = b"{\"executable\":\"/bin/a\",\"arguments\":[\"a\"],\"environment\":{\"A\":\"\xff\\u0001\"},\
            \"files\":[{\"type\":\"OUTPUT\",\"serv_path\":\"/o\",\"task_path\":\"o\",\"binding\":\"copy\"}]}";
        let status = described(body).unwrap();
        assert_eq!(described(&status).unwrap(), status);
        assert_eq!(described(b"{}"), Err(Code::InvalidRequest));
        assert_eq!(ids(b"[1, -2]").unwrap(), [1, -2]);
    }

    #[test]
    fn a_file_that_was_read_is_written_the_same() {
        let text = b"#chirp-jobs 1 7\n={\"forget\":{\"ids\":[1]}}\nno record\n";
        assert_eq!(restarted(text).unwrap(), b"#chirp-jobs 1 7\n");
        assert_eq!(restarted(b"#other\n"), None);
    }
}
