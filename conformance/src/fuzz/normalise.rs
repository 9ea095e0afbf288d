//! What of a reply must differ between two servers is taken out of it: devices, inodes, times, blocks,
//! the sizes of directories, free space, and the order in which directories list.

use chirp_proto::Request;

use super::Step;
use super::kind::Kind;

/// Returns a reply in which only what can be compared is left.
#[must_use]
pub fn reply(step: &Step, reply: &[u8]) -> Vec<u8> {
    let kind = Kind::of(&step.request);
    match kind {
        Kind::Stat | Kind::Lstat | Kind::Fstat | Kind::Open => mapped(reply, stat),
        Kind::Statfs | Kind::Fstatfs => mapped(reply, |line| match numbers(line, 7) {
            Some(_) => b"STATFS".to_vec(),
            None => line.to_vec(),
        }),
        Kind::Getdir | Kind::Audit => sorted(reply, 1),
        Kind::Search => match &step.request {
            // Which match is the first is the file system's affair.
            Request::Search { flags, .. } if flags & 1 != 0 => {
                let lines = reply.iter().filter(|byte| **byte == b'\n').count();
                format!("{lines} lines").into_bytes()
            }
            _ => mapped(&sorted(reply, 1), found),
        },
        Kind::Getlongdir => mapped(&sorted(reply, 2), stat),
        Kind::TicketGet => mapped(reply, remaining),
        Kind::TicketList => tickets(reply),
        _ => reply.to_vec(),
    }
}

fn mapped(reply: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    reply
        .split(|byte| *byte == b'\n')
        .map(change)
        .collect::<Vec<_>>()
        .join(&b'\n')
}

/// Sorts what stands behind the status line, in groups of so many lines.
fn sorted(reply: &[u8], group: usize) -> Vec<u8> {
    let mut lines = reply.split(|byte| *byte == b'\n');
    let status = lines.next().unwrap_or_default();
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    let mut groups: Vec<Vec<u8>> = lines
        .chunks(group)
        .map(|chunk| chunk.join(&b'\n'))
        .collect();
    groups.sort();
    groups.insert(0, status.to_vec());
    groups.join(&b'\n')
}

/// Type and permissions, links and size; of a directory neither links nor size, which are the file
/// system's affair.
fn stat(line: &[u8]) -> Vec<u8> {
    let Some(fields) = numbers(line, 13) else {
        return line.to_vec();
    };
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let mode = field(2);
    let (links, size) = match mode & 0o170_000 {
        0o040_000 => (0, 0),
        _ => (field(3), field(7)),
    };
    format!("STAT({mode:o},{links},{size})").into_bytes()
}

/// A line of `search` with metadata.
fn found(line: &[u8]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = line.split(|byte| *byte == b':').map(stat).collect();
    parts.join(&b':')
}

/// The names of tickets, in their order. No line feed stands behind one.
fn tickets(reply: &[u8]) -> Vec<u8> {
    const NAME: usize = "39\nticket:".len() + 32;
    let Some(list) = reply.strip_prefix(b"0\n") else {
        return reply.to_vec();
    };
    let (names, end) = list.split_at(list.len() / NAME * NAME);
    let mut names: Vec<&[u8]> = names.chunks(NAME).collect();
    names.sort_unstable();
    [b"0\n", names.concat().as_slice(), end].concat()
}

/// The seconds that a ticket has left.
fn remaining(line: &[u8]) -> Vec<u8> {
    match numbers(line, 1) {
        Some(fields)
            if fields
                .iter()
                .all(|seconds| (35_000..=36_000).contains(seconds)) =>
        {
            b"SECONDS".to_vec()
        }
        _ => line.to_vec(),
    }
}

/// Returns the numbers of a line of exactly so many.
fn numbers(line: &[u8], count: usize) -> Option<Vec<i64>> {
    let text = std::str::from_utf8(line).ok()?;
    let numbers: Result<Vec<i64>, _> = text.split(' ').map(str::parse).collect();
    numbers.ok().filter(|numbers| numbers.len() == count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(request: Request, text: &str) -> String {
        let step = Step {
            by: super::super::By::Unix,
            request,
            body: Vec::new(),
        };
        String::from_utf8(reply(&step, text.as_bytes())).unwrap_or_default()
    }

    #[test]
    fn what_must_differ_is_gone_and_the_rest_is_kept() {
        let path = chirp_proto::VirtualPath::root();
        let line = "65024 10 33152 2 1001 1001 0 11 4096 8 1 2 3";
        let stat = Request::Stat { path: path.clone() };
        assert_eq!(
            normal(stat.clone(), &format!("0\n{line}\n")),
            "0\nSTAT(100600,2,11)\n"
        );
        assert_eq!(normal(stat, "-3\n"), "-3\n");
        let list = Request::Getdir { path: path.clone() };
        assert_eq!(normal(list, "0\nb\na\n\n"), "0\na\nb");
        let long = Request::Getlongdir { path: path.clone() };
        let text = format!("0\nb\n{line}\na\n{line}\n\n");
        assert_eq!(
            normal(long, &text),
            "0\na\nSTAT(100600,2,11)\nb\nSTAT(100600,2,11)"
        );
        let [one, other] = ["a", "b"].map(|digit| format!("39\nticket:{}", digit.repeat(32)));
        let list = Request::TicketList {
            subject: b"self".to_vec(),
        };
        assert_eq!(
            normal(list, &format!("0\n{other}{one}0\n")),
            format!("0\n{one}{other}0\n")
        );
        let found = Request::Search {
            patterns: Vec::new(),
            roots: Vec::new(),
            flags: 2,
        };
        assert_eq!(
            normal(found, &format!("0\n0:/a:{line}:\n\n")),
            "0\n0:/a:STAT(100600,2,11):"
        );
    }
}
