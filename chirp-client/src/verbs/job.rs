//! Jobs (part 9). What they are described by stands in [`crate::job`].

use std::time::Duration;

use bytes::Bytes;
use chirp_proto::Request;
use chirp_proto::limits::IO_MAX;
use serde::de::DeserializeOwned;

use crate::job::{JobDescription, JobStatus};
use crate::{Client, Error};

/// Seconds that a server waits at most in one `job_wait`; what is below zero counts as this.
const WAIT_MAX: u64 = 30;

impl Client {
    /// Creates a job and returns its number. It starts once it is committed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -8 from a server without jobs.
    pub async fn job_create(&self, job: &JobDescription) -> Result<u64, Error> {
        self.job_create_json(to_json(job)?).await
    }

    /// As [`Client::job_create`], with the description's JSON as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::job_create`].
    pub async fn job_create_json(&self, json: Bytes) -> Result<u64, Error> {
        let length = json.len() as u64;
        self.number_with(&Request::JobCreate { length }, json).await
    }

    /// Lets created jobs start. Of several, all are committed or none.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -21 for an unknown job and -2 for another's.
    pub async fn job_commit(&self, ids: &[u64]) -> Result<(), Error> {
        self.job_commit_json(to_json(ids)?).await
    }

    /// As [`Client::job_commit`], with the JSON array of numbers as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::job_commit`].
    pub async fn job_commit_json(&self, ids: Bytes) -> Result<(), Error> {
        let length = ids.len() as u64;
        let request = Request::JobCommit { length };
        self.number_with(&request, ids).await.map(drop)
    }

    /// Ends jobs. Of several, all are ended or none.
    ///
    /// # Errors
    ///
    /// As [`Client::job_commit`]; code -2 also for a job that has ended.
    pub async fn job_kill(&self, ids: &[u64]) -> Result<(), Error> {
        self.job_kill_json(to_json(ids)?).await
    }

    /// As [`Client::job_kill`], with the JSON array of numbers as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::job_kill`].
    pub async fn job_kill_json(&self, ids: Bytes) -> Result<(), Error> {
        let length = ids.len() as u64;
        let request = Request::JobKill { length };
        self.number_with(&request, ids).await.map(drop)
    }

    /// Lets `job_wait` forget jobs that have ended.
    ///
    /// # Errors
    ///
    /// As [`Client::job_commit`].
    pub async fn job_reap(&self, ids: &[u64]) -> Result<(), Error> {
        self.job_reap_json(to_json(ids)?).await
    }

    /// As [`Client::job_reap`], with the JSON array of numbers as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::job_reap`].
    pub async fn job_reap_json(&self, ids: Bytes) -> Result<(), Error> {
        let length = ids.len() as u64;
        let request = Request::JobReap { length };
        self.number_with(&request, ids).await.map(drop)
    }

    /// Describes jobs, in the order in which they were named.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -2 for an unknown job and for another's.
    pub async fn job_status(&self, ids: &[u64]) -> Result<Vec<JobStatus>, Error> {
        let json = self.job_status_json(to_json(ids)?).await?;
        self.from_json("job_status", &json)
    }

    /// As [`Client::job_status`], with the JSON of both sides as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::job_status`].
    pub async fn job_status_json(&self, ids: Bytes) -> Result<Bytes, Error> {
        let length = ids.len() as u64;
        let request = Request::JobStatus { length };
        self.counted_with(&request, ids, IO_MAX).await
    }

    /// Waits for jobs to end, and describes those that have and were not reaped; none if the time is
    /// over first. `id` is one job's number, 0 for all, or below zero for all from that number on.
    /// `seconds` counts up to 30, and as 30 if it is below zero.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -21 if there is no job to wait for.
    pub async fn job_wait(&self, id: i64, seconds: i64) -> Result<Vec<JobStatus>, Error> {
        let json = self.job_wait_json(id, seconds).await?;
        self.from_json("job_wait", &json)
    }

    /// As [`Client::job_wait`], with the answer's JSON as it is.
    ///
    /// # Errors
    ///
    /// As [`Client::job_wait`].
    pub async fn job_wait_json(&self, id: i64, seconds: i64) -> Result<Bytes, Error> {
        let waits = u64::try_from(seconds).map_or(WAIT_MAX, |seconds| seconds.min(WAIT_MAX));
        let patient = self.with_timeout(self.timeout() + Duration::from_secs(waits));
        patient
            .counted(&Request::JobWait { id, seconds }, IO_MAX)
            .await
    }

    #[expect(
        clippy::wrong_self_convention,
        reason = "the connection is only for the error"
    )]
    fn from_json<T: DeserializeOwned>(&self, verb: &str, json: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(json).map_err(|error| self.violation(format!("{verb}: {error}")))
    }
}

fn to_json(value: &(impl serde::Serialize + ?Sized)) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(value).map(Bytes::from);
    json.map_err(|error| Error::Argument {
        what: error.to_string(),
        reason: "this is no JSON",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobBinding, JobExit, JobFile, JobFileKind, JobState};

    #[test]
    fn a_description_has_the_wires_keys() {
        let mut job = JobDescription::new("/bin/true", ["true"]);
        job.files = vec![JobFile::input("/a", "b")];
        let json = to_json(&job).unwrap();
        let expected = concat!(
            r#"{"executable":"/bin/true","arguments":["true"],"environment":{},"#,
            r#""files":[{"serv_path":"/a","task_path":"b","type":"INPUT","binding":"LINK"}]}"#
        );
        assert_eq!(json, expected);
        assert_eq!(to_json(&[1u64, 2][..]).unwrap(), "[1,2]");
    }

    #[test]
    fn the_references_status_reads() {
        // Measured (part 9.4), with a file.
        let text = r#"[{"id":15,"error":null,"executable":"\/bin\/true","exit_code":0,"exit_status":"EXITED",
            "exit_signal":null,"priority":1,"status":"FINISHED","subject":"unix:alice","tag":"(unknown)",
            "time_commit":1795251015,"time_create":1795251015,"time_error":null,"time_finish":1795251015,
            "time_kill":null,"time_start":1795251015,"time_reap":null,"arguments":["true"],
            "environment":{},"files":[{"binding":"COPY","serv_path":"\/o","size":3,"tag":null,"task_path":"o","type":"OUTPUT"}]}]"#;
        let [status]: [JobStatus; 1] = serde_json::from_str(text).unwrap();
        assert_eq!((status.id, status.status), (15, JobState::Finished));
        assert_eq!(status.exit_status, Some(JobExit::Exited));
        let file = status.files.first().unwrap();
        assert_eq!(
            (file.kind, file.binding),
            (JobFileKind::Output, JobBinding::Copy)
        );
        assert_eq!(file.size, Some(3));
    }
}
