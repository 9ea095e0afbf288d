//! For every request what its words are, what must exist for it to succeed, and what shows what it did.

use crate::fuzz::kind::Kind;

/// The file that requests are about.
pub const FILE: &str = "putfile /v/f 420 11\nhello world";
/// A body of nine bytes that is also a request: where a server takes less of it, or nothing, its answer
/// to the rest shows that, and the connection stays in step.
const BODY: &str = "whoami 3\n";
/// A ticket's key of as many, and the ticket's name.
const KEY: &str = "abcdefgh\n";
const REGISTER: &str = "ticket_register self 3600 9\nabcdefgh\n";
const TICKET: &str = "ticket:c84f8a070a28b21c1d84f6dded7eb103";

/// What a word of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A path.
    Path(Role),
    /// A number, and one with which the request succeeds.
    Number(Number, &'static str),
    /// Any other text: one with which the request succeeds, and others by what they mean.
    Text(&'static str, &'static [(&'static str, &'static str)]),
}

/// What a path names for the request to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A file.
    File,
    /// A directory with a file in it.
    Directory,
    /// A link to a file.
    Link,
    /// Nothing.
    Name,
}

impl Role {
    /// Returns the name of such an object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "f",
            Self::Directory => "d",
            Self::Link => "l",
            Self::Name => "n",
        }
    }

    /// Returns the path of such an object in `directory`, and the requests that make it.
    #[must_use]
    pub fn at(self, directory: &str) -> (String, Vec<String>) {
        let path = format!("{directory}/{}", self.name());
        let made = self.made(&path);
        (path, made)
    }

    /// Returns the requests that make such an object.
    #[must_use]
    pub fn made(self, path: &str) -> Vec<String> {
        match self {
            Self::File => vec![format!("putfile {path} 420 11\nhello world")],
            Self::Directory => vec![
                format!("mkdir {path} 448\n"),
                format!("putfile {path}/x 420 1\n1"),
            ],
            Self::Link => vec![format!("symlink f {path}\n")],
            Self::Name => Vec::new(),
        }
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// A descriptor; 0 is open, on [`FILE`].
    Descriptor,
    /// The most bytes that are wanted back.
    Limit,
    /// A position in a file.
    Offset,
    /// The length of a piece, or of a step from one to the next.
    Piece,
    /// The length of the body.
    Body,
    /// The new length of a file.
    Size,
    /// Permissions.
    Mode,
    /// The permissions that are asked about.
    Access,
    /// Options that are bits.
    Flags,
    /// A user, group, job, or a number of copies.
    Id,
    /// A time or a span, in seconds.
    Seconds,
}

/// A request with everything that makes it succeed.
#[derive(Clone, Debug)]
pub struct Template {
    /// What names of vectors begin with.
    pub verb: &'static str,
    /// The verb on the wire.
    wire: &'static str,
    /// The words and their names.
    pub words: Vec<(&'static str, Word)>,
    body: &'static str,
    /// Requests of the setup; `{0}` is the first word.
    besides: &'static [&'static str],
    /// Lines in front of the request.
    before: &'static str,
    /// A line behind it that shows what it did; `{0}` is the first word.
    probe: &'static str,
    /// A line behind that which takes away what would stay.
    after: &'static str,
    /// Options of the server.
    pub server: &'static str,
    /// Whether another template is about the same request, so that only its words need trying.
    pub again: bool,
}

/// A request line in the making.
#[derive(Clone, Debug)]
pub struct Line {
    /// The words behind the verb.
    pub words: Vec<String>,
}

impl Line {
    /// Puts another word in the place of one.
    pub fn set(&mut self, at: usize, word: impl Into<String>) {
        if let Some(slot) = self.words.get_mut(at) {
            *slot = word.into();
        }
    }
}

impl Template {
    fn new(verb: &'static str, words: &[(&'static str, Word)]) -> Self {
        Self {
            verb,
            wire: verb,
            words: words.to_vec(),
            body: "",
            besides: &[],
            before: "",
            probe: "",
            after: "",
            server: "",
            again: false,
        }
    }

    fn named(mut self, name: &'static str) -> Self {
        self.verb = name;
        self
    }

    /// Another template of the same request has all families, or there is nothing in it to vary.
    fn again(mut self) -> Self {
        self.again = true;
        self
    }

    fn body(mut self, body: &'static str) -> Self {
        self.body = body;
        self
    }

    fn besides(mut self, requests: &'static [&'static str]) -> Self {
        self.besides = requests;
        self
    }

    fn probe(mut self, line: &'static str) -> Self {
        self.probe = line;
        self
    }

    fn after(mut self, line: &'static str) -> Self {
        self.after = line;
        self
    }

    /// The request is about a ticket, which is made in front of it and deleted behind it.
    fn ticket(mut self) -> Self {
        self.before = REGISTER;
        self.after = DELETE;
        self
    }

    fn server(mut self, options: &'static str) -> Self {
        self.server = options;
        self
    }

    /// Returns the line with which the request succeeds.
    #[must_use]
    pub fn line(&self) -> Line {
        let words = self.words.iter().map(|(_, word)| match word {
            Word::Path(role) => role.at("/v").0,
            Word::Number(_, good) | Word::Text(good, _) => (*good).to_owned(),
        });
        Line {
            words: words.collect(),
        }
    }

    /// Returns the requests that make what the request is about.
    #[must_use]
    pub fn setup(&self) -> Vec<String> {
        self.setup_without(usize::MAX)
    }

    /// Returns [`Template::setup`] but for what the word at `varied` is about.
    #[must_use]
    pub fn setup_without(&self, varied: usize) -> Vec<String> {
        let mut setup = Vec::new();
        let mut opens = false;
        for (at, (_, word)) in self.words.iter().enumerate() {
            match word {
                Word::Path(role) if at != varied => setup.extend(role.at("/v").1),
                Word::Number(Number::Descriptor, _) => {
                    setup.push(FILE.to_owned());
                    opens = true;
                }
                _ => {}
            }
        }
        let about = format!("{{{varied}}}");
        let besides = self.besides.iter().filter(|text| !text.contains(&about));
        setup.extend(besides.map(|text| fill(text, &self.line())));
        if opens {
            setup.push("open /v/f rw 0\n".to_owned());
        }
        setup
    }

    /// Returns the requests of the setup that are not about making a path's object, for `line`.
    #[must_use]
    pub fn made_besides(&self, line: &Line) -> Vec<String> {
        self.besides.iter().map(|text| fill(text, line)).collect()
    }

    /// Returns how many paths the request has.
    #[must_use]
    pub fn paths(&self) -> usize {
        let paths = self.words.iter();
        paths
            .filter(|(_, word)| matches!(word, Word::Path(_)))
            .count()
    }

    /// Reports whether the request ends its connection where it succeeds.
    #[must_use]
    pub fn ends(&self) -> bool {
        matches!(self.wire, "getstream" | "putstream")
    }

    /// Reports whether another request is so much like this one that it needs only a few of the same cases.
    #[must_use]
    pub fn alike(&self) -> bool {
        ALIKE.contains(&self.verb)
    }

    /// Returns whose rights count for the word at `at`, if not the caller's: a third-party transfer
    /// arrives as another server.
    #[must_use]
    pub fn acts_as(&self, at: usize) -> Option<&'static str> {
        (self.wire == "thirdput" && at == 2).then_some("hostname:*")
    }

    /// Returns the bytes of a request with its body, what stands in front of it, and behind it what
    /// takes away again what it did; with `probed` also what shows that.
    #[must_use]
    pub fn message(&self, line: &Line, probed: bool) -> String {
        let mut message = self.before.to_owned();
        message.push_str(self.wire);
        for word in &line.words {
            message.push(' ');
            message.push_str(word);
        }
        message.push('\n');
        message.push_str(self.body);
        if probed {
            message.push_str(&fill(self.probe, line));
        }
        message.push_str(self.after);
        message
    }
}

/// Puts words in the places of `{0}`, `{1}`…
fn fill(text: &str, line: &Line) -> String {
    let mut filled = text.to_owned();
    for (at, word) in line.words.iter().enumerate() {
        filled = filled.replace(&format!("{{{at}}}"), word);
    }
    filled
}

const FILE_PATH: (&str, Word) = ("path", Word::Path(Role::File));
const DIRECTORY: (&str, Word) = ("path", Word::Path(Role::Directory));
const NEW: (&str, Word) = ("path", Word::Path(Role::Name));
const FD: (&str, Word) = ("fd", Word::Number(Number::Descriptor, "0"));
const MODE: (&str, Word) = ("mode", Word::Number(Number::Mode, "420"));
const UID: (&str, Word) = ("uid", Word::Number(Number::Id, "1"));
const GID: (&str, Word) = ("gid", Word::Number(Number::Id, "1"));
const BODY_LENGTH: (&str, Word) = ("length", Word::Number(Number::Body, "9"));
const XATTR_FLAGS: (&str, Word) = ("flags", Word::Number(Number::Flags, "0"));
const SUBJECT: (&str, Word) = (
    "subject",
    Word::Text(
        "self",
        &[
            ("own", "unix:{USER}"),
            ("other", "unix:somebody-else"),
            ("pattern", "unix:*"),
            ("bare", "somebody"),
        ],
    ),
);
const TICKET_NAME: (&str, Word) = (
    "ticket",
    Word::Text(
        TICKET,
        &[
            ("upper-case", "ticket:C84F8A070A28B21C1D84F6DDED7EB103"),
            ("unknown", "ticket:00000000000000000000000000000000"),
            ("bare", "c84f8a070a28b21c1d84f6dded7eb103"),
            ("short", "ticket:c84f8a07"),
            ("long", "ticket:c84f8a070a28b21c1d84f6dded7eb10300"),
            ("no-digits", "ticket:zz4f8a070a28b21c1d84f6dded7eb103"),
            ("path", "ticket:../v/f"),
            ("empty", "ticket:"),
            ("other-prefix", "unix:c84f8a070a28b21c1d84f6dded7eb103"),
        ],
    ),
);
const ATTRIBUTE: (&str, Word) = (
    "name",
    Word::Text(
        "user.a",
        &[
            ("absent", "user.none"),
            ("no-namespace", "bogus"),
            ("unknown-namespace", "bogus.a"),
            ("only-namespace", "user."),
            ("trusted", "trusted.a"),
            ("escaped", "user.%61"),
        ],
    ),
);
/// For the requests that are like one with [`ATTRIBUTE`].
const ATTRIBUTE_ALIKE: (&str, Word) = (
    "name",
    Word::Text(
        "user.a",
        &[("absent", "user.none"), ("trusted", "trusted.a")],
    ),
);
const RIGHTS: (&str, Word) = (
    "rights",
    Word::Text(
        "rwl",
        &[
            ("all", "rwldpaxv"),
            ("reversed", "vxapdlwr"),
            ("reserve", "v(rwl)"),
            ("reserve-all", "v(rwldpvax)"),
            ("reserve-nothing", "v()"),
            ("reserve-unclosed", "v(rw"),
            ("closed-unopened", "rw)"),
            ("twice", "rrll"),
            ("word", "read"),
            ("upper-case", "RWL"),
            ("none", "n"),
            ("dash", "-"),
            ("unknown", "zq"),
            ("put", "p"),
            ("list-of-two", "r,w"),
        ],
    ),
);
/// For the requests that read them as `setacl` does.
const RIGHTS_ALIKE: (&str, Word) = (
    "rights",
    Word::Text(
        "rwl",
        &[
            ("all", "rwldpaxv"),
            ("reserve", "v(rwl)"),
            ("none", "n"),
            ("unknown", "zq"),
        ],
    ),
);
const SEARCH_PATTERNS: (&str, Word) = (
    "pattern",
    Word::Text(
        "x",
        &[
            ("all", "*"),
            ("one-letter", "?"),
            ("class", "[xyz]"),
            ("anchored", "/x"),
            ("anchored-all", "/*"),
            ("two", "y|x"),
            ("nothing", "none"),
            ("escaped", "%78"),
            ("empty-part", "|x"),
            ("directory", "d/x"),
            ("dot", "."),
            ("list", ".__acl"),
        ],
    ),
);
const OPEN_FLAGS: &[(&str, &str)] = &[
    ("r", "r"),
    ("w", "w"),
    ("c", "c"),
    ("rc", "rc"),
    ("wc", "wc"),
    ("rwc", "rwc"),
    ("rwcx", "rwcx"),
    ("wcx", "wcx"),
    ("x", "x"),
    ("wx", "wx"),
    ("t", "t"),
    ("rt", "rt"),
    ("wt", "wt"),
    ("a", "a"),
    ("rwa", "rwa"),
    ("s", "s"),
    ("rws", "rws"),
    ("unknown", "q"),
    ("upper-case", "RW"),
    ("all", "rwctaxs"),
];

/// Those that are about a file which is not there.
const NEW_FLAGS: &[(&str, &str)] = &[
    ("rw", "rw"),
    ("c", "c"),
    ("rc", "rc"),
    ("wc", "wc"),
    ("rwcx", "rwcx"),
    ("wx", "wx"),
    ("wct", "wct"),
    ("wca", "wca"),
    ("all", "rwctaxs"),
];

impl Template {
    /// Returns the templates of a kind of request.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a list: one arm for each request")]
    pub fn of(kind: Kind) -> Vec<Self> {
        let number = |name, kind, good| (name, Word::Number(kind, good));
        let limit = |good| number("length", Number::Limit, good);
        let offset = |good| number("offset", Number::Offset, good);
        let piece = |name, good| number(name, Number::Piece, good);
        let size = |good| number("length", Number::Size, good);
        let host = ("host", Word::Text("{HOSTPORT}", &[]));
        let t = Self::new;
        match kind {
            Kind::Whoami => vec![t("whoami", &[limit("256")])],
            Kind::Whoareyou => vec![t("whoareyou", &[host, limit("9")])],
            Kind::Debug => vec![t(
                "debug",
                &[("flag", Word::Text("all", &[("unknown", "zz")]))],
            )],

            Kind::Open => {
                let flags = |good| ("flags", Word::Text(good, OPEN_FLAGS));
                let (one, new) = (
                    t("open", &[FILE_PATH, flags("rw"), MODE]).probe("pread 0 20 0\n"),
                    t(
                        "open",
                        &[NEW, ("flags", Word::Text("rwc", NEW_FLAGS)), MODE],
                    )
                    .probe("lstat {0}\n"),
                );
                vec![one, new.named("open-new")]
            }
            Kind::Close => vec![t("close", &[FD]).probe("fstat 0\n")],
            Kind::Pread => vec![t("pread", &[FD, limit("5"), offset("6")])],
            Kind::Sread => vec![t(
                "sread",
                &[
                    FD,
                    limit("8"),
                    piece("piece", "2"),
                    piece("every", "4"),
                    offset("1"),
                ],
            )],
            Kind::Pwrite => vec![
                t("pwrite", &[FD, BODY_LENGTH, offset("6")])
                    .body(BODY)
                    .probe("pread 0 100 0\n"),
            ],
            Kind::Swrite => vec![
                t(
                    "swrite",
                    &[
                        FD,
                        BODY_LENGTH,
                        piece("piece", "3"),
                        piece("every", "5"),
                        offset("1"),
                    ],
                )
                .body(BODY)
                .probe("pread 0 100 0\n"),
            ],
            Kind::Fstat => vec![t("fstat", &[FD])],
            Kind::Fstatfs => vec![t("fstatfs", &[FD])],
            Kind::Fsync => vec![t("fsync", &[FD])],
            Kind::Ftruncate => vec![t("ftruncate", &[FD, size("5")]).probe("fstat 0\n")],
            Kind::Fchmod => vec![t("fchmod", &[FD, MODE]).probe("fstat 0\n")],
            Kind::Fchown => vec![t("fchown", &[FD, UID, GID])],
            Kind::Fgetxattr => {
                vec![
                    t("fgetxattr", &[FD, ATTRIBUTE_ALIKE])
                        .besides(&["setxattr /v/f user.a 3 0\nabc"]),
                ]
            }
            Kind::Flistxattr => {
                vec![t("flistxattr", &[FD]).besides(&["setxattr /v/f user.a 3 0\nabc"])]
            }
            Kind::Fsetxattr => vec![
                t(
                    "fsetxattr",
                    &[FD, ATTRIBUTE_ALIKE, BODY_LENGTH, XATTR_FLAGS],
                )
                .body(BODY)
                .probe("fgetxattr 0 user.a\n"),
            ],
            Kind::Fremovexattr => vec![
                t("fremovexattr", &[FD, ATTRIBUTE_ALIKE])
                    .besides(&["setxattr /v/f user.a 3 0\nabc"])
                    .probe("flistxattr 0\n"),
            ],

            Kind::Getfile => vec![t("getfile", &[FILE_PATH])],
            Kind::Putfile => {
                let put = |path| {
                    t("putfile", &[path, MODE, BODY_LENGTH])
                        .body(BODY)
                        .probe("stat {0}\n")
                };
                vec![put(NEW), put(FILE_PATH).named("putfile-over").again()]
            }
            Kind::Getstream => vec![t("getstream", &[FILE_PATH])],
            Kind::Putstream => {
                let put = |path| t("putstream", &[path]).body(BODY);
                vec![put(NEW), put(FILE_PATH).named("putstream-over").again()]
            }

            Kind::Getdir => vec![t("getdir", &[DIRECTORY])],
            Kind::Getlongdir => vec![t("getlongdir", &[DIRECTORY])],
            Kind::Mkdir => vec![t("mkdir", &[NEW, MODE]).probe("lstat {0}\ngetacl {0}\n")],
            Kind::Rmdir => vec![t("rmdir", &[DIRECTORY]).probe("lstat {0}\n")],
            Kind::Rmall => vec![t("rmall", &[DIRECTORY]).probe("lstat {0}\n")],
            Kind::Unlink => vec![t("unlink", &[FILE_PATH]).probe("lstat {0}\n")],
            Kind::Rename => {
                let path = |name, role| (name, Word::Path(role));
                let one = |role| {
                    t("rename", &[path("from", role), path("to", Role::Name)])
                        .probe("lstat {0}\nlstat {1}\n")
                };
                vec![
                    one(Role::File),
                    one(Role::Directory).named("rename-directory").again(),
                ]
            }
            Kind::Link => vec![
                t(
                    "link",
                    &[
                        ("from", Word::Path(Role::File)),
                        ("to", Word::Path(Role::Name)),
                    ],
                )
                .probe("lstat {0}\nlstat {1}\n"),
            ],
            Kind::Symlink => vec![
                t(
                    "symlink",
                    &[
                        (
                            "target",
                            Word::Text(
                                "f",
                                &[
                                    ("path", "/v/f"),
                                    ("escaped", "a%20b"),
                                    ("out", "../../../etc/passwd"),
                                    ("slash", "/"),
                                    ("dot", "."),
                                    ("bytes", "\u{e9}\u{ff}"),
                                ],
                            ),
                        ),
                        NEW,
                    ],
                )
                .probe("readlink {1} 100\n"),
            ],
            Kind::Readlink => vec![t(
                "readlink",
                &[("path", Word::Path(Role::Link)), limit("100")],
            )],
            Kind::Localpath => vec![t("localpath", &[FILE_PATH])],

            Kind::Stat => vec![t("stat", &[FILE_PATH])],
            Kind::Lstat => vec![t("lstat", &[FILE_PATH])],
            Kind::Statfs => vec![t("statfs", &[DIRECTORY])],
            Kind::Access => vec![t(
                "access",
                &[FILE_PATH, number("mode", Number::Access, "4")],
            )],
            Kind::Chmod => vec![t("chmod", &[FILE_PATH, MODE]).probe("stat {0}\n")],
            Kind::Chown => vec![t("chown", &[FILE_PATH, UID, GID])],
            Kind::Lchown => vec![t("lchown", &[FILE_PATH, UID, GID])],
            Kind::Truncate => vec![t("truncate", &[FILE_PATH, size("5")]).probe("stat {0}\n")],
            Kind::Utime => vec![
                t(
                    "utime",
                    &[
                        FILE_PATH,
                        number("atime", Number::Seconds, "1000"),
                        number("mtime", Number::Seconds, "2000"),
                    ],
                )
                .probe("stat {0}\n"),
            ],
            Kind::Hash => {
                let algorithms: &[(&str, &str)] = &[
                    ("sha1", "sha1"),
                    ("sha256", "sha256"),
                    ("upper-case", "MD5"),
                    ("longer", "md5x"),
                    ("dash", "-"),
                ];
                let algorithm = ("algorithm", Word::Text("md5", algorithms));
                vec![
                    t("hash", &[algorithm, FILE_PATH]),
                    t("md5", &[FILE_PATH]).again(),
                ]
            }
            Kind::Setrep => vec![t("setrep", &[FILE_PATH, number("count", Number::Id, "2")])],
            Kind::Getxattr => vec![t("getxattr", &[FILE_PATH, ATTRIBUTE]).besides(&[PULLED])],
            Kind::Lgetxattr => {
                vec![t("lgetxattr", &[FILE_PATH, ATTRIBUTE_ALIKE]).besides(&[PULLED])]
            }
            Kind::Listxattr => vec![t("listxattr", &[FILE_PATH]).besides(&[PULLED])],
            Kind::Llistxattr => vec![t("llistxattr", &[FILE_PATH]).besides(&[PULLED])],
            Kind::Setxattr => vec![
                t(
                    "setxattr",
                    &[FILE_PATH, ATTRIBUTE_ALIKE, BODY_LENGTH, XATTR_FLAGS],
                )
                .body(BODY)
                .probe("getxattr {0} user.a\n"),
            ],
            Kind::Lsetxattr => vec![
                t(
                    "lsetxattr",
                    &[FILE_PATH, ATTRIBUTE, BODY_LENGTH, XATTR_FLAGS],
                )
                .body(BODY)
                .probe("lgetxattr {0} user.a\n"),
            ],
            Kind::Removexattr => vec![
                t("removexattr", &[FILE_PATH, ATTRIBUTE])
                    .besides(&[PULLED])
                    .probe("listxattr {0}\n"),
            ],
            Kind::Lremovexattr => vec![
                t("lremovexattr", &[FILE_PATH, ATTRIBUTE_ALIKE])
                    .besides(&[PULLED])
                    .probe("llistxattr {0}\n"),
            ],
            Kind::Audit => vec![t("audit", &[DIRECTORY])],
            Kind::Search => vec![t(
                "search",
                &[
                    SEARCH_PATTERNS,
                    ("root", Word::Path(Role::Directory)),
                    number("flags", Number::Flags, "0"),
                ],
            )],
            Kind::Getacl => vec![t("getacl", &[DIRECTORY])],
            Kind::Setacl => {
                let subjects: &[(&str, &str)] = &[
                    ("own", "unix:{USER}"),
                    ("all", "*"),
                    ("pattern", "hostname:*.example.org"),
                    ("two-stars", "unix:*a*"),
                    ("bare", "zz"),
                    ("escaped", "unix:a%20b"),
                    ("bytes", "unix:\u{e9}"),
                    ("group", "group:zz"),
                    ("parenthesis", "unix:(rwl)"),
                ];
                let subject = ("subject", Word::Text("unix:zz", subjects));
                vec![t("setacl", &[DIRECTORY, subject, RIGHTS]).probe("getacl {0}\n")]
            }
            Kind::Resetacl => vec![t("resetacl", &[DIRECTORY, RIGHTS_ALIKE]).probe("getacl {0}\n")],
            Kind::Thirdput => vec![
                t(
                    "thirdput",
                    &[FILE_PATH, host, ("target", Word::Path(Role::Name))],
                )
                .besides(&["setacl /v hostname:* rwldax\n"])
                .probe("lstat {2}\n"),
            ],

            Kind::TicketRegister => {
                let seconds = number("seconds", Number::Seconds, "3600");
                vec![
                    t("ticket_register", &[SUBJECT, seconds, BODY_LENGTH])
                        .body(KEY)
                        .after(DELETE),
                ]
            }
            Kind::TicketModify => {
                let show = "ticket_get ticket:c84f8a070a28b21c1d84f6dded7eb103\n";
                vec![
                    t("ticket_modify", &[TICKET_NAME, DIRECTORY, RIGHTS_ALIKE])
                        .probe(show)
                        .ticket(),
                ]
            }
            Kind::TicketDelete => vec![t("ticket_delete", &[TICKET_NAME]).ticket()],
            Kind::TicketGet => vec![t("ticket_get", &[TICKET_NAME]).ticket()],
            Kind::TicketList => vec![t("ticket_list", &[SUBJECT]).ticket()],

            Kind::Lsalloc => vec![t("lsalloc", &[DIRECTORY])],
            Kind::Mkalloc => vec![t("mkalloc", &[NEW, size("1000"), MODE]).probe("lstat {0}\n")],

            Kind::JobCreate => vec![
                t("job_create", &[BODY_LENGTH])
                    .body("{\"a\": 1}\n")
                    .server(JOBS),
            ],
            Kind::JobCommit => vec![t("job_commit", &[BODY_LENGTH]).body(NO_JOB).server(JOBS)],
            Kind::JobKill => vec![t("job_kill", &[BODY_LENGTH]).body(NO_JOB).server(JOBS)],
            Kind::JobReap => vec![t("job_reap", &[BODY_LENGTH]).body(NO_JOB).server(JOBS)],
            Kind::JobStatus => vec![t("job_status", &[BODY_LENGTH]).body(NO_JOB).server(JOBS)],
            Kind::JobWait => vec![
                t(
                    "job_wait",
                    &[
                        number("id", Number::Id, "999999"),
                        number("seconds", Number::Seconds, "0"),
                    ],
                )
                .server(JOBS),
            ],

            // What the reference does not know: it says so.
            Kind::Read => vec![unknown("unknown.read", "0 5")],
            Kind::Write => vec![unknown("unknown.write", "0 0")],
            Kind::Lseek => vec![unknown("unknown.lseek", "0 0 0")],
            Kind::GetJobAttr => vec![unknown("unknown.get_job_attr", "a")],
            Kind::GetJobAttrDelayed => vec![unknown("unknown.get_job_attr_delayed", "a")],
            Kind::SetJobAttr => vec![unknown("unknown.set_job_attr", "a b")],
            Kind::SetJobAttrDelayed => vec![unknown("unknown.set_job_attr_delayed", "a b")],
            Kind::Ulog => vec![unknown("unknown.ulog", "a")],
            Kind::Constrain => vec![unknown("unknown.constrain", "a")],
            Kind::Lookup => vec![unknown("unknown.lookup", "/v")],
            Kind::Version => vec![unknown("unknown.version", "")],
            Kind::Features => vec![unknown("unknown.features", "")],
            Kind::Sha256 => vec![unknown("unknown.sha256", "/v/none")],
            Kind::Store => vec![unknown("unknown.store", "/v/n 420 0")],
            Kind::Exec => vec![unknown("unknown.exec", "0")],
            Kind::ExecAttach => vec![unknown("unknown.exec_attach", "1 0 0")],
            Kind::ExecStatus => vec![unknown("unknown.exec_status", "1")],
            Kind::ExecWait => vec![unknown("unknown.exec_wait", "1 0")],
            Kind::ExecSignal => vec![unknown("unknown.exec_signal", "1 15")],
            Kind::ExecList => vec![unknown("unknown.exec_list", "")],
            Kind::ExecRemove => vec![unknown("unknown.exec_remove", "1")],
            Kind::ExecOutput => vec![unknown("unknown.exec_output", "1 out 0 0")],
        }
    }
}

/// Requests with a sibling that gets all cases: by descriptor or link instead of by path, another form of
/// the answer, or the same check in front of something that is not done at all.
const ALIKE: &[&str] = &[
    "getstream",
    "getlongdir",
    "lchown",
    "chown",
    "setrep",
    "audit",
    "localpath",
    "lsalloc",
    "hash",
    "statfs",
    "lgetxattr",
    "listxattr",
    "llistxattr",
    "removexattr",
    "lremovexattr",
    "setxattr",
    "fgetxattr",
    "fsetxattr",
    "fremovexattr",
    "flistxattr",
    "swrite",
    "fchmod",
    "fchown",
    "fstatfs",
    "fsync",
];

const PULLED: &str = "setxattr {0} user.a 3 0\nabc";
const DELETE: &str = "ticket_delete ticket:c84f8a070a28b21c1d84f6dded7eb103\n";
const JOBS: &str = "--jobs";
/// A list of a job that does not exist.
const NO_JOB: &str = "[999999]\n";

/// What the names of vectors about a request that the reference does not know begin with.
const UNKNOWN: &str = "unknown.";

/// A request with fixed words; its name is the verb behind [`UNKNOWN`].
fn unknown(name: &'static str, words: &'static str) -> Template {
    let mut template = Template::new(name, &[]);
    template.wire = name.strip_prefix(UNKNOWN).unwrap_or(name);
    template.again = true;
    if !words.is_empty() {
        template.words.push(("words", Word::Text(words, &[])));
    }
    template
}
