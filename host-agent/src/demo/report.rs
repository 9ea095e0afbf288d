//! What the demo ends with.

use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Serialize;

use super::guests::DemoGuest;
use super::schedule::Done;
use crate::output;

/// The demo's report: a table for people, or JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether everything held.
    pub(super) ok: bool,
    /// What did not hold.
    pub(super) complaints: Vec<String>,
    /// The merged table.
    pub(super) result: PathBuf,
    /// What was counted.
    pub(super) input: String,
    /// Files counted.
    pub(super) files: usize,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Words counted.
    pub(super) words: u64,
    /// Different words.
    pub(super) distinct: usize,
    /// Parts that the input was split into.
    pub(super) shards: usize,
    /// Seconds from the start of the agent to the check of the result.
    pub(super) seconds: f64,
    /// The killed guest and what became of its shard.
    pub(super) killed: Option<Killed>,
    /// One entry for each guest.
    pub(super) guests: Vec<GuestReport>,
}

/// The guest that was killed.
#[derive(Debug, Serialize)]
pub(super) struct Killed {
    /// Its name.
    pub(super) guest: String,
    /// Why the agent says that it is gone.
    pub(super) why: String,
    /// The shard that it had, from 1.
    pub(super) shard: usize,
    /// Who counted that shard in the end.
    pub(super) redone_by: String,
    /// In which attempt.
    pub(super) attempt: u32,
}

/// What one guest did.
#[derive(Debug, Serialize)]
pub(super) struct GuestReport {
    name: String,
    id: String,
    address: String,
    files: usize,
    bytes: u64,
    bytes_per_second: f64,
    busy_seconds: f64,
    cpu_seconds: f64,
    /// `0`, or what ended the guest.
    exit: String,
    attempts: u32,
    lost: u32,
}

impl GuestReport {
    /// Returns the report of each guest.
    pub(super) fn of_all(guests: &[std::sync::Arc<DemoGuest>], done: &Done) -> Vec<Self> {
        guests
            .iter()
            .zip(&done.tallies)
            .map(|(guest, tally)| {
                let busy = tally.busy.as_secs_f64();
                // The precision of a rate is no matter at 2^53 bytes.
                let bytes = tally.bytes as f64;
                Self {
                    name: guest.name.clone(),
                    id: guest.id.to_string(),
                    address: guest.target.address.to_string(),
                    files: tally.files,
                    bytes: tally.bytes,
                    bytes_per_second: if busy > 0.0 { bytes / busy } else { 0.0 },
                    busy_seconds: busy,
                    cpu_seconds: tally.cpu,
                    exit: if tally.killed {
                        "SIGKILL"
                    } else if tally.lost > 0 {
                        "failed"
                    } else {
                        "0"
                    }
                    .to_owned(),
                    attempts: tally.attempts,
                    lost: tally.lost,
                }
            })
            .collect()
    }
}

impl Report {
    /// Returns the report for people.
    pub(super) fn readable(&self) -> String {
        let heading = [
            "GUEST", "ADDRESS", "FILES", "BYTES", "RATE", "TIME", "CPU", "EXIT", "ATTEMPTS",
        ];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(self.guests.iter().map(|guest| {
            let lost = if guest.lost > 0 {
                format!(" ({} lost)", guest.lost)
            } else {
                String::new()
            };
            // Rates are positive and far from u64's end.
            let rate = ByteSize(guest.bytes_per_second as u64);
            vec![
                guest.name.clone(),
                guest.address.clone(),
                guest.files.to_string(),
                ByteSize(guest.bytes).to_string(),
                format!("{rate}/s"),
                format!("{:.1} s", guest.busy_seconds),
                format!("{:.1} s", guest.cpu_seconds),
                guest.exit.clone(),
                format!("{}{lost}", guest.attempts),
            ]
        }));
        let mut lines = vec![output::table(&rows), String::new()];
        if let Some(killed) = &self.killed {
            lines.push(format!(
                "{} was killed while it counted shard {}; the agent: {}. {} counted that shard, attempt {}.",
                killed.guest, killed.shard, killed.why, killed.redone_by, killed.attempt
            ));
        }
        lines.push(format!(
            "{} words, {} different, in {} files ({}) in {} shards, {:.1} s.",
            self.words,
            self.distinct,
            self.files,
            ByteSize(self.bytes),
            self.shards,
            self.seconds
        ));
        lines.extend(
            self.complaints
                .iter()
                .map(|complaint| format!("FAILED: {complaint}")),
        );
        if self.ok {
            lines.push("The merged counts equal the host's own, byte for byte.".to_owned());
        }
        lines.push(format!("Result: {}", self.result.display()));
        lines.join("\n")
    }
}
