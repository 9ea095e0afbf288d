//! Plays every recorded vector on the reference's server and on ours.
//!
//! Those that came with the specification are one case for each word that names begin with, `reference::WORD` and
//! `ours::WORD`, with the server's options behind it where it has some; the generated ones are one for
//! each verb, `reference::recorded::VERB` and `ours::recorded::VERB`. Each case has a server of its own and names
//! each vector that fails.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use conformance::compare::Expected;
use conformance::differences::{Differences, path};
use conformance::program::{Maker, Program};
use conformance::render;
use conformance::script::Player;
use conformance::target::{Options, Server};
use conformance::vector::{self, Vector};
use libtest_mimic::{Arguments, Failed, Trial};

/// Vectors that are one story, from the creation of a job to its end, and not to be mixed with others.
const STORY: &str = "job-lifecycle";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let differences = Arc::new(Differences::load()?);
    let mut trials = vec![page_is_up_to_date()];
    for maker in Maker::ALL {
        match Program::server(maker) {
            Ok(program) => {
                add_given(&mut trials, maker, &program, &differences)?;
                add_generated(&mut trials, maker, &program, &differences);
            }
            // One case that says so, instead of hundreds.
            Err(error) => trials.push(Trial::test(
                format!("{}::server-is-there", maker.name()),
                move || Err(Failed::from(format!("{error:#}"))),
            )),
        }
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// Adds the vectors that came with the specification.
fn add_given(
    trials: &mut Vec<Trial>,
    maker: Maker,
    program: &Program,
    differences: &Arc<Differences>,
) -> Result<()> {
    let mut groups: BTreeMap<String, Vec<Vector>> = BTreeMap::new();
    for vector in vector::given()? {
        let word = match vector.name.split_once('-') {
            _ if vector.name.starts_with(STORY) => STORY,
            Some((word, _)) => word,
            None => &vector.name,
        };
        let name = format!("{word} {}", vector.server);
        let name = name.trim_end().replace(' ', "_");
        groups.entry(name).or_default().push(vector);
    }
    for (name, vectors) in groups {
        let (program, differences) = (program.clone(), Arc::clone(differences));
        trials.push(Trial::test(
            format!("{}::{name}", maker.name()),
            move || {
                play(maker, &program, &vectors, &differences)
                    .map_err(|error| Failed::from(format!("{error:#}")))
            },
        ));
    }
    Ok(())
}

/// Adds the generated vectors, which are read by the case that plays them.
fn add_generated(
    trials: &mut Vec<Trial>,
    maker: Maker,
    program: &Program,
    differences: &Arc<Differences>,
) {
    for verb in vector::generated_verbs() {
        let (program, differences) = (program.clone(), Arc::clone(differences));
        trials.push(Trial::test(
            format!("{}::recorded::{verb}", maker.name()),
            move || {
                vector::generated_about(verb)
                    .and_then(|vectors| play(maker, &program, &vectors, &differences))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            },
        ));
    }
}

fn case(
    maker: Maker,
    vector: &Vector,
    player: &mut Player<'_>,
    differences: &Differences,
) -> Result<()> {
    let login = player.login().to_owned();
    let login = login.as_str();
    let recorded = Expected::new(&vector.expect, login)?;
    let instead = match maker {
        Maker::Reference => None,
        Maker::Ours => differences
            .for_vector(vector)
            .map(|expect| Expected::new(&expect, login))
            .transpose()?,
    };
    let expected = instead.as_ref().unwrap_or(&recorded);
    let observed = player.play(vector, expected)?;
    ensure!(
        instead.is_none() || !recorded.matches(&observed),
        "{} is in differences.toml, but no longer differs: delete it there",
        vector.name
    );
    ensure!(
        expected.matches(&observed),
        "{:?}: {}\n  sent      \"{}\"\n  expected  {expected}\n  came      {observed}",
        vector.level,
        vector.note,
        shorten(&vector.send),
    );
    Ok(())
}

/// Returns what was sent in a form that fits a message.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown: String = text.escape_debug().take(LONGEST).collect();
    if text.len() > LONGEST {
        shown.push('…');
    }
    shown
}

/// The page is that of today's lists, and every line of them is needed.
fn page_is_up_to_date() -> Trial {
    let judge = || -> Result<()> {
        let path = path("../CONFORMANCE.md");
        let written =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            written == render::page()?,
            "CONFORMANCE.md is stale; run: cargo run -p conformance -- render"
        );
        Ok(())
    };
    Trial::test("suite::conformance-page-is-up-to-date", move || {
        judge().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Plays vectors that need the same options, one after the other, on a fresh server; with `-Q` each has one of
/// its own, since the reference's accounts of space go wrong from one connection to the next (W26).
fn play(
    maker: Maker,
    program: &Program,
    vectors: &[Vector],
    differences: &Differences,
) -> Result<()> {
    let options = vectors.first().map_or("", |vector| vector.server.as_str());
    let turns = if options.contains("-Q") {
        1
    } else {
        vectors.len().max(1)
    };
    let mut failures = Vec::new();
    for vectors in vectors.chunks(turns) {
        let server = Server::start(program, &Options::from_words(options))?;
        let root = server.root();
        let mut player = Player::new(server.address(), server.account(), Some(&root));
        for vector in vectors {
            ensure!(
                vector.server == options,
                "{} needs another server",
                vector.name
            );
            if let Err(error) = case(maker, vector, &mut player, differences) {
                failures.push(format!("{}: {error:#}", vector.name));
            }
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {} vectors:\n{}",
        failures.len(),
        vectors.len(),
        failures.join("\n")
    );
    Ok(())
}
