//! Plays every recorded vector on the reference's server and on ours.
//!
//! Each that came with the specification is a case of its own, `reference::NAME` and `ours::NAME`, except those that follow one job from
//! its creation to its end: they are one, `reference::job-lifecycle` and `ours::job-lifecycle`. Cases that share server options
//! share one server and take turns on it; the others run side by side. The generated vectors about one
//! verb are one case, `reference::recorded::VERB` and `ours::recorded::VERB`, which names each that fails.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use conformance::compare::Expected;
use conformance::coverage::Coverage;
use conformance::differences::{Differences, path};
use conformance::fuzz::accepted::Accepted;
use conformance::guided::Guided;
use conformance::program::{Maker, Program};
use conformance::proof::Proof;
use conformance::script::Player;
use conformance::target::{Options, Server};
use conformance::vector::{self, Vector};
use conformance::{matrix, render};
use libtest_mimic::{Arguments, Failed, Trial};

/// Vectors that are one story: they run once and in order, on a server of their own, as one case.
const STORY: &str = "job-lifecycle";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let differences = Arc::new(Differences::load()?);
    let given: Vec<Arc<Vector>> = vector::given()?.into_iter().map(Arc::new).collect();
    let mut trials = vec![page_is_up_to_date()];
    add_generated(&mut trials, &differences);
    let servers = add_cases(&mut trials, &given, &differences);
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The trials are gone; the servers end here.
    drop(servers);
    Ok(conclusion.exit_code())
}

/// A server that is started for the first case that wants it.
struct Shared {
    program: Program,
    options: Options,
    server: Mutex<State>,
}

enum State {
    NotStarted,
    Running(Server),
    Failed(String),
}

impl Shared {
    /// Runs `action` while no other case uses the server.
    fn with<T>(&self, action: impl FnOnce(&Server) -> Result<T>) -> Result<T> {
        let mut state = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::NotStarted = *state {
            *state = match Server::start(&self.program, &self.options) {
                Ok(server) => State::Running(server),
                Err(error) => State::Failed(format!("{error:#}")),
            };
        }
        match &*state {
            State::Running(server) => action(server),
            State::Failed(reason) => bail!("{reason}"),
            State::NotStarted => unreachable!("it was started above"),
        }
    }
}

type Servers = BTreeMap<(Maker, String), Arc<Shared>>;

fn add_cases(
    trials: &mut Vec<Trial>,
    vectors: &[Arc<Vector>],
    differences: &Arc<Differences>,
) -> Servers {
    let mut servers = Servers::new();
    let mut programs = BTreeMap::new();
    for maker in Maker::ALL {
        match Program::server(maker) {
            Ok(program) => {
                programs.insert(maker, program);
            }
            // One case that says so, instead of hundreds.
            Err(error) => trials.push(Trial::test(
                format!("{}::server-is-there", maker.name()),
                move || Err(Failed::from(format!("{error:#}"))),
            )),
        }
    }
    let (story, single): (Vec<_>, Vec<_>) = vectors
        .iter()
        .cloned()
        .partition(|vector| vector.name.starts_with(STORY));
    for (maker, program) in &programs {
        if story.is_empty() {
            continue;
        }
        let (maker, program, story) = (*maker, program.clone(), story.clone());
        let differences = Arc::clone(differences);
        trials.push(Trial::test(
            format!("{}::{STORY}", maker.name()),
            move || {
                tell(maker, &program, &story, &differences)
                    .map_err(|error| Failed::from(format!("{error:#}")))
            },
        ));
    }
    for vector in &single {
        for (maker, program) in &programs {
            // The reference's accounts of space go wrong from one connection to the next (W26).
            let own = if *maker == Maker::Reference && vector.server.contains("-Q") {
                vector.name.as_str()
            } else {
                ""
            };
            let shared = servers
                .entry((*maker, format!("{}{own}", vector.server)))
                .or_insert_with(|| {
                    Arc::new(Shared {
                        program: program.clone(),
                        options: Options::from_words(&vector.server),
                        server: Mutex::new(State::NotStarted),
                    })
                });
            let (vector, shared) = (Arc::clone(vector), Arc::clone(shared));
            let (maker, differences) = (*maker, Arc::clone(differences));
            trials.push(Trial::test(
                format!("{}::{}", maker.name(), vector.name),
                move || {
                    shared
                        .with(|server| case(maker, &vector, &mut on(server), &differences))
                        .map_err(|error| Failed::from(format!("{error:#}")))
                },
            ));
        }
    }
    servers
}

/// Plays the vectors of a story on a fresh server.
fn tell(
    maker: Maker,
    program: &Program,
    story: &[Arc<Vector>],
    differences: &Differences,
) -> Result<()> {
    let options = story.first().map_or("", |vector| vector.server.as_str());
    let server = Server::start(program, &Options::from_words(options))?;
    for vector in story {
        ensure!(
            vector.server == options,
            "{} needs another server",
            vector.name
        );
        case(maker, vector, &mut on(&server), differences).with_context(|| vector.name.clone())?;
    }
    Ok(())
}

/// A player that has no connection yet.
fn on(server: &Server) -> Player<'_> {
    Player::new(server.address(), server.account(), None)
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
        let vectors = vector::recorded()?;
        let page = render::page(
            &vectors,
            &Differences::accepted(&vectors)?,
            &Accepted::load()?,
            &matrix::accepted::Accepted::written()?,
            &Coverage::written()?,
            &Proof::written()?,
            &Guided::written()?,
        );
        let path = path("../CONFORMANCE.md");
        let written =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            written == page,
            "CONFORMANCE.md is stale; run: cargo run -p conformance -- render"
        );
        Ok(())
    };
    Trial::test("suite::conformance-page-is-up-to-date", move || {
        judge().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn add_generated(trials: &mut Vec<Trial>, differences: &Arc<Differences>) {
    for maker in Maker::ALL {
        // That a server is missing is one case of its own, elsewhere.
        let Ok(program) = Program::server(maker) else {
            continue;
        };
        for verb in vector::generated_verbs() {
            let (program, differences) = (program.clone(), Arc::clone(differences));
            trials.push(Trial::test(
                format!("{}::recorded::{verb}", maker.name()),
                move || {
                    generated(maker, &program, verb, &differences)
                        .map_err(|error| Failed::from(format!("{error:#}")))
                },
            ));
        }
    }
}

/// Plays the generated vectors about one verb, one after the other, on a fresh server; with `-Q` each has
/// one of its own, since the reference's accounts of space go wrong from one connection to the next (W26).
fn generated(maker: Maker, program: &Program, verb: &str, differences: &Differences) -> Result<()> {
    let vectors = vector::generated_about(verb)?;
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
