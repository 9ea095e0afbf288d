//! A difference as a vector to paste: a line of JSON that the tests then play in every run.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::By;
use super::campaign::{Difference, Finding};
use super::generate::PLACE;
use super::kind::Kind;
use super::text;

/// Returns a finding as a line for `vectors/found.jsonl`, whose form [`super::found`] describes: any number
/// of connections. The replies are the first server's.
#[must_use]
pub fn script(finding: &Finding) -> String {
    let steps = finding.script.iter().zip(&finding.replies);
    let steps: Vec<Value> = steps
        .map(|(step, [reply, _])| json!({"send": text::write(step), "reply": latin1(reply)}))
        .collect();
    let name = format!("found-by-seed-{}", finding.seed);
    json!({"name": name, "server": finding.server, "script": steps, "note": ""}).to_string()
}

/// Returns a finding as a line of the form of `vectors/chirp-vectors.jsonl`, if that can say it: one
/// connection, a setup that succeeds, and a last reply that is the same each time.
#[must_use]
pub fn vector(finding: &Finding) -> Option<String> {
    let Difference::Replies(reply, _) = &finding.difference else {
        return None;
    };
    let (last, before) = finding.script.split_last()?;
    let alone = before.iter().all(|step| step.by == last.by) && last.by == By::Unix;
    let took = finding.replies.iter().take(before.len());
    let took = took
        .clone()
        .all(|[reply, _]| !reply.starts_with(b"-") && reply.ends_with(b"\n"));
    let plain = !matches!(
        Kind::of(&last.request),
        Kind::Putfile
            | Kind::Putstream
            | Kind::Getstream
            | Kind::Getdir
            | Kind::Getlongdir
            | Kind::Audit
            | Kind::Search
            | Kind::TicketGet
            | Kind::Statfs
            | Kind::Fstatfs
    );
    let text = latin1(reply);
    if !alone || !took || !plain || text.contains("STAT(") || text.contains('<') {
        return None;
    }
    let own = format!("{}: ", last.by.name());
    let request = |step| {
        let text = text::write(step);
        let text = text.strip_prefix(&own).unwrap_or(&text);
        match text.contains('\n') {
            true => text.to_owned(),
            false => format!("{text}\n"),
        }
    };
    let mut setup = vec![format!("rmall {PLACE}\n"), format!("mkdir {PLACE} 448\n")];
    setup.extend(before.iter().map(request));
    let send = request(last);
    let bytes: Vec<u8> = [last.line(), last.body.clone()].concat();
    let code = text
        .lines()
        .next()
        .and_then(|line| line.parse::<i64>().ok());
    let line = json!({
        "name": format!("found-by-seed-{}", finding.seed),
        "server": finding.server,
        "auth": last.by.name(),
        "setup_auth": last.by.name(),
        "setup": setup,
        "send": send,
        "send_b64": BASE64_STANDARD.encode(bytes),
        "expect": {"code": code, "reply": text, "eof": false},
        "quiet": 0.25,
        "level": "should",
        "note": "",
    });
    Some(line.to_string())
}

/// Returns bytes as a text with a code point for each.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::found::Found;

    fn finding(texts: &[&str], replies: &[&str]) -> Finding {
        let replies: Vec<[Vec<u8>; 2]> = replies
            .iter()
            .map(|reply| [reply.as_bytes().to_vec(), b"other\n".to_vec()])
            .collect();
        let [left, right] = replies.last().unwrap().clone();
        Finding {
            seed: 7,
            server: "-F 1MB".to_owned(),
            script: texts.iter().map(|text| text::read(text).unwrap()).collect(),
            difference: Difference::Replies(left, right),
            replies,
        }
    }

    #[test]
    fn a_finding_of_several_connections_is_a_script() {
        let texts = ["unix: putfile /s/a 420 3\na\u{e9}c", "address: unlink /s/a"];
        let finding = finding(&texts, &["0\n3\n", "-2\n"]);
        let found = Found::parse(&script(&finding)).unwrap();
        assert_eq!(found.steps().unwrap(), finding.script);
        assert_eq!(found.server, "-F 1MB");
        assert_eq!(vector(&finding), None);
    }

    #[test]
    fn a_finding_of_one_connection_is_also_a_vector() {
        let texts = ["unix: mkdir /s/a 448", "unix: rmdir /s/a"];
        let line = vector(&finding(&texts, &["0\n", "-13\n"])).unwrap();
        let vector: crate::vector::Vector = serde_json::from_str(&line).unwrap();
        assert_eq!(vector.setup.last().unwrap(), "mkdir /s/a 448\n");
        assert_eq!(
            (vector.send.as_str(), vector.expect.code),
            ("rmdir /s/a\n", Some(-13))
        );
        assert_eq!(vector.server, "-F 1MB");
        let texts = ["unix: stat /s"];
        assert_eq!(
            super::vector(&finding(&texts, &["0\nSTAT(40700,0,0)\n"])),
            None
        );
    }
}
