//! Weaknesses of tickets.

use std::fs;

use crate::common::{Peer, Place, Server};
use crate::reference::Reference;
use crate::ticket::{Key, begin, digest, finish, login, register, whoami};

#[test]
fn w01_the_text_of_a_ticket_cannot_name_another_owner() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\n", place.user);
    place.write(".__acl", &list);
    let key = Key::new(&place, "key");
    let pem = &key.public;
    let victim = format!("unix:{}", place.user);
    let text = format!("{pem}\"\nsubject \"{victim}\"\nrights \"/\" \"rwldax\"\nticket \"{pem}");
    {
        let theirs = Reference::serve(&place, &[]);
        let mut guest = theirs.guest(2);
        guest.expect("getdir /\n", "-2\n");
        assert_eq!(register(&mut guest, "self", 3600, &text), 0);
        let mut forger = theirs.connect();
        assert!(login(&place, &mut forger, &digest(&text), &key));
        assert_eq!(whoami(&mut forger), victim);
        forger
            .send("putfile /forged 420 1\nx")
            .read_exactly("0\n1\n");
    }
    // What the reference has been made to write is no ticket to ours.
    let left = format!(".__ticket.{}", digest(&text));
    assert!(place.host(&left).exists());
    let ours = place.serve(&[]);
    assert!(begin(&mut ours.connect(), &digest(&text)).is_none());
    let mut guest = ours.guest(2);
    let texts = [
        text.clone(),
        format!("{pem}\""),
        format!("\"{pem}"),
        format!("x\nsubject \"{victim}\"\n"),
        format!("{pem}\nsubject \"{victim}\"\n"),
        format!("{pem}\0\"\nsubject \"{victim}\"\n"),
        "\"".to_owned(),
        "\"\"".to_owned(),
    ];
    for text in &texts {
        register(&mut guest, "self", 3600, text);
        if let Some(challenge) = begin(&mut ours.connect(), &digest(text)) {
            panic!("{text:?} is a ticket: {}", challenge.escape_ascii());
        }
    }
    // Nor by the subject's word, or a name of another.
    for subject in [
        victim.as_str(),
        "unix:root",
        "\"",
        "self\"x",
        "address:127.0.0.3",
    ] {
        let answer = register(&mut guest, subject, 3600, pem);
        assert!(answer < 0, "{subject}: {answer}");
    }
    for entry in fs::read_dir(place.base("root")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains(".__ticket.") {
            let text = fs::read_to_string(path).unwrap();
            assert!(!text.contains(&victim), "{text}");
        }
    }
    // The plain key is one, and its owner's.
    assert_eq!(register(&mut guest, "self", 3600, pem), 0);
    let mut peer = ours.connect();
    assert!(login(&place, &mut peer, &key.digest(), &key));
    assert_eq!(whoami(&mut peer), "address:127.0.0.2");
    peer.send("getdir /\n").read_exactly("-2\n");
}

/// The file of a ticket.
fn ticket_file(subject: &str, key: &str, masks: &str) -> String {
    format!("subject \"{subject}\"\nticket \"{key}\"\nexpiration \"4000000000\"\n{masks}")
}

#[test]
fn w05_a_file_with_a_ticket_s_name_is_no_way_to_forge_one() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\naddress:127.0.0.2 p\n", place.user);
    place.write(".__acl", &list);
    let key = Key::new(&place, "key");
    let victim = format!("unix:{}", place.user);
    let forged = ticket_file(&victim, &key.public, "rights \"/\" \"rwlda\"\n");
    let name = "f".repeat(32);
    {
        let theirs = Reference::serve(&place, &[]);
        let mut guest = theirs.guest(2);
        assert_eq!(
            guest.putfile(&format!("/.__ticket.{name}"), &forged),
            forged.len() as i64
        );
        let mut forger = theirs.connect();
        assert!(login(&place, &mut forger, &name, &key));
        assert_eq!(whoami(&mut forger), victim);
    }
    // The file that the reference has let pass has another digest than its name says.
    let ours = place.serve(&[]);
    assert!(begin(&mut ours.connect(), &name).is_none());
    assert!(
        !place.host(format!(".__ticket.{name}")).exists(),
        "it is removed at the start"
    );
    let mut guest = ours.guest(2);
    for digest in [&name, &key.digest()] {
        for path in [
            format!("/.__ticket.{digest}"),
            format!("/.__ticket.{digest}/"),
            format!("//./.__ticket.{digest}"),
            format!("/%2e__ticket.{digest}"),
            format!("/x/../.__ticket.{digest}"),
        ] {
            assert_eq!(guest.putfile(&path, &forged), -2, "{path}");
            guest.expect(
                format!(
                    "open {path} wc 420\nputstream {path}\nmkdir {path} 448\nsymlink x {path}\n"
                ),
                "-2\n-2\n-2\n-2\n",
            );
        }
        assert!(begin(&mut ours.connect(), digest).is_none());
    }
}

#[test]
fn w16_a_signature_is_good_for_one_login() {
    let place = Place::new();
    let key = Key::new(&place, "key");
    let replay = |server: &Server<'_>| {
        assert_eq!(register(&mut server.owner(), "self", 3600, &key.public), 0);
        let mut first = server.connect();
        let challenge = begin(&mut first, &key.digest()).unwrap();
        let file = place.base("recorded");
        fs::write(&file, &challenge).unwrap();
        let signature = key.sign(&file);
        assert!(finish(&mut first, &signature));
        let mut second = server.connect();
        let other = begin(&mut second, &key.digest()).unwrap();
        (challenge == other, finish(&mut second, &signature))
    };
    assert_eq!(replay(&Reference::serve(&place, &[])), (true, true));
    let ours = place.serve(&[]);
    assert_eq!(replay(&ours), (false, false));
    // Within one connection too, each attempt is another challenge.
    let mut peer = ours.connect();
    let first = begin(&mut peer, &key.digest()).unwrap();
    let file = place.base("recorded");
    fs::write(&file, &first).unwrap();
    let signature = key.sign(&file);
    assert!(!finish(&mut peer, b"not a signature"));
    peer.send(format!("{}\n", key.digest()))
        .read_exactly("64\n");
    assert_ne!(peer.take(64), first);
    assert!(!finish(&mut peer, &signature));
}

#[test]
fn w18_a_mask_covers_a_directory_and_no_sibling_of_a_similar_name() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\n", place.user);
    for dir in ["s", "secret", "s/below"] {
        place.directory(dir, &list);
        place.write(format!("{dir}/f"), "x");
    }
    let key = Key::new(&place, "key");
    let attack = |server: &Server<'_>| {
        let mut owner = server.owner();
        assert_eq!(register(&mut owner, "self", 3600, &key.public), 0);
        owner.expect(
            format!("ticket_modify ticket:{} /s rl\n", key.digest()),
            "0\n",
        );
        let mut peer = server.connect();
        assert!(login(&place, &mut peer, &key.digest(), &key));
        ["/s/f", "/s/below/f", "/secret/f", "/s/../secret/f"].map(|path| peer.getfile(path).is_ok())
    };
    assert_eq!(
        attack(&Reference::serve(&place, &[])),
        [true, true, true, true]
    );
    assert_eq!(attack(&place.serve(&[])), [true, true, false, false]);
}

#[test]
fn w18_a_mask_is_not_got_round_by_links() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\n", place.user);
    for dir in ["s", "secret"] {
        place.directory(dir, &list);
        place.write(format!("{dir}/f"), "x");
    }
    place.link("/secret", "s/out");
    place.link("out", "s/outer");
    place.link("/secret/f", "s/file");
    let key = Key::new(&place, "key");
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    assert_eq!(register(&mut owner, "self", 3600, &key.public), 0);
    owner.expect(
        format!("ticket_modify ticket:{} /s rwld\n", key.digest()),
        "0\n",
    );
    let mut peer = ours.connect();
    assert!(login(&place, &mut peer, &key.digest(), &key));
    for path in ["/s/out/f", "/s/outer/f", "/s/file"] {
        assert_eq!(peer.getfile(path), Err(-2), "{path}");
        assert_eq!(peer.putfile(path, "y"), -2, "{path}");
    }
    for request in [
        "getdir /s/out",
        "getlongdir /s/outer",
        "rename /s/out/f /s/mine",
        "link /s/out/f /s/mine",
        "rename /s/f /s/out/g",
        "symlink x /s/out/g",
        "mkdir /s/out/d 448",
        "rmall /s/out/f",
        "md5 /s/file",
        "setacl /s/out unix:x rl",
        "audit /s/out",
        "truncate /s/file 0",
        "getstream /s/file",
    ] {
        peer.send(format!("{request}\n")).read_exactly("-2\n");
    }
    // A search names what it may not enter, and nothing that is in there.
    peer.send("search f|g /s 4\nwhoami 4\n");
    let mut answer = String::new();
    loop {
        let line = peer.line();
        if line == "4" {
            break;
        }
        answer.push_str(&line);
        answer.push('\n');
    }
    assert!(
        !answer.contains("/s/out/f") && !answer.contains("/s/outer/f"),
        "{answer}"
    );
}

#[test]
fn w19_a_read_only_server_writes_no_ticket() {
    let place = Place::new();
    place.write(".__acl", format!("unix:{} rwlda\n", place.user));
    let key = Key::new(&place, "key");
    let tickets = || {
        let names = fs::read_dir(place.base("root")).unwrap();
        names
            .filter(|name| {
                let name = name.as_ref().unwrap().file_name();
                name.to_str().unwrap().starts_with(".__ticket.")
            })
            .count()
    };
    {
        let theirs = Reference::serve(&place, &["-R"]);
        assert_eq!(register(&mut theirs.owner(), "self", 3600, &key.public), 0);
        assert_eq!(tickets(), 1);
    }
    let ours = place.serve(&["-R"]);
    let mut owner = ours.owner();
    let other = Key::new(&place, "other");
    assert_eq!(register(&mut owner, "self", 3600, &other.public), -2);
    let name = key.digest();
    owner.expect(
        format!("ticket_modify ticket:{name} / rl\nticket_delete ticket:{name}\n"),
        "-2\n-2\n",
    );
    assert_eq!(tickets(), 1);
}

#[test]
fn w30_a_ticket_reserves_for_its_owner() {
    let place = Place::new();
    let list = format!("unix:{} rwldav(rwlda)\n", place.user);
    place.write(".__acl", &list);
    let key = Key::new(&place, "key");
    let attack = |server: &Server<'_>, dir: &str| {
        let mut owner = server.owner();
        assert_eq!(register(&mut owner, "self", 3600, &key.public), 0);
        owner.expect(
            format!("ticket_modify ticket:{} / rwldv(rwlda)\n", key.digest()),
            "0\n",
        );
        let mut peer = server.connect();
        assert!(login(&place, &mut peer, &key.digest(), &key));
        peer.send(format!("mkdir {dir} 448\n")).read_exactly("0\n");
        peer.send(format!("getdir {dir}\n"));
        let by_ticket = peer.line() == "0";
        let by_owner = owner.answer(format!("getdir {dir}\n")).starts_with(b"0\n");
        (by_ticket, by_owner)
    };
    assert_eq!(
        attack(&Reference::serve(&place, &[]), "/theirs"),
        (false, false)
    );
    assert_eq!(attack(&place.serve(&[]), "/ours"), (true, true));
    let list = fs::read_to_string(place.host("ours/.__acl")).unwrap();
    assert!(list.starts_with(&format!("unix:{} ", place.user)), "{list}");
}

#[test]
fn w35_only_this_challenge_signed_in_this_form_logs_in() {
    let place = Place::new();
    let (key, stranger) = (Key::new(&place, "key"), Key::new(&place, "stranger"));
    let ours = place.serve(&[]);
    assert_eq!(register(&mut ours.owner(), "self", 3600, &key.public), 0);
    let attempt = |make: &dyn Fn(&[u8]) -> Vec<u8>| {
        let mut peer = ours.connect();
        let challenge = begin(&mut peer, &key.digest()).unwrap();
        finish(&mut peer, &make(&challenge))
    };
    let file = place.base("signed");
    let write = |bytes: &[u8]| fs::write(&file, bytes).unwrap();
    let good = |challenge: &[u8]| {
        write(challenge);
        key.sign(&file)
    };
    assert!(attempt(&good));
    // Anything else that is validly signed.
    assert!(!attempt(&|_| good(&[0; 64])));
    assert!(!attempt(&|challenge| good(&challenge[..63])));
    assert!(!attempt(&|challenge| {
        good(&challenge.iter().rev().copied().collect::<Vec<_>>())
    }));
    assert!(!attempt(&|_| good(b"")));
    assert!(!attempt(&|challenge| {
        write(challenge);
        key.sign_as_others_do(&file)
    }));
    assert!(!attempt(&|challenge| {
        write(challenge);
        stranger.sign(&file)
    }));
    assert!(!attempt(&|_| vec![0; 128]));
    assert!(!attempt(&|_| vec![0xff; 128]));
    assert!(!attempt(&|_| {
        let mut one = vec![0; 128];
        one[127] = 1;
        one
    }));
    assert!(!attempt(&|_| Vec::new()));
    assert!(!attempt(&|challenge| [good(challenge), vec![0]].concat()));
    assert!(!attempt(&|challenge| [vec![0], good(challenge)].concat()));
    // An unknown ticket is declined, so that the client's exchange stays in step.
    let mut peer = ours.connect();
    peer.send(format!("ticket\n{}\n==\naddress\n", "0".repeat(32)))
        .read_exactly("yes\ndeclined\nyes\nyes\nyes\naddress\n");
}

#[test]
fn a_ticket_file_cut_short_or_damaged_is_no_ticket_and_harms_nothing() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\n", place.user);
    place.write(".__acl", &list);
    let key = Key::new(&place, "key");
    let name = format!(".__ticket.{}", key.digest());
    let subject = format!("unix:{}", place.user);
    let whole = ticket_file(&subject, &key.public, "rights \"/\" \"rl\"\n");
    let server = place.serve(&[]);
    let try_in = |text: &[u8]| {
        place.write(&name, text);
        let mut peer = server.connect();
        let is_in = login(&place, &mut peer, &key.digest(), &key);
        if is_in {
            // With these rights and no others.
            peer.send("getdir /none\nputfile /f 420 1\n")
                .read_exactly("-3\n-2\n");
        }
        is_in
    };
    assert!(try_in(whole.as_bytes()));
    // Cut anywhere it is none: the masks come last, and one that is cut off has no end.
    for length in (0..whole.len() - 2).step_by(7) {
        assert!(!try_in(&whole.as_bytes()[..length]), "{length} bytes");
    }
    for damaged in [
        whole.replace("4000000000", "1"),
        whole.replace("4000000000", "x"),
        whole.replace("4000000000", "-4000000000"),
        whole.replace("expiration", "expires"),
        whole.replace("rights", "wrongs"),
        whole.replace("-----BEGIN", "-----begin"),
        whole.replace("subject \"", "subject "),
        format!("{whole}subject \"unix:root\"\nticket \""),
        "\0".repeat(2000),
        "\"".repeat(5000),
        "x".repeat(4_000_000),
    ] {
        assert!(!try_in(damaged.as_bytes()), "{damaged:.300}");
    }
    // A link, a directory and a FIFO in its place hold nobody up.
    fs::remove_file(place.host(&name)).unwrap();
    fs::write(place.base("outside"), &whole).unwrap();
    place.give(&place.base("outside"));
    place.link(place.base("outside").to_str().unwrap(), &name);
    assert!(begin(&mut server.connect(), &key.digest()).is_none());
    fs::remove_file(place.host(&name)).unwrap();
    fs::create_dir(place.host(&name)).unwrap();
    assert!(begin(&mut server.connect(), &key.digest()).is_none());
    fs::remove_dir(place.host(&name)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.host(&name), rustix::fs::Mode::RWXU).unwrap();
    place.give(&place.host(&name));
    assert!(begin(&mut server.connect(), &key.digest()).is_none());
    drop(server);
    // A start clears it away and goes on.
    place.write(
        format!(".__ticket.{}", "0".repeat(32)),
        &whole.as_bytes()[..100],
    );
    let server = place.serve(&[]);
    server.guest(2).expect("whoami 7\n", "7\naddress");
}

#[test]
fn a_clock_that_jumps_ends_a_ticket_and_no_session() {
    let place = Place::new();
    place.write(".__acl", format!("unix:{} rwlda\n", place.user));
    place.write("f", "x");
    let key = Key::new(&place, "key");
    let server = place.serve(&[]);
    let mut owner = server.owner();
    assert_eq!(register(&mut owner, "self", 3600, &key.public), 0);
    owner.expect(
        format!("ticket_modify ticket:{} / rl\n", key.digest()),
        "0\n",
    );
    let mut session = server.connect();
    assert!(login(&place, &mut session, &key.digest(), &key));
    assert_eq!(session.getfile("/f"), Ok(b"x".to_vec()));
    session.send("open /f r 0\n").read_exactly("0\n");
    session.line();
    // The end lies before the clock's new time: the same as a clock that went past the end.
    let name = format!(".__ticket.{}", key.digest());
    let text = fs::read_to_string(place.host(&name)).unwrap();
    let (before, after) = text.split_once("expiration \"").unwrap();
    let rest = after.split_once('"').unwrap().1;
    let with_end = |end: &str| place.write(&name, format!("{before}expiration \"{end}\"{rest}"));
    for end in ["1", "0", "-9223372036854775808"] {
        with_end(end);
        assert_eq!(session.getfile("/f"), Err(-2), "{end}");
        session.send("stat /f\n").read_exactly("-2\n");
        // What was opened stays open, and it is still who it was.
        session.send("pread 0 1 0\n").read_exactly("1\nx");
        assert_eq!(whoami(&mut session), format!("unix:{}", place.user));
        assert!(
            begin(&mut server.connect(), &key.digest()).is_none(),
            "{end}"
        );
    }
    // The clock goes back.
    with_end("9223372036854775807");
    assert_eq!(session.getfile("/f"), Ok(b"x".to_vec()));
    // Nobody's time overflows.
    for seconds in [i64::MAX, i64::MIN, 0, -1] {
        let answer = register(&mut owner, "self", seconds, &key.public);
        assert_eq!(answer, 0, "{seconds}");
    }
    let mut late: Peer = server.connect();
    assert!(begin(&mut late, &key.digest()).is_none());
}
