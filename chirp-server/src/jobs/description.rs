//! What `job_create` asks for (part 9.2), read strictly and with bounded memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use chirp_proto::Code;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::text::Text;

/// Bytes of a path, the reference's NUL counted.
pub(super) const PATH_BYTES: usize = 1024;

/// Bytes of a job's tag; the rest is cut off.
const TAG_MAX: usize = 127;

/// The tag of a job without one.
const NO_TAG: &[u8] = b"(unknown)";

/// Elements of each list of a description. What is above could not be executed (2 MiB of pointers
/// and strings), and would take much more memory than its text.
const ELEMENTS_MAX: usize = 65_536;

/// Ids in one request: more than the jobs that a server keeps.
const IDS_MAX: usize = 200_000;

/// One job, as its owner described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    /// The program: a path on this machine, or relative to the sandbox.
    pub(super) executable: Text,
    /// All arguments, the program's own name first.
    pub(super) arguments: Vec<Text>,
    /// Variables, in the order of their names.
    pub(super) environment: BTreeMap<Text, Text>,
    /// Bindings, in the order of their task paths, inputs first.
    pub(super) files: Vec<File>,
    /// Free text.
    pub(super) tag: Text,
}

/// A file of the server bound to one of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its path in the sandbox.
    pub(super) task_path: Text,
    /// Which way it goes.
    pub(super) kind: Kind,
    /// How.
    pub(super) binding: Binding,
    /// Its path on the server; patterns are replaced when an output is bound.
    pub(super) serv_path: Text,
    /// Free text.
    pub(super) tag: Option<Text>,
    /// Bytes of an output that was bound.
    pub(super) size: Option<u64>,
}

/// The direction of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Input,
    Output,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Input => "INPUT",
            Self::Output => "OUTPUT",
        }
    }
}

/// How a file is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    Link,
    Copy,
    Url,
}

impl Binding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Link => "LINK",
            Self::Copy => "COPY",
            Self::Url => "URL",
        }
    }
}

impl Description {
    /// Reads the body of `job_create`.
    ///
    /// # Errors
    ///
    /// -8 for what is no such object, -24 for a path that is too long.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Code> {
        let mut description: Self =
            serde_json::from_slice(body).map_err(|_| Code::InvalidRequest)?;
        let too_long = |path: &Text| path.as_bytes().len() >= PATH_BYTES;
        if too_long(&description.executable) {
            return Err(Code::InvalidRequest);
        }
        let mut files = description.files.iter();
        if files.any(|file| too_long(&file.serv_path) || too_long(&file.task_path)) {
            return Err(Code::NameTooLong);
        }
        description.tag.truncate(TAG_MAX);
        // The last of several with one task path and type counts.
        let mut bound = BTreeMap::new();
        for file in description.files.drain(..) {
            bound.insert((file.task_path.clone(), file.kind), file);
        }
        description.files = bound.into_values().collect();
        Ok(description)
    }

    /// Returns about how many bytes of memory this takes.
    pub(super) fn weight(&self) -> usize {
        const ELEMENT: usize = 64;
        let text = |text: &Text| ELEMENT + text.as_bytes().len();
        let arguments: usize = self.arguments.iter().map(text).sum();
        let environment: usize = self
            .environment
            .iter()
            .map(|(name, value)| text(name) + text(value))
            .sum();
        let files: usize = self
            .files
            .iter()
            .map(|file| {
                let tag = file.tag.as_ref().map_or(0, text);
                text(&file.task_path) + text(&file.serv_path) + tag + ELEMENT
            })
            .sum();
        text(&self.executable) + arguments + environment + files + ELEMENT
    }
}

/// Reads the body of the other verbs: an array of ids.
///
/// # Errors
///
/// -8 for anything else, -7 for more ids than there can be jobs.
pub(super) fn parse_ids(body: &[u8]) -> Result<Vec<i64>, Code> {
    let Bounded(ids) = serde_json::from_slice::<Bounded<i64, IDS_MAX>>(body).map_err(|error| {
        if error.to_string().starts_with(TOO_MANY) {
            Code::NoMemory
        } else {
            Code::InvalidRequest
        }
    })?;
    Ok(ids)
}

/// How the error for too long a list begins.
const TOO_MANY: &str = "too many elements";

/// A list that ends being read when it is too long.
struct Bounded<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() >= MAX {
                        return Err(A::Error::custom(TOO_MANY));
                    }
                    elements.push(element);
                }
                Ok(Bounded(elements))
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// Takes a value for a key, unless the key was there before: the first one counts, as in the
/// reference.
fn first<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    slot: &mut Option<T>,
) -> Result<(), A::Error> {
    if slot.is_some() {
        map.next_value::<IgnoredAny>().map(drop)
    } else {
        *slot = Some(map.next_value()?);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DescriptionVisitor)
    }
}

struct DescriptionVisitor;

impl<'de> Visitor<'de> for DescriptionVisitor {
    type Value = Description;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Description, A::Error> {
        let mut executable = None;
        let mut arguments: Option<Bounded<Text, ELEMENTS_MAX>> = None;
        let mut environment: Option<Option<Environment>> = None;
        let mut files: Option<Bounded<File, ELEMENTS_MAX>> = None;
        let mut tag: Option<Option<Text>> = None;
        while let Some(key) = map.next_key::<Text>()? {
            match key.as_bytes() {
                b"executable" => first(&mut map, &mut executable)?,
                b"arguments" => first(&mut map, &mut arguments)?,
                b"environment" => first(&mut map, &mut environment)?,
                b"files" => first(&mut map, &mut files)?,
                b"tag" => first(&mut map, &mut tag)?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        let missing = A::Error::missing_field;
        Ok(Description {
            executable: executable.ok_or_else(|| missing("executable"))?,
            arguments: arguments.ok_or_else(|| missing("arguments"))?.0,
            environment: environment.flatten().unwrap_or_default().0,
            files: files.ok_or_else(|| missing("files"))?.0,
            tag: tag.flatten().unwrap_or_else(|| Text::new(NO_TAG)),
        })
    }
}

/// The variables of a job.
#[derive(Default)]
struct Environment(BTreeMap<Text, Text>);

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvironmentVisitor)
    }
}

struct EnvironmentVisitor;

impl<'de> Visitor<'de> for EnvironmentVisitor {
    type Value = Environment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Environment, A::Error> {
        let mut variables = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<Text, Text>()? {
            if variables.len() >= ELEMENTS_MAX {
                return Err(A::Error::custom(TOO_MANY));
            }
            variables.entry(name).or_insert(value);
        }
        Ok(Environment(variables))
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file binding")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let (mut kind, mut serv_path, mut task_path) = (None, None, None);
        let mut binding: Option<Option<Binding>> = None;
        let mut tag: Option<Option<Text>> = None;
        while let Some(key) = map.next_key::<Text>()? {
            match key.as_bytes() {
                b"type" => first(&mut map, &mut kind)?,
                b"serv_path" => first(&mut map, &mut serv_path)?,
                b"task_path" => first(&mut map, &mut task_path)?,
                b"binding" => first(&mut map, &mut binding)?,
                b"tag" => first(&mut map, &mut tag)?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        let missing = A::Error::missing_field;
        Ok(File {
            task_path: task_path.ok_or_else(|| missing("task_path"))?,
            kind: kind.ok_or_else(|| missing("type"))?,
            binding: binding.flatten().unwrap_or(Binding::Link),
            serv_path: serv_path.ok_or_else(|| missing("serv_path"))?,
            tag: tag.flatten(),
            size: None,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Text::deserialize(deserializer)?;
        let mut all = [Self::Input, Self::Output].into_iter();
        all.find(|kind| kind.name().as_bytes() == name.as_bytes())
            .ok_or_else(|| D::Error::custom("neither INPUT nor OUTPUT"))
    }
}

impl<'de> Deserialize<'de> for Binding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Text::deserialize(deserializer)?;
        let mut all = [Self::Link, Self::Copy, Self::Url].into_iter();
        all.find(|binding| {
            let known = binding.name().as_bytes();
            known.eq_ignore_ascii_case(name.as_bytes())
        })
        .ok_or_else(|| D::Error::custom("neither LINK, COPY nor URL"))
    }
}
