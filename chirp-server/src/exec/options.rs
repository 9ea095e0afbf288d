//! The bounds of executions as options of the command line. Where nothing is set the runner's own
//! defaults hold, which the help repeats.

use std::time::Duration;

use clap::Args;
use exec_ext::StreamSettings;
use exec_ext::runner::ExecutionsConfig;
use exec_ext::status::{FeatureLimits, Limits};

use crate::config::{parse_size, parse_time};

/// Seconds that a program may go on with nobody attached to its streams, unless it is told otherwise.
const ORPHAN_DEFAULT: u64 = 3600;

/// How often a stream that says nothing says that it is alive, at the rarest.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// What bounds executions.
#[derive(Clone, Debug, Args)]
pub struct ExecOptions {
    /// Run at most this many programs at once.
    #[arg(long, value_name = "N", default_value_t = 1024, requires = "exec")]
    pub executions: usize,

    /// Of these at most so many for one subject [default: half, rounded up].
    #[arg(long, value_name = "N", requires = "exec")]
    pub executions_per_subject: Option<usize>,

    /// Limits of programs whose request sets none, as a list WHAT=VALUE,...: `wall` and `cpu` (a time),
    /// `memory` and `file` (a size), `processes` and `files` (a number), `orphan` (a time with nobody
    /// attached; 0 for ever). May be repeated. Only orphan has a default, 1h.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = limit, requires = "exec")]
    pub exec_limit: Vec<Limit>,

    /// Limits that no request exceeds and every program has, in the same words.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = limit, requires = "exec")]
    pub exec_limit_max: Vec<Limit>,

    /// Output that nobody has acknowledged is kept up to this size for each stream; then the program
    /// waits.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = parse_size, requires = "exec")]
    pub exec_window: u64,

    /// All of it together takes at most this much memory, and half of that for one subject.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size, requires = "exec")]
    pub exec_windows: u64,

    /// Captured output is kept up to this size for each stream: its head and its tail.
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_size, requires = "exec")]
    pub exec_capture: u64,

    /// Records, captured output and temporary directories of executions together take at most this much
    /// of the transient directory, and half of that for one subject. Beyond it nothing new is run.
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = parse_size, requires = "exec")]
    pub exec_space: u64,

    /// Remember at most this many executions of one subject.
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "exec")]
    pub exec_records: usize,

    /// Forget ended executions after this time.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_time, requires = "exec")]
    pub exec_remember: Duration,

    /// Close pipes that a program's descendants still hold this long after its exit.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time, requires = "exec")]
    pub exec_grace: Duration,

    /// Kill a program that has not ended this long after it was told to by SIGTERM. What it left running
    /// has at most 0.5s.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_time, requires = "exec")]
    pub exec_kill_after: Duration,

    /// Take a stream's connection for lost after this long without a byte. `alive` is sent every third of
    /// it, and at least every 10s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_time, requires = "exec")]
    pub exec_lost_after: Duration,
}

/// One limit of `--exec-limit`: its name and its value, in seconds, bytes or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(What, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Wall,
    Cpu,
    Memory,
    File,
    Processes,
    Files,
    Orphan,
}

impl ExecOptions {
    /// Returns the bounds of the table that these ask for, over the defaults of `config`.
    pub(super) fn bound(&self, config: &mut ExecutionsConfig) {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        config.max_executions = self.executions;
        config.max_running_per_subject = self
            .executions_per_subject
            .unwrap_or_else(|| self.executions.div_ceil(2));
        config.max_records_per_subject = self.exec_records;
        config.window_bytes = bytes(self.exec_window);
        config.windows_total_bytes = bytes(self.exec_windows);
        config.capture_bytes = self.exec_capture;
        config.space_bytes = bytes(self.exec_space);
        config.remembered = self.exec_remember;
        config.pipe_grace = self.exec_grace;
        config.term_grace = self.exec_kill_after;
        config.descendants_grace = config.descendants_grace.min(self.exec_kill_after);
    }

    /// Says whether these limit processes.
    pub(super) fn limit_processes(&self) -> bool {
        let mut all = self.exec_limit.iter().chain(&self.exec_limit_max);
        all.any(|Limit(what, _)| *what == What::Processes)
    }

    /// Returns the times of stream mode.
    pub(super) fn stream(&self) -> StreamSettings {
        StreamSettings {
            lost_after: self.exec_lost_after,
            alive_every: ALIVE_EVERY.min(self.exec_lost_after / 3),
        }
    }

    /// Returns the limits of a program whose request asks for `asked`.
    pub(super) fn limits(&self, asked: &Limits) -> Limits {
        let standard = Limits {
            orphan_s: Some(ORPHAN_DEFAULT),
            ..Limits::default()
        };
        let unless_asked = set(&self.exec_limit, standard);
        asked
            .or(&unless_asked)
            .within(&set(&self.exec_limit_max, Limits::default()))
    }

    /// Returns what `features` tells of the bounds in `config`.
    pub(super) fn features(&self, config: &ExecutionsConfig) -> FeatureLimits {
        FeatureLimits {
            executions: config.max_executions as u64,
            window_bytes: config.window_bytes as u64,
            ..FeatureLimits::default()
        }
    }
}

/// Sets the limits of a list, the last of a kind counting.
fn set(list: &[Limit], mut limits: Limits) -> Limits {
    for Limit(what, value) in list {
        let limit = match what {
            What::Wall => &mut limits.wall_s,
            What::Cpu => &mut limits.cpu_s,
            What::Memory => &mut limits.memory_bytes,
            What::File => &mut limits.file_bytes,
            What::Processes => &mut limits.processes,
            What::Files => &mut limits.open_files,
            What::Orphan => &mut limits.orphan_s,
        };
        *limit = Some(*value);
    }
    limits
}

/// Reads `WHAT=VALUE`.
fn limit(text: &str) -> Result<Limit, String> {
    let (what, value) = text.split_once('=').ok_or("give WHAT=VALUE")?;
    let seconds = || parse_time(value).map(|time| time.as_secs().max(1));
    let positive = |number: u64| Some(number).filter(|&number| number > 0);
    let size = || {
        parse_size(value).and_then(|size| positive(size).ok_or_else(|| "give more than 0".into()))
    };
    let number = || {
        let number = value.parse().ok().and_then(positive);
        number.ok_or_else(|| "give a number from 1 on".to_owned())
    };
    Ok(match what {
        "wall" => Limit(What::Wall, seconds()?),
        "cpu" => Limit(What::Cpu, seconds()?),
        "memory" => Limit(What::Memory, size()?),
        "file" => Limit(What::File, size()?),
        "processes" => Limit(What::Processes, number()?),
        "files" => Limit(What::Files, number()?),
        "orphan" if value == "0" => Limit(What::Orphan, 0),
        "orphan" => Limit(What::Orphan, seconds()?),
        _ => {
            return Err(
                "limits are wall, cpu, memory, file, processes, files and orphan".to_owned(),
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[arg(long)]
        exec: bool,
        #[command(flatten)]
        options: ExecOptions,
    }

    fn options(args: &[&str]) -> ExecOptions {
        let all = ["x", "--exec"].iter().chain(args);
        Command::try_parse_from(all).unwrap().options
    }

    #[test]
    fn defaults_are_those_of_the_runner() {
        let untouched = ExecutionsConfig::new("/none");
        let mut config = untouched.clone();
        options(&[]).bound(&mut config);
        assert_eq!(format!("{config:?}"), format!("{untouched:?}"));
        let (stream, standard) = (options(&[]).stream(), StreamSettings::default());
        assert_eq!(format!("{stream:?}"), format!("{standard:?}"));
    }

    #[test]
    fn a_request_gets_what_it_asks_for_up_to_the_maximum_and_else_the_default() {
        let own = options(&[
            "--exec-limit=wall=1h,files=64",
            "--exec-limit=processes=9",
            "--exec-limit-max=wall=2h,memory=1G,orphan=60",
        ]);
        let given = own.limits(&Limits::default());
        let expected = Limits {
            wall_s: Some(3600),
            memory_bytes: Some(1 << 30),
            processes: Some(9),
            open_files: Some(64),
            orphan_s: Some(60),
            ..Limits::default()
        };
        assert_eq!(given, expected);
        let asked = Limits {
            wall_s: Some(9999),
            memory_bytes: Some(5),
            open_files: Some(100),
            orphan_s: Some(0),
            ..Limits::default()
        };
        let given = own.limits(&asked);
        assert_eq!((given.wall_s, given.memory_bytes), (Some(7200), Some(5)));
        assert_eq!((given.open_files, given.orphan_s), (Some(100), Some(60)));
        assert_eq!(options(&[]).limits(&asked).orphan_s, Some(0));
        let plain = options(&["--exec-limit=orphan=0"]).limits(&Limits::default());
        assert_eq!(plain.orphan_s, Some(0));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for wrong in [
            "wall", "wall=", "wall=0", "files=0", "memory=0", "time=1", "cpu=x",
        ] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn short_times_until_a_loss_have_more_frequent_signs_of_life() {
        assert_eq!(
            options(&["--exec-lost-after=3"]).stream().alive_every,
            Duration::from_secs(1)
        );
        assert_eq!(
            options(&["--exec-lost-after=5m"]).stream().alive_every,
            ALIVE_EVERY
        );
    }
}
