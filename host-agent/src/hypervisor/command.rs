//! The driver `command`: any hypervisor, through a command for each operation.
//!
//! A template is split into words once, when the settings are read; what stands for `{name}` in a word is put
//! there whole, so that it stays one argument whatever is in it, and no shell ever sees it. A command that ends
//! with 0 has done its work. What it prints is read by these rules:
//!
//! * `list`: a machine on each line: name, state, MAC addresses and uuid, with tabs between them; all but the
//!   name may be left out. Without a state `state` is asked for it. MAC addresses have commas between them.
//! * `state`: the state's name, in any case.
//! * `snapshots`: a snapshot on each line: name, id, the parent's id, `*` where it is the current one, and a
//!   description, with tabs between them; all but the name may be left out.
//! * `performance`: `name=number` on each line.
//! * `console`: the path of the file or socket that the machine's serial port leads to.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machine::{self, Snapshot};
use super::tool::{Output, Tool};
use super::{
    Answer, Console, Driver, Error, Finding, Machine, Operation, Performance, State, unsupported,
};

/// How long a question may take.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// The commands that there can be, as the settings have them behind `command_`.
pub const NAMES: [&str; 19] = [
    "list",
    "state",
    "start",
    "shutdown",
    "power_off",
    "reset",
    "pause",
    "resume",
    "save",
    "discard",
    "snapshot_take",
    "snapshot_restore",
    "snapshot_list",
    "snapshot_delete",
    "create",
    "remove",
    "performance",
    "console",
    "check",
];

/// What may stand in a template.
const PLACES: [&str; 7] = [
    "name",
    "snapshot",
    "description",
    "image",
    "memory",
    "cpus",
    "mac",
];

/// A command with places for what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<String>,
}

impl Template {
    /// Reads a template: words with blanks between them; a word may stand in double quotes, in which `\"` and
    /// `\\` are a quote and a backslash.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quoted = false;
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                '\\' if quoted => match characters.next() {
                    Some(escaped @ ('"' | '\\')) => word.get_or_insert_default().push(escaped),
                    _ => {
                        return Err(
                            "a backslash in quotes comes before a quote or a backslash".to_owned()
                        );
                    }
                },
                blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
                other => word.get_or_insert_default().push(other),
            }
        }
        if quoted {
            return Err("a quote is not closed".to_owned());
        }
        words.extend(word);
        if words.is_empty() {
            return Err("it is empty".to_owned());
        }
        for place in words.iter().flat_map(|word| places(word)) {
            if !PLACES.contains(&place) {
                return Err(format!(
                    "nothing stands for {{{place}}}; there are {}",
                    PLACES.map(|name| format!("{{{name}}}")).join(", ")
                ));
            }
        }
        Ok(Self { words })
    }

    /// Puts values in the places. In one pass, so that a value is never looked at for places.
    fn fill(&self, values: &BTreeMap<&str, String>) -> Vec<String> {
        self.words
            .iter()
            .map(|word| {
                let mut filled = String::new();
                let mut rest = word.as_str();
                while let Some((before, place, after)) = split_place(rest) {
                    filled.push_str(before);
                    filled.push_str(values.get(place).map_or("", String::as_str));
                    rest = after;
                }
                filled + rest
            })
            .collect()
    }
}

/// Splits a word at its first `{place}`: what is before it, its name, and what is after it.
fn split_place(word: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = word.split_once('{')?;
    let (place, after) = rest.split_once('}')?;
    Some((before, place, after))
}

fn places(word: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = word;
    while let Some((_, place, after)) = split_place(rest) {
        found.push(place);
        rest = after;
    }
    found
}

/// Any hypervisor, by commands.
#[derive(Debug, Clone)]
pub struct Commands {
    templates: BTreeMap<String, Template>,
    helpers: Option<PathBuf>,
}

impl Commands {
    /// Returns the driver of these commands, by the names in [`NAMES`]. Programs without a slash are taken
    /// from `helpers` where that is set, else by `PATH`.
    #[must_use]
    pub fn new(templates: BTreeMap<String, Template>, helpers: Option<PathBuf>) -> Self {
        Self { templates, helpers }
    }

    /// Runs a command; nothing where there is no such command.
    async fn run(
        &self,
        command: &str,
        values: &BTreeMap<&str, String>,
        limit: Duration,
    ) -> Result<Option<Output>, Error> {
        let Some(template) = self.templates.get(command) else {
            return Ok(None);
        };
        let mut words = template.fill(values).into_iter();
        let program = words.next().unwrap_or_default();
        let helpers = self.helpers.as_deref().filter(|_| !program.contains('/'));
        let remedy = format!("correct Hypervisor.command_{command}");
        let output = Tool::new(&program, helpers, &remedy)
            .run(words, limit)
            .await?;
        if output.code == 0 {
            return Ok(Some(output));
        }
        let name = values.get("name").map_or("", String::as_str);
        Err(Error::Failed {
            what: if name.is_empty() {
                format!("the command {command}")
            } else {
                format!("the command {command} for machine {name:?}")
            },
            said: output.said(),
        })
    }

    /// Runs a question about a machine.
    async fn ask(&self, command: &str, machine: &str) -> Result<String, Error> {
        let values = BTreeMap::from([("name", machine.to_owned())]);
        match self.run(command, &values, ASK_WITHIN).await? {
            Some(output) => Ok(output.out),
            None => Err(Error::NotSupported {
                driver: "command",
                operation: format!("{command} (there is no Hypervisor.command_{command})"),
            }),
        }
    }

    async fn state(&self, machine: &str) -> Result<State, Error> {
        Ok(state(self.ask("state", machine).await?.trim()))
    }

    async fn list(&self) -> Result<Vec<Machine>, Error> {
        let listed = self.ask("list", "").await?;
        let mut machines = Vec::new();
        for line in listed.lines().filter(|line| !line.trim().is_empty()) {
            let mut fields = line.split('\t').map(str::trim);
            let name = fields.next().unwrap_or_default().to_owned();
            let state = match fields.next().filter(|text| !text.is_empty()) {
                Some(text) => state(text),
                None => self.state(&name).await?,
            };
            let macs = fields
                .next()
                .unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|text| !text.is_empty())
                .map(|text| {
                    text.parse().map_err(|_| Error::BadAnswer {
                        what: "the command list".to_owned(),
                        reason: format!("{text:?} of machine {name:?} is no MAC address"),
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            let uuid = fields.next().filter(|text| !text.is_empty());
            machines.push(Machine {
                uuid: uuid.map(str::to_owned),
                name,
                state,
                macs,
                forwarded: None,
            });
        }
        Ok(machines)
    }

    async fn do_to(&self, machine: &str, operation: Operation) -> Result<(), Error> {
        operation.check(machine)?;
        // The commands are told names only, and only of machines that there are.
        let name = match &operation {
            Operation::Create(_) => machine.to_owned(),
            _ => machine::find(self.list().await?, machine)?.name,
        };
        let mut values = BTreeMap::from([("name", name.clone())]);
        let command = match &operation {
            Operation::Start => "start",
            Operation::Shutdown => "shutdown",
            Operation::PowerOff => "power_off",
            Operation::Reset => "reset",
            Operation::Pause => "pause",
            Operation::Resume => "resume",
            Operation::Save => "save",
            Operation::Discard => "discard",
            Operation::TakeSnapshot {
                snapshot,
                description,
            } => {
                values.insert("snapshot", snapshot.clone());
                values.insert("description", description.clone());
                "snapshot_take"
            }
            Operation::RestoreSnapshot { snapshot } => {
                let snapshot = match snapshot {
                    Some(snapshot) => snapshot.clone(),
                    None => machine::find_snapshot(&name, self.tree(&name).await?, None)?.id,
                };
                values.insert("snapshot", snapshot);
                "snapshot_restore"
            }
            Operation::DeleteSnapshot { snapshot } => {
                values.insert("snapshot", snapshot.clone());
                "snapshot_delete"
            }
            Operation::Create(blueprint) => {
                if let Some(image) = &blueprint.image {
                    let image = image.to_str().ok_or_else(|| Error::BadArgument {
                        what: image.display().to_string(),
                        reason: "not UTF-8".to_owned(),
                    })?;
                    values.insert("image", image.to_owned());
                }
                let text = |number: Option<u32>| number.map_or_else(String::new, |n| n.to_string());
                values.insert("memory", text(blueprint.memory_mib));
                values.insert("cpus", text(blueprint.cpus));
                let mac = blueprint
                    .mac
                    .map_or_else(String::new, |mac| mac.to_string());
                values.insert("mac", mac);
                "create"
            }
            Operation::Remove => "remove",
        };
        match self.run(command, &values, operation.limit()).await? {
            Some(_) => Ok(()),
            None => Err(Error::NotSupported {
                driver: self.name(),
                operation: format!("{command} (there is no Hypervisor.command_{command})"),
            }),
        }
    }

    async fn tree(&self, machine: &str) -> Result<Vec<Snapshot>, Error> {
        let listed = self.ask("snapshot_list", machine).await?;
        Ok(listed
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let mut fields = line.splitn(5, '\t').map(str::trim);
                let name = fields.next().unwrap_or_default().to_owned();
                let mut field = || fields.next().filter(|text| !text.is_empty());
                Snapshot {
                    id: field().unwrap_or(&name).to_owned(),
                    parent: field().map(str::to_owned),
                    current: field() == Some("*"),
                    description: field().unwrap_or_default().to_owned(),
                    time: None,
                    name,
                }
            })
            .collect())
    }
}

/// Returns the state of that name, in any case.
fn state(text: &str) -> State {
    let all = [
        State::PoweredOff,
        State::Saved,
        State::Aborted,
        State::Running,
        State::Paused,
        State::Stuck,
        State::Starting,
        State::Stopping,
        State::Saving,
        State::Restoring,
        State::Discarding,
    ];
    all.into_iter()
        .find(|state| state.as_str().eq_ignore_ascii_case(text))
        .unwrap_or(State::Unknown)
}

impl Driver for Commands {
    fn name(&self) -> &'static str {
        "command"
    }

    fn check(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async move {
            let missing: Vec<&str> = ["list", "start", "power_off"]
                .into_iter()
                .filter(|name| !self.templates.contains_key(*name))
                .collect();
            if !missing.is_empty() {
                let keys: Vec<String> = missing
                    .iter()
                    .map(|name| format!("Hypervisor.command_{name}"))
                    .collect();
                return Ok(vec![Finding::bad(
                    format!("no command for {}", missing.join(", ")),
                    format!("set {}", keys.join(", ")),
                )]);
            }
            let mut findings = vec![match self.list().await {
                Ok(machines) => Finding::good(format!("{} machines", machines.len())),
                Err(error) => Finding::bad(error.to_string(), "correct Hypervisor.command_list"),
            }];
            if let Some(checked) = self
                .run("check", &BTreeMap::new(), ASK_WITHIN)
                .await
                .transpose()
            {
                findings.push(match checked {
                    Ok(output) => Finding::good(output.out.trim()),
                    Err(error) => Finding::bad(error.to_string(), "do what it says"),
                });
            }
            Ok(findings)
        })
    }

    fn machines(&self) -> Answer<'_, Vec<Machine>> {
        Box::pin(self.list())
    }

    fn operate<'a>(&'a self, machine: &'a str, operation: Operation) -> Answer<'a, ()> {
        Box::pin(self.do_to(machine, operation))
    }

    fn snapshots<'a>(&'a self, machine: &'a str) -> Answer<'a, Vec<Snapshot>> {
        Box::pin(async move {
            let machine = machine::find(self.list().await?, machine)?;
            self.tree(&machine.name).await
        })
    }

    fn performance<'a>(&'a self, machine: &'a str) -> Answer<'a, Performance> {
        if !self.templates.contains_key("performance") {
            return unsupported(self.name(), "performance figures");
        }
        Box::pin(async move {
            let machine = machine::find(self.list().await?, machine)?;
            Ok(self
                .ask("performance", &machine.name)
                .await?
                .lines()
                .filter_map(|line| {
                    let (name, value) = line.split_once('=')?;
                    Some((name.trim().to_owned(), value.trim().parse().ok()?))
                })
                .collect())
        })
    }

    fn console<'a>(&'a self, machine: &'a str) -> Answer<'a, Console> {
        Box::pin(async move {
            let machine = machine::find(self.list().await?, machine)?;
            let answer = self.ask("console", &machine.name).await?;
            let path = Path::new(answer.trim()).to_owned();
            let socket = std::fs::metadata(&path).is_ok_and(|found| found.file_type().is_socket());
            Ok(if socket {
                Console::Socket(path)
            } else {
                Console::Log(path)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_split_once_and_filled_whole() {
        let template =
            Template::parse(r#"vmctl "a b" "" --name={name} {name}{snapshot} "q\"\\""#).unwrap();
        let values = BTreeMap::from([
            ("name", "x y; rm {snapshot}".to_owned()),
            ("snapshot", "s".to_owned()),
        ]);
        assert_eq!(
            template.fill(&values),
            [
                "vmctl",
                "a b",
                "",
                "--name=x y; rm {snapshot}",
                "x y; rm {snapshot}s",
                "q\"\\"
            ]
        );
    }

    #[test]
    fn templates_that_mean_nothing_are_refused() {
        for (text, word) in [
            ("", "empty"),
            ("  ", "empty"),
            ("a \"b", "closed"),
            ("a {nmae}", "{nmae}"),
            ("a \"\\n\"", "backslash"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(word), "{text:?}: {error}");
        }
        assert!(Template::parse("a { b").is_ok());
    }
}
