//! Allocations (`-Q`) and free space (`-F`): what is charged, what comes back, and that the figures
//! in memory are always those of the tree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use chirp_proto::parse::{Decoder, Step};
use chirp_server::dispatch::dispatch;
use chirp_server::export::{Export, Policy};
use chirp_server::outcome::{Outcome, Receiver};

use crate::language::{Peer, Tree};

const MIB: u64 = 1024 * 1024;

fn limited(quota: u64) -> Tree {
    Tree::with(Policy {
        quota: Some(quota),
        ..Policy::default()
    })
}

/// Opens the tree once more, as another server does after this one was killed.
fn again(tree: Tree, quota: u64) -> Tree {
    let Tree {
        root,
        transient,
        export,
    } = tree;
    drop(export);
    let policy = Policy {
        quota: Some(quota),
        ..Policy::default()
    };
    let export = Export::open(root.path(), transient.path(), policy).unwrap();
    Tree {
        root,
        transient,
        export,
    }
}

/// Puts a file of this many bytes and returns the answer.
fn put(peer: &mut Peer<'_>, path: &str, length: usize) -> String {
    let mut request = format!("putfile {path} 420 {length}\n").into_bytes();
    if length > 0 && refused(peer, &request) {
        return String::from_utf8(peer.send(&request)).unwrap();
    }
    request.resize(request.len() + length, b'x');
    String::from_utf8(peer.send(request)).unwrap()
}

/// Reports whether a `putfile` is refused before its body is sent; nothing changes by this.
fn refused(peer: &mut Peer<'_>, line: &[u8]) -> bool {
    peer.send(line) != b"0\n"
}

/// Begins a request whose body is to come.
fn begin(peer: &mut Peer<'_>, line: &str) -> Box<dyn Receiver> {
    let Step::Request { request, .. } = Decoder::default().step(line.as_bytes()) else {
        panic!("{line}");
    };
    match dispatch(peer.export, &mut peer.session, &request) {
        Outcome::ReceiveAfterGo { sink, .. }
        | Outcome::Receive { sink, .. }
        | Outcome::ReceiveStream(sink) => sink,
        Outcome::Failed(code) => panic!("{line}: {code:?}"),
        _ => panic!("{line}: another outcome"),
    }
}

/// Returns what `lsalloc` says is in use.
#[track_caller]
fn used(peer: &mut Peer<'_>, path: &str) -> u64 {
    let reply = String::from_utf8(peer.send(format!("lsalloc {path}\n"))).unwrap();
    let figure = reply.trim_end().rsplit(' ').next().unwrap();
    figure.parse().unwrap_or_else(|_| panic!("{reply}"))
}

/// Counts what a directory of the tree takes, in another way than the server does.
fn counted(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            sum += match fs::read_to_string(entry.path().join(".__alloc")) {
                Ok(text) => text.split_whitespace().next().unwrap().parse().unwrap(),
                Err(_) => counted(&entry.path()),
            };
        } else if kind.is_file() && !name.starts_with(".__") {
            sum += entry.metadata().unwrap().size().div_ceil(4096) * 4096;
        }
    }
    sum
}

#[test]
fn without_a_quota_there_are_no_allocations() {
    let tree = Tree::new();
    tree.alice().expect(
        "lsalloc /\nlsalloc /none\nmkalloc /a 1000 448\nlink /x /y\n",
        "-8\n-8\n-8\n-3\n",
    );
    assert_eq!(tree.names(""), [".__acl"]);
}

#[test]
fn files_cost_their_size_rounded_up_and_the_rest_costs_nothing() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("lsalloc /\n", "0\n/ 1048576 0\n");
    alice.expect(
        "mkdir /d 448\nsymlink /x /l\nputfile /empty 420 0\n",
        "0\n0\n0\n0\n",
    );
    assert_eq!(used(&mut alice, "/"), 0);
    assert_eq!(put(&mut alice, "/d/f", 1), "0\n1\n");
    assert_eq!(used(&mut alice, "/d"), 4096);
    assert_eq!(put(&mut alice, "/d/f", 4096), "0\n4096\n");
    assert_eq!(used(&mut alice, "/d/f"), 4096);
    assert_eq!(put(&mut alice, "/d/f", 4097), "0\n4097\n");
    assert_eq!(used(&mut alice, "/"), 8192);
    alice.expect("unlink /d/f\nlsalloc /d\n", "0\n0\n/ 1048576 0\n");
}

#[test]
fn mkalloc_takes_from_the_allocation_above() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("mkalloc /m 100000 448\nlsalloc /m\n", "0\n0\n/m 100000 0\n");
    alice.expect("mkalloc /m/n 50000 448\nmkdir /m/n/d 448\n", "0\n0\n");
    alice.expect("lsalloc /m/n/d\n", "0\n/m/n 50000 0\n");
    alice.expect("lsalloc /m/n/none\n", "0\n/m/n 50000 0\n");
    alice.expect("lsalloc /m\n", "0\n/m 100000 50000\n");
    alice.expect("lsalloc /\n", "0\n/ 1048576 100000\n");
    // More than its size has to be there.
    alice.expect("mkalloc /m/o 50000 448\nstat /m/o\n", "-6\n-3\n");
    alice.expect("mkalloc /m/o 49999 448\n", "0\n");
    alice.expect(
        "mkalloc /m 1 448\nmkalloc /q 18446744073709551615 448\n",
        "-4\n-6\n",
    );
    alice.expect("mkalloc /q -1 448\nmkalloc /none/q 1 448\n", "-8\n-3\n");
    alice.expect("mkalloc /zero 0 448\nmkalloc /zero/y 0 448\n", "0\n-6\n");
    assert_eq!(tree.names("m/n"), [".__acl", ".__alloc", "d"]);
    let alloc = fs::read_to_string(tree.host("m/n/.__alloc")).unwrap();
    assert_eq!(alloc, "50000\n0\n");
    let mode = fs::metadata(tree.host("m/n/.__alloc")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    alice.expect("getacl /m/n\n", "0\nunix:alice rwldpax\n\n");
    // Its file is for nobody (W8).
    alice.expect("getfile /m/.__alloc\nunlink /m/.__alloc\n", "-2\n-2\n");
    assert_eq!(put(&mut alice, "/m/.__alloc", 1), "-2\n");
}

#[test]
fn an_allocation_that_goes_gives_its_space_back() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    for remove in ["rmdir /m", "rmall /m", "rmall /up"] {
        alice.expect("mkdir /up 448\n", "0\n");
        alice.expect("mkalloc /m 100000 448\nmkalloc /up/m 1000 448\n", "0\n0\n");
        assert_eq!(used(&mut alice, "/"), 101_000);
        if remove != "rmdir /m" {
            put(&mut alice, "/m/f", 5000);
            alice.expect("mkalloc /m/n 50000 448\n", "0\n");
            alice.expect("rmdir /m\n", "-15\n");
        }
        alice.expect(
            format!("{remove}\nrmall /up\nrmall /m\n"),
            match remove {
                "rmall /up" => "0\n-3\n0\n",
                _ => "0\n0\n-3\n",
            },
        );
        assert_eq!(used(&mut alice, "/"), 0, "{remove}");
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("mkalloc /m 8192 448\nputfile /m/f 420 3\nold", "0\n0\n3\n");
    assert_eq!(put(&mut alice, "/m/f", 8193), "-6\n");
    assert_eq!(put(&mut alice, "/m/new", 4097), "-6\n");
    alice.expect("getfile /m/f\nstat /m/new\n", "3\nold-3\n");
    assert_eq!(used(&mut alice, "/m"), 4096);
    assert_eq!(tree.names("m"), [".__acl", ".__alloc", "f"]);
    // Overwriting costs the difference only.
    assert_eq!(put(&mut alice, "/m/f", 8192), "0\n8192\n");
    assert_eq!(put(&mut alice, "/m/f", 8192), "0\n8192\n");
    assert_eq!(used(&mut alice, "/m"), 8192);
    assert_eq!(put(&mut alice, "/m/g", 1), "-6\n");
    assert_eq!(put(&mut alice, "/m/f", 1), "0\n1\n");
    assert_eq!(used(&mut alice, "/m"), 4096);
}

#[test]
fn descriptors_grow_within_the_allocation_only() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("mkalloc /m 20000 448\n", "0\n");
    alice.send("open /m/f rwc 420\n");
    // A hole counts: it can be filled without asking.
    alice.expect("pwrite 0 5 16379\nhello", "5\n");
    assert_eq!(used(&mut alice, "/m"), 16384);
    alice.expect("pwrite 0 5 16380\nhello", "-6\n");
    alice.expect("swrite 0 10 5 1000000 0\nhellohello", "-6\n");
    alice.expect("swrite 0 10 5 10000 0\nhellohello", "10\n");
    alice.expect("ftruncate 0 100000\ntruncate /m/f 100000\n", "-6\n-6\n");
    assert_eq!(alice.stat("/m/f").size, 16384);
    alice.expect("ftruncate 0 4096\n", "0\n");
    assert_eq!(used(&mut alice, "/m"), 4096);
    alice.expect("truncate /m/f 4097\n", "0\n");
    assert_eq!(used(&mut alice, "/m"), 8192);
    alice.send("open /m/f wa 420\n");
    alice.expect("pwrite 1 4095 0\n".to_owned() + &"a".repeat(4095), "4095\n");
    assert_eq!(used(&mut alice, "/m"), 8192);
    alice.expect("pwrite 1 9000 0\n".to_owned() + &"a".repeat(9000), "-6\n");
    assert_eq!(alice.stat("/m/f").size, 8192);
    alice.send("open /m/f wt 420\n");
    assert_eq!(used(&mut alice, "/m"), 0);
    assert_eq!(counted(&tree.host("m")), 0);
}

#[test]
fn two_descriptors_of_one_file_are_charged_once() {
    let tree = limited(MIB);
    let (mut first, mut second) = (tree.alice(), tree.alice());
    first.expect("mkalloc /m 8192 448\n", "0\n");
    first.send("open /m/f rwc 420\n");
    second.send("open /m/f rwc 420\n");
    let mut a = begin(&mut first, "pwrite 0 8192 0\n");
    let mut b = begin(&mut second, "pwrite 0 4096 4096\n");
    a.take(&[1; 100]).unwrap();
    b.take(&[2; 4096]).unwrap();
    assert_eq!(used(&mut first, "/m"), 8192);
    // The first connection is lost.
    drop(a);
    assert_eq!(used(&mut first, "/m"), 8192);
    assert_eq!(b.finish(), Ok(4096));
    second.expect("ftruncate 0 0\n", "0\n");
    assert_eq!(used(&mut first, "/m"), 0);
    let c = begin(&mut first, "pwrite 0 8192 0\n");
    assert_eq!(used(&mut first, "/m"), 8192);
    // While that may come, nothing else gets its space.
    assert_eq!(put(&mut second, "/m/g", 1), "-6\n");
    drop(c);
    assert_eq!(used(&mut first, "/m"), 0);
}

#[test]
fn uploads_are_charged_while_they_come_and_give_it_back_when_cut_off() {
    let tree = limited(MIB);
    let (mut first, mut second) = (tree.alice(), tree.alice());
    first.expect("mkalloc /m 8192 448\n", "0\n");
    let put_under_way = begin(&mut first, "putfile /m/f 420 4097\n");
    assert_eq!(used(&mut second, "/m"), 8192);
    assert_eq!(put(&mut second, "/m/g", 1), "-6\n");
    drop(put_under_way);
    assert_eq!(used(&mut second, "/m"), 0);
    assert_eq!(tree.names("m"), [".__acl", ".__alloc"]);
    // A stream keeps what came before there was no more space.
    let mut stream = begin(&mut first, "putstream /m/f\n");
    stream.take(&[0; 5000]).unwrap();
    assert_eq!(used(&mut second, "/m"), 8192);
    assert_eq!(stream.take(&[0; 5000]), Err(chirp_proto::Code::NoSpace));
    drop(stream);
    assert_eq!(second.stat("/m/f").size, 5000);
    assert_eq!(used(&mut second, "/m"), 8192);
    second.expect("unlink /m/f\n", "0\n");
    assert_eq!(used(&mut second, "/m"), 0);
}

#[test]
fn a_file_that_is_open_takes_its_space_until_it_is_closed() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    assert_eq!(put(&mut alice, "/f", 5000), "0\n5000\n");
    alice.send("open /f rw 0\n");
    alice.send("open /f r 0\n");
    alice.expect("unlink /f\n", "0\n");
    assert_eq!(used(&mut alice, "/"), 8192);
    alice.expect("close 1\npwrite 0 1 8192\nx", "0\n1\n");
    assert_eq!(used(&mut alice, "/"), 12288);
    alice.expect("close 0\n", "0\n");
    assert_eq!(used(&mut alice, "/"), 0);
}

#[test]
fn what_is_moved_takes_its_charge_along() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect(
        "mkalloc /m 50000 448\nmkalloc /n 20000 448\nmkdir /m/d 448\n",
        "0\n0\n0\n",
    );
    for name in ["/m/d/a", "/m/d/b", "/m/c"] {
        assert_eq!(put(&mut alice, name, 5000), "0\n5000\n");
    }
    alice.send("open /m/d/a rw 0\n");
    alice.expect("mkalloc /m/d/inner 1000 448\n", "0\n");
    assert_eq!(used(&mut alice, "/m"), 25576);
    alice.expect("rename /m/d /n/d\n", "0\n");
    assert_eq!(
        (used(&mut alice, "/m"), used(&mut alice, "/n")),
        (8192, 17384)
    );
    // The descriptor's file is charged where it is now.
    alice.expect("pwrite 0 1 9000\nx", "-6\n");
    alice.expect("rename /m/c /n/c\n", "-6\n");
    alice.expect(
        "rename /n/d/inner /m/inner\nlsalloc /m/inner\n",
        "0\n0\n/m/inner 1000 0\n",
    );
    assert_eq!(
        (used(&mut alice, "/m"), used(&mut alice, "/n")),
        (9192, 16384)
    );
    // Over a file: the old one makes room for the new one.
    alice.expect("rename /m/c /n/d/b\n", "0\n");
    assert_eq!(
        (used(&mut alice, "/m"), used(&mut alice, "/n")),
        (1000, 16384)
    );
    alice.expect("rename /n/d/b /n/d/e\n", "0\n");
    alice.expect(
        "rename /m /moved\nlsalloc /moved/inner\n",
        "0\n0\n/moved/inner 1000 0\n",
    );
    let before: Vec<u64> = ["/", "/moved", "/n"].map(|p| used(&mut alice, p)).into();
    drop(alice);
    let tree = again(tree, MIB);
    let mut alice = tree.alice();
    let after: Vec<u64> = ["/", "/moved", "/n"].map(|p| used(&mut alice, p)).into();
    assert_eq!(before, after);
}

#[test]
fn statfs_shows_the_allocation() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("mkalloc /m 100000 448\n", "0\n");
    put(&mut alice, "/m/f", 5000);
    let mut fields = |line: &str| {
        let reply = String::from_utf8(alice.send(line)).unwrap();
        let line = reply.trim_end().rsplit('\n').next().unwrap();
        let numbers: Vec<i64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        (
            numbers[2] * numbers[1],
            numbers[3] * numbers[1],
            numbers[4] * numbers[1],
        )
    };
    assert_eq!(fields("statfs /\n"), (1_048_576, 946_176, 946_176));
    assert_eq!(fields("statfs /m\n"), (98_304, 90_112, 90_112));
    assert_eq!(fields("open /m/f r 0\nopen /m r 0\nfstatfs 0\n").0, 98_304);
    assert_eq!(fields("fstatfs 1\n"), (98_304, 90_112, 90_112));
}

#[test]
fn a_start_believes_sizes_and_counts_the_rest() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("mkalloc /m 100000 448\nmkalloc /m/n 5000 448\n", "0\n0\n");
    put(&mut alice, "/m/f", 5000);
    drop(alice);
    // Programs change the tree behind the server's back; links count once.
    fs::write(tree.host("m/n/g"), [0; 9000]).unwrap();
    fs::hard_link(tree.host("m/n/g"), tree.host("m/n/h")).unwrap();
    fs::write(tree.host("m/.__alloc"), "100000 7\n").unwrap();
    let tree = again(tree, 2 * MIB);
    let mut alice = tree.alice();
    alice.expect("lsalloc /\n", "0\n/ 2097152 100000\n");
    alice.expect(
        "lsalloc /m\nlsalloc /m/n\n",
        "0\n/m 100000 13192\n0\n/m/n 5000 12288\n",
    );
    // Over its size: nothing grows, but things shrink.
    assert_eq!(put(&mut alice, "/m/n/i", 1), "-6\n");
    assert_eq!(put(&mut alice, "/m/n/j", 0), "0\n0\n");
    alice.expect("unlink /m/n/g\nunlink /m/n/h\n", "0\n0\n");
    alice.expect("lsalloc /m/n\n", "0\n/m/n 5000 0\n");
    let root = fs::read_to_string(tree.host(".__alloc")).unwrap();
    assert_eq!(root, "2097152\n100000\n");
    drop(alice);
    // A file that says nothing: nobody grows there, and the file is left for its reader.
    fs::write(tree.host("m/n/.__alloc"), "garbage\n").unwrap();
    let tree = again(tree, MIB);
    tree.alice().expect("lsalloc /m/n\n", "0\n/m/n 0 0\n");
    tree.export.space().save();
    assert_eq!(fs::read(tree.host("m/n/.__alloc")).unwrap(), b"garbage\n");
    // Without -Q nobody looks at them.
    let tree = tree.restart();
    tree.alice().expect("lsalloc /m\n", "-8\n");
    assert_eq!(put(&mut tree.alice(), "/m/n/k", 100_000), "0\n100000\n");
}

#[test]
fn free_space_is_left_alone() {
    let tree = Tree::with(Policy {
        keep_free: 1 << 60,
        ..Policy::default()
    });
    let mut alice = tree.alice();
    alice.expect("mkdir /d 448\nsymlink x /l\n", "0\n0\n");
    assert_eq!(put(&mut alice, "/f", 1), "-6\n");
    assert_eq!(put(&mut alice, "/f", 0), "-6\n");
    alice.expect("stat /f\n", "-3\n");
    alice.send("open /f rwc 420\n");
    alice.expect(
        "pwrite 0 1 0\nxftruncate 0 1\ntruncate /f 1\n",
        "-6\n-6\n-6\n",
    );
    alice.expect("setxattr /f user.a 1 0\nx", "-6\n");
    alice.expect("ftruncate 0 0\nunlink /f\nlsalloc /\n", "0\n0\n-8\n");
}

/// Random numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        let name = |random: &mut Self| format!("/{}", char::from(b'a' + random.below(4) as u8));
        (0..depth).map(|_| name(self)).collect()
    }
}

/// Returns the virtual paths of all allocations in a tree.
fn allocations(dir: &Path, path: &str, found: &mut Vec<String>) {
    if dir.join(".__alloc").exists() {
        found.push(if path.is_empty() { "/" } else { path }.to_owned());
    }
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            allocations(&entry.path(), &format!("{path}/{name}"), found);
        }
    }
}

/// Compares each allocation's figure with what a count of the tree comes to.
#[track_caller]
fn check(tree: &Tree, after: &str) {
    let mut alice = tree.alice();
    let mut tops = Vec::new();
    allocations(tree.root.path(), "", &mut tops);
    assert!(tops.contains(&"/".to_owned()));
    for top in tops {
        let expected = counted(&tree.host(top.trim_start_matches('/')));
        assert_eq!(used(&mut alice, &top), expected, "{top} after {after}");
    }
}

#[test]
fn whatever_is_done_the_figures_are_those_of_the_tree() {
    for seed in 0..4 {
        let mut tree = limited(200_000);
        let mut random = Random(seed);
        let mut history = format!("seed {seed}:");
        for _ in 0..40 {
            let mut peer = tree.alice();
            // Several requests on one connection, so that files are open meanwhile.
            for _ in 0..12 {
                let (path, other) = (random.path(), random.path());
                let number = random.below(30_000);
                let fd = random.below(4);
                let body = "x".repeat(number as usize);
                let line = match random.below(17) {
                    0 | 1 => format!("mkdir {path} 448\n"),
                    2 => format!("mkalloc {path} {number} 448\n"),
                    3 => format!("putfile {path} 420 {number}\n{body}"),
                    4 => format!("putfile {path} 420 {number}\n"),
                    5 => format!("rename {path} {other}\n"),
                    6 => format!("unlink {path}\n"),
                    7 => format!("rmall {path}\n"),
                    8 => format!("rmdir {path}\n"),
                    9 => format!("truncate {path} {number}\n"),
                    10 => format!("open {path} rwc 420\n"),
                    11 => format!("open {path} wac 420\n"),
                    12 => format!("open {path} rt 420\n"),
                    13 => format!("pwrite {fd} {number} {}\n{body}", random.below(30_000)),
                    14 => format!("ftruncate {fd} {number}\n"),
                    15 => format!(
                        "swrite {fd} {number} 100 1000 {}\n{body}",
                        random.below(9000)
                    ),
                    _ => format!("close {fd}\n"),
                };
                // A refused putfile's body would be read as requests: it is not sent.
                let line = if line.starts_with("putfile")
                    && peer.send(line.lines().next().unwrap().to_owned() + "\n") != b"0\n"
                {
                    line.lines().next().unwrap().to_owned() + "\n"
                } else {
                    line
                };
                let answer = peer.send(&line);
                history.push_str(&format!(
                    "\n{} -> {}",
                    line.lines().next().unwrap(),
                    answer.escape_ascii()
                ));
            }
            drop(peer);
            check(&tree, &history);
            if random.below(10) == 0 {
                tree = again(tree, 200_000);
                history.push_str("\nrestart");
                check(&tree, &history);
            }
        }
    }
}

#[test]
fn many_clients_together_get_no_more_than_there_is() {
    let tree = limited(MIB);
    tree.alice()
        .expect("mkalloc /m 409600 448\nmkalloc /n 409600 448\n", "0\n0\n");
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let tree = &tree;
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..30 {
                    let mut peer = tree.alice();
                    let top = ["/m", "/n"][random.below(2) as usize];
                    let other = ["/m", "/n"][random.below(2) as usize];
                    let name = random.below(6);
                    put(
                        &mut peer,
                        &format!("{top}/{name}"),
                        random.below(200_000) as usize,
                    );
                    assert!(used(&mut peer, top) <= 409_600);
                    peer.send(format!("rename {top}/{name} {other}/{}\n", random.below(6)));
                    peer.send(format!("open {other}/{} rwc 420\n", random.below(6)));
                    let length = random.below(100_000) as usize;
                    let mut write =
                        format!("pwrite 0 {length} {}\n", random.below(100_000)).into_bytes();
                    write.resize(write.len() + length, b'y');
                    peer.send(write);
                    peer.send(format!("ftruncate 0 {}\n", random.below(100_000)));
                    peer.send(format!(
                        "unlink {top}/{}\nmkdir {top}/d 448\n",
                        random.below(6)
                    ));
                    peer.send(format!("rename {top}/{} {top}/d/f\n", random.below(6)));
                    peer.send(format!("rename {top}/d {other}/e\n"));
                    peer.send(format!("rmall {other}/e\n"));
                }
            });
        }
    });
    check(&tree, "the race");
    assert_eq!(used(&mut tree.alice(), "/"), 819_200);
}

#[test]
fn sandboxes_and_what_is_under_construction_are_not_counted() {
    let tree = limited(MIB);
    for (name, size) in [
        (".__job.1.00", 20_000),
        (".__put.00", 20_000),
        (".__rm.1", 5000),
    ] {
        fs::create_dir_all(tree.host(name).join("d")).unwrap();
        fs::write(tree.host(name).join("d/f"), vec![0; size]).unwrap();
    }
    let space = tree.export.space();
    space.changed_outside();
    space.recount().unwrap();
    assert_eq!(used(&mut tree.alice(), "/"), 8192);
}

#[test]
fn a_directory_that_takes_long_to_count_stays_in_its_allocation() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect("mkdir /d 448\nmkalloc /m 1000 448\n", "0\n0\n");
    // The list is the first entry.
    for number in 0..999 {
        fs::write(tree.host("d").join(number.to_string()), "").unwrap();
    }
    alice.expect("rename /d /m/d\nrename /m/d /d\n", "0\n0\n");
    fs::write(tree.host("d/one more"), "").unwrap();
    alice.expect("rename /d /m/d\nrename /d /e\n", "-16\n0\n");
}

#[test]
fn what_programs_did_is_counted_while_the_tree_is_served() {
    let tree = limited(MIB);
    let mut alice = tree.alice();
    alice.expect(
        "mkalloc /m 100000 448\nmkalloc /n 50000 448\nmkdir /m/d 448\n",
        "0\n0\n0\n",
    );
    put(&mut alice, "/m/d/open", 5000);
    put(&mut alice, "/m/gone", 5000);
    alice.send("open /m/d/open rw 0\n");
    alice.send("open /m/gone rw 0\n");
    fs::write(tree.host("m/d/new"), [0; 20_000]).unwrap();
    fs::rename(tree.host("m/d"), tree.host("n/d")).unwrap();
    fs::remove_file(tree.host("m/gone")).unwrap();
    let space = tree.export.space();
    // Nobody said that anything happened.
    space.recount().unwrap();
    assert_eq!((used(&mut alice, "/m"), used(&mut alice, "/n")), (16384, 0));
    // What is under way hides the truth: nothing is taken away, but more is seen.
    let upload = begin(&mut alice, "putfile /m/f 420 1\n");
    space.changed_outside();
    space.recount().unwrap();
    assert_eq!(
        (used(&mut alice, "/m"), used(&mut alice, "/n")),
        (20480, 28672)
    );
    drop(upload);
    // The next time, as it was disturbed.
    space.recount().unwrap();
    assert_eq!(
        (used(&mut alice, "/m"), used(&mut alice, "/n")),
        (8192, 28672)
    );
    alice.expect("pwrite 0 1 30000\nx", "-6\n");
    alice.expect("pwrite 0 1 10000\nx", "1\n");
    assert_eq!(used(&mut alice, "/n"), 32768);
    alice.expect("close 0\nclose 1\n", "0\n0\n");
    assert_eq!((used(&mut alice, "/m"), used(&mut alice, "/n")), (0, 32768));
    // Whole allocations come and go.
    fs::remove_dir_all(tree.host("m")).unwrap();
    fs::rename(tree.host("n"), tree.host("o")).unwrap();
    space.changed_outside();
    space.recount().unwrap();
    alice.expect(
        "lsalloc /o/d\nlsalloc /\n",
        "0\n/o 50000 32768\n0\n/ 1048576 50000\n",
    );
    space.save();
    assert_eq!(
        fs::read(tree.host("o/.__alloc")).unwrap(),
        b"50000\n32768\n"
    );
    // Whose a file with another name is turns out when the tree is counted.
    fs::hard_link(tree.host("o/d/new"), tree.host("elsewhere")).unwrap();
    alice.expect("unlink /o/d/new\n", "0\n");
    space.recount().unwrap();
    assert_eq!(
        (used(&mut alice, "/o"), used(&mut alice, "/")),
        (12288, 70480)
    );
}
