//! What is measured, and the targets.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bulk::{self, Direction};
use crate::floor::Replies;
use crate::idle;
use crate::small::{self, Small, Verb};
use crate::subject::{Subject, Subjects};
use crate::trees::{Trees, Work};
use crate::{crowd, priority};

/// What one experiment found.
pub(crate) struct Row {
    pub(crate) name: String,
    /// What the numbers count.
    pub(crate) unit: &'static str,
    /// The measurements of each subject, in the order of [`Subject::ALL`]; empty where one is not
    /// measured.
    pub(crate) values: [Vec<f64>; 3],
    pub(crate) targets: Vec<Target>,
    /// Whether less is better.
    pub(crate) small_is_good: bool,
}

/// What our server is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// At least this many times another subject's rate.
    Times(f64, Subject),
    /// Less than this, in the experiment's unit.
    Below(f64),
    /// At most this many times another subject's value.
    AtMost(f64, Subject),
}

/// Something to measure.
pub(crate) struct Experiment {
    kind: Kind,
    targets: Vec<Target>,
}

enum Kind {
    Small(Small),
    Connect,
    Bulk(Direction),
    Idle(usize),
    Tree(Work),
    Crowd(usize),
    Priority(usize),
}

/// How large some experiments are.
pub(crate) struct Sizes {
    /// Connections that do nothing.
    pub(crate) idle: usize,
    /// Files of the tree that is copied.
    pub(crate) files: usize,
    /// Entries of the directory that is searched and listed.
    pub(crate) entries: usize,
    /// Clients that come at once.
    pub(crate) clients: usize,
    /// MiB of the file whose digest is asked for beside small requests; other heavy work in proportion.
    pub(crate) heavy: usize,
}

/// Returns every experiment in the order of the table.
pub(crate) fn all(sizes: &Sizes) -> Vec<Experiment> {
    use Subject::{Floor, Reference};
    use Target::{AtMost, Below, Times};
    let small = |verb, connections, window, targets: &[Target]| Experiment {
        kind: Kind::Small(Small {
            verb,
            connections,
            window,
            floor: Replies::OneByOne,
        }),
        targets: targets.to_vec(),
    };
    // For comparison: what the sockets could carry if replies cost nothing.
    let gathered = |connections, window| Experiment {
        kind: Kind::Small(Small {
            verb: Verb::Stat,
            connections,
            window,
            floor: Replies::Gathered,
        }),
        targets: Vec::new(),
    };
    let tree = |work| Experiment {
        kind: Kind::Tree(work),
        targets: vec![Times(1.0, Reference)],
    };
    let half = Times(0.5, Floor);
    vec![
        small(Verb::Stat, 1, 1, &[half, Times(6.0, Reference)]),
        small(Verb::Stat, 32, 1, &[half, Times(20.0, Reference)]),
        small(Verb::OpenClose, 1, 1, &[]),
        small(Verb::OpenClose, 32, 1, &[]),
        small(Verb::Pread, 1, 1, &[half]),
        small(Verb::Pread, 32, 1, &[half]),
        small(Verb::Stat, 1, 128, &[half]),
        small(Verb::Stat, 32, 16, &[half]),
        gathered(1, 128),
        gathered(32, 16),
        small(Verb::Putfile, 1, 1, &[Times(4.0, Reference)]),
        small(Verb::Putfile, 32, 1, &[Times(8.0, Reference)]),
        Experiment {
            kind: Kind::Bulk(Direction::Get),
            targets: vec![Times(0.95, Floor)],
        },
        Experiment {
            kind: Kind::Bulk(Direction::Put),
            targets: vec![Times(1.2, Reference)],
        },
        Experiment {
            kind: Kind::Connect,
            targets: vec![Times(3.0, Reference)],
        },
        Experiment {
            kind: Kind::Idle(sizes.idle),
            targets: vec![Below(40.0)],
        },
        tree(Work::Thirdput(sizes.files)),
        tree(Work::Search(sizes.entries)),
        tree(Work::Getlongdir(sizes.entries)),
        Experiment {
            kind: Kind::Crowd(sizes.clients),
            targets: vec![Times(3.0, Reference)],
        },
        Experiment {
            kind: Kind::Priority(sizes.heavy),
            targets: vec![AtMost(1.5, Floor)],
        },
    ]
}

impl Experiment {
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Small(small) => small.name(),
            Kind::Connect => "connect and authenticate".to_owned(),
            Kind::Bulk(Direction::Get) => "getfile 256 MiB".to_owned(),
            Kind::Bulk(Direction::Put) => "putfile 256 MiB".to_owned(),
            Kind::Idle(count) => format!("memory of each of {count} idle connections"),
            Kind::Tree(work) => work.name(),
            Kind::Crowd(count) => format!("{count} clients at once, 10 stat each"),
            Kind::Priority(_) => "p99 of stat beside 8 heavy requests".to_owned(),
        }
    }

    /// Takes the measurements: every subject once in each turn, none always first.
    pub(crate) fn run(
        self,
        subjects: &Subjects,
        trees: &Trees,
        turns: u32,
        time: Duration,
    ) -> Result<Row> {
        let name = self.name();
        let mut values = [Vec::new(), Vec::new(), Vec::new()];
        for turn in 0..self.kind.turns(turns) {
            for place in 0..Subject::ALL.len() {
                let at = (turn + place) % Subject::ALL.len();
                if let (Some(subject), Some(series)) = (Subject::ALL.get(at), values.get_mut(at)) {
                    let value = self.kind.once(subjects, trees, *subject, time);
                    series.extend(
                        value.with_context(|| format!("{name}: the {} failed", subject.name()))?,
                    );
                }
            }
        }
        let (unit, small_is_good) = match self.kind {
            Kind::Small(_) | Kind::Connect => ("/s", false),
            Kind::Bulk(_) => ("MiB/s", false),
            Kind::Idle(_) => ("KiB", true),
            Kind::Tree(_) | Kind::Crowd(_) => ("/s", false),
            Kind::Priority(_) => ("µs", true),
        };
        Ok(Row {
            name,
            unit,
            values,
            targets: self.targets,
            small_is_good,
        })
    }
}

impl Kind {
    /// Memory does not vary as time does, and copying thousands of files or serving a thousand clients
    /// takes the reference half a minute, so once is enough; one transfer is short and varies a lot.
    fn turns(&self, asked: u32) -> usize {
        match self {
            Self::Idle(_) | Self::Tree(Work::Thirdput(_)) | Self::Crowd(_) => 1,
            Self::Bulk(_) => 3 * asked as usize,
            // Some seconds each.
            Self::Tree(_) => asked.min(2) as usize,
            Self::Small(_) | Self::Connect | Self::Priority(_) => asked as usize,
        }
    }

    /// Measures one subject once; nothing where the floor has nothing to measure.
    fn once(
        &self,
        subjects: &Subjects,
        trees: &Trees,
        subject: Subject,
        time: Duration,
    ) -> Result<Option<f64>> {
        match self {
            Self::Small(small) => small.measure(subjects, subject, time).map(Some),
            Self::Connect => small::connect_rate(subjects, subject, time).map(Some),
            Self::Bulk(way) => bulk::measure(subjects, subject, *way).map(Some),
            Self::Idle(count) => idle::measure(subject, *count),
            Self::Tree(work) => work.measure(subjects, trees, subject),
            Self::Crowd(count) => crowd::measure(subjects, subject, *count).map(Some),
            // Long enough for a percentile.
            Self::Priority(size) => priority::measure(subjects, subject, *size, 3 * time),
        }
    }
}
