//! The plain request; words that are missing; texts that mean something else.

use super::Case;
use super::template::{Template, Word};
use crate::vector::{Login, Vector};

/// Returns the vectors of this family.
#[must_use]
pub fn cases(template: &Template) -> Vec<Vector> {
    let plain = Case {
        name: "plain".to_owned(),
        lines: vec![template.line()],
        setup: template.setup(),
        host: Vec::new(),
        login: Login::Unix,
        probed: true,
    };
    let mut cases = vec![plain.clone()];
    if !template.words.is_empty() && !template.again {
        // One behind the other: none is obeyed, so none changes what the next one is about.
        let missing = (0..template.words.len()).map(|count| {
            let mut line = template.line();
            line.words.truncate(count);
            line
        });
        cases.push(Case {
            name: "words".to_owned(),
            lines: missing.collect(),
            probed: false,
            ..plain.clone()
        });
    }
    for (at, (name, word)) in template.words.iter().enumerate() {
        let Word::Text(_, others) = word else {
            continue;
        };
        for (meaning, text) in *others {
            let mut case = plain.clone();
            case.name = format!("text.{name}={meaning}");
            let mut line = template.line();
            line.set(at, *text);
            case.lines = vec![line];
            cases.push(case);
        }
    }
    cases
        .into_iter()
        .map(|case| case.vector(template))
        .collect()
}
