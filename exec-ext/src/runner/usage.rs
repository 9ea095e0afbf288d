//! What a program and its descendants have used so far, from `/proc`.

use std::fs;

use rustix::process::Pid;

use super::kin::{self, Kin};
use crate::status::Resources;

/// Adds up what the processes of `kin` have used, with the children that they waited for. What cannot be
/// read counts as nothing. Blocks for as long as a look at every process takes.
pub(super) fn of(kin: &Kin) -> Resources {
    let mut sum = Resources::default();
    for pid in kin::processes().filter(|&pid| kin.includes(pid)) {
        add(&mut sum, pid);
    }
    sum
}

fn add(sum: &mut Resources, pid: Pid) {
    let read = |name: &str| {
        let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
        fs::read_to_string(path).unwrap_or_default()
    };
    let stat = read("stat");
    // The name in parentheses may hold anything, so count from the last one.
    let Some((_, fields)) = stat.rsplit_once(") ") else {
        return;
    };
    let fields: Vec<i64> = fields
        .split(' ')
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0);
    let ticks = super::sys::clock_ticks();
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks of processor time stay far below 2^53"
    )]
    let seconds = |first, second| (field(first) + field(second)) as f64 / ticks as f64;
    sum.ru_minflt += field(7) + field(8);
    sum.ru_majflt += field(9) + field(10);
    sum.ru_utime += seconds(11, 13);
    sum.ru_stime += seconds(12, 14);
    let status = read("status");
    sum.ru_maxrss = sum.ru_maxrss.max(named(&status, "VmHWM:"));
    sum.ru_nvcsw += named(&status, "voluntary_ctxt_switches:");
    sum.ru_nivcsw += named(&status, "nonvoluntary_ctxt_switches:");
    let io = read("io");
    sum.ru_inblock += named(&io, "read_bytes:") / 512;
    sum.ru_oublock += named(&io, "write_bytes:") / 512;
}

/// Returns the first number of the line that begins with `name`.
fn named(text: &str, name: &str) -> i64 {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    let words = values
        .next()
        .and_then(|value| value.split_whitespace().next());
    words.and_then(|word| word.parse().ok()).unwrap_or(0)
}
