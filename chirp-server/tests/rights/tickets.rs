//! Tickets: files that both servers read, logins, masks and their end.

use std::fs;

use crate::common::{Place, eventually};
use crate::holder::{Holder, digest};
use crate::reference::Reference;

/// A place whose root list lets the server's user do everything, with `/s`, `/secret` and a file in each.
fn place() -> Place {
    let place = Place::new();
    let all = format!("unix:{} rwldaxv(rwl)\n", place.user);
    place.write(".__acl", &all);
    for name in ["s", "secret", "other"] {
        place.directory(name, &all);
        place.write(format!("{name}/f"), "content");
    }
    place
}

fn own(place: &Place) -> String {
    format!("unix:{}", place.user)
}

#[test]
fn a_ticket_of_either_server_is_good_on_the_other() {
    let place = place();
    let (theirs, ours) = (Holder::new(1024), Holder::new(2048));
    let shown = {
        let reference = Reference::serve(&place, &[]);
        let mut owner = reference.owner();
        theirs.register(&mut owner, 600);
        theirs.allow(&mut owner, &[("/", "l"), ("/s", "rwl")]);
        theirs.shown(&mut owner)
    };
    let written = fs::read(place.host(format!(".__ticket.{}", theirs.digest))).unwrap();
    {
        let server = place.serve(&[]);
        let mut owner = server.owner();
        assert_eq!(theirs.shown(&mut owner), shown);
        theirs
            .login(&server, &own(&place))
            .expect("getfile /s/f\ngetfile /other/f\n", "7\ncontent-2\n");
        ours.register(&mut owner, 600);
        ours.allow(&mut owner, &[("/", "l"), ("/s", "rwl")]);
    }
    // But for who it is about, the files are the same to the byte.
    let mine = fs::read_to_string(place.host(format!(".__ticket.{}", ours.digest))).unwrap();
    let expiry = |text: &str| text.split("expiration ").nth(1).unwrap()[..12].to_owned();
    let theirs_text = String::from_utf8(written).unwrap();
    assert_eq!(
        mine.replace(&ours.public, "KEY")
            .replace(&expiry(&mine), "TIME"),
        theirs_text
            .replace(&theirs.public, "KEY")
            .replace(&expiry(&theirs_text), "TIME")
    );
    let reference = Reference::serve(&place, &[]);
    ours.login(&reference, &own(&place))
        .expect("getfile /s/f\ngetfile /other/f\n", "7\ncontent-2\n");
    assert!(
        ours.shown(&mut reference.owner())
            .ends_with("\n/ l\n/s rwlp")
    );
}

#[test]
fn w16_and_w35_a_signature_is_good_for_one_challenge() {
    let place = place();
    let server = place.serve(&[]);
    let (holder, stranger) = (Holder::new(1024), Holder::new(1024));
    holder.register(&mut server.owner(), 600);
    let mut peer = server.connect();
    let first = holder.challenge(&mut peer).unwrap();
    let signature = holder.sign(&first);
    let mut challenges = vec![first.clone()];
    // Replayed, of another key, of other data, cut, garbage, none.
    let attempts: [Vec<u8>; 6] = [
        signature.clone(),
        stranger.sign(&first),
        holder.sign(b"something else that was signed validly"),
        signature[..127].to_vec(),
        vec![0xff; 128],
        Vec::new(),
    ];
    // The first challenge is left unanswered by this connection.
    peer.send("0\n").read_exactly("failure\n");
    for attempt in attempts {
        peer.send(format!("{}\n", holder.digest))
            .read_exactly("64\n");
        challenges.push(peer.take(64));
        peer.send(format!("{}\n", attempt.len())).send(&attempt);
        peer.read_exactly("failure\n");
    }
    challenges.sort();
    challenges.dedup();
    assert_eq!(challenges.len(), 7, "no challenge comes twice");
    // The method ends as the reference has it; the connection is as good as new.
    peer.send("00000000000000000000000000000000\n==\n")
        .read_exactly("declined\n");
    peer.login_address();
    let mut peer = server.connect();
    holder.challenge(&mut peer).unwrap();
    peer.send("4097\n")
        .send([b'x'; 4097])
        .read_exactly("failure\n");
    peer.login_address();
}

#[test]
fn a_large_key_is_verified_aside() {
    let place = place();
    let server = place.serve(&[]);
    let holder = Holder::new(3072);
    holder.register(&mut server.owner(), 600);
    holder.allow(&mut server.owner(), &[("/", "l")]);
    holder
        .login(&server, &own(&place))
        .expect("getfile /s/f\n", "-2\n");
}

#[test]
fn w1_no_text_becomes_anything_but_a_key() {
    let place = place();
    let server = place.serve(&[]);
    let (holder, weak) = (Holder::new(1024), Holder::new(512));
    let mut guest = server.guest(1);
    let key = &holder.public;
    let evil = format!(
        "{key}\"\nsubject \"{}\"\nrights \"/\" \"rwldax\"\nticket \"{key}",
        own(&place)
    );
    guest.expect(
        format!("ticket_register self 600 {}\n{evil}", evil.len()),
        "-8\n",
    );
    assert!(!place.host(format!(".__ticket.{}", digest(&evil))).exists());
    // Kept as the reference keeps them, but nothing to log in with: two keys, a key with words around
    // it, another spelling, a key too small for the challenge.
    for text in [
        format!("{key}{key}"),
        format!("# mine\n{key}"),
        key.trim_end().to_owned(),
        key.replace("-----\n", "-----\n\n"),
        weak.public.clone(),
        "abc".to_owned(),
    ] {
        guest.expect(
            format!("ticket_register self 600 {}\n{text}", text.len()),
            "0\n",
        );
        let mut peer = server.connect();
        peer.send(format!("ticket\n{}\n", digest(&text)))
            .read_exactly("yes\ndeclined\n");
    }
    let large = "k".repeat(16 * 1024 + 1);
    guest.expect(
        format!("ticket_register self 600 {}\n{large}", large.len()),
        "-7\n",
    );
}

#[test]
fn nobody_takes_over_anothers_ticket() {
    let place = place();
    let server = place.serve(&[]);
    let holder = Holder::new(1024);
    holder.register(&mut server.owner(), 600);
    let key = &holder.public;
    let mut guest = server.guest(1);
    guest.expect(
        format!("ticket_register self 600 {}\n{key}", key.len()),
        "-2\n",
    );
    guest.expect(
        format!(
            "ticket_delete ticket:{}\nticket_get ticket:{}\n",
            holder.digest, holder.digest
        ),
        "-2\n-2\n",
    );
    server.owner().expect(
        "ticket_list self\n",
        format!("0\n39\nticket:{}0\n", holder.digest),
    );
}

#[test]
fn w5_forged_damaged_and_old_files_are_removed_at_the_start_and_the_log_says_which() {
    let place = place();
    let holder = Holder::new(1024);
    let good = format!(
        "subject \"{}\"\nticket \"{}\"\nexpiration \"9999999999\"\nrights \"/\" \"l\"\n",
        own(&place),
        holder.public
    );
    let named = |digest: &str| format!(".__ticket.{digest}");
    place.write(named(&holder.digest), &good);
    let bad = [
        ("0".repeat(32), good.clone()),
        ("1".repeat(32), good[..200].to_owned()),
        ("2".repeat(32), String::new()),
        (
            digest("old"),
            good.replace(&holder.public, "old")
                .replace("9999999999", "5"),
        ),
        (
            digest("two"),
            format!(
                "{}subject \"unix:root\"\n",
                good.replace(&holder.public, "two")
            ),
        ),
    ];
    for (digest, text) in &bad {
        place.write(named(digest), text);
    }
    place.write(".__ticket.other", "not one of ours");
    let read_only = place.serve(&["-R"]);
    holder
        .login(&read_only, &own(&place))
        .expect("getfile /s/f\n", "-2\n");
    for (digest, _) in &bad {
        assert!(
            place.host(named(digest)).exists(),
            "W19: nothing is written"
        );
    }
    drop(read_only);
    let server = place.serve(&[]);
    let log = server.log();
    for (digest, text) in &bad {
        assert!(!place.host(named(digest)).exists(), "{text}");
        assert!(log.contains(&named(digest)), "{log}");
    }
    assert!(place.host(".__ticket.other").exists());
    holder
        .login(&server, &own(&place))
        .expect("getfile /s/f\n", "-2\n");
    // Forged or cut while the server runs.
    place.write(named(&"3".repeat(32)), &good);
    let mut peer = server.connect();
    peer.send(format!("ticket\n{}\n", "3".repeat(32)))
        .read_exactly("yes\ndeclined\n");
}

#[test]
fn w19_a_read_only_server_keeps_no_ticket() {
    let place = place();
    let server = place.serve(&["-R"]);
    let mut owner = server.owner();
    owner.expect("ticket_register self 600 3\nabcwhoami 4\n", "-2\n4\nunix");
    assert!(place.debris().is_empty(), "{:?}", place.debris());
}

#[test]
fn w18_masks_go_by_whole_components_of_where_a_path_really_leads() {
    let place = place();
    place.link("secret", "s/way");
    place.link("/secret", "s/out");
    place.link("/s", "secret/back");
    let server = place.serve(&[]);
    let holder = Holder::new(1024);
    let mut owner = server.owner();
    holder.register(&mut owner, 600);
    holder.allow(&mut owner, &[("/s", "rwl")]);
    let mut peer = holder.login(&server, &own(&place));
    peer.expect(
        "getfile /s/f\ngetfile /secret/f\ngetfile /s/out/f\ngetfile /secret/back/f\ngetdir /\n",
        "7\ncontent-2\n-2\n7\ncontent-2\n",
    );
    peer.expect(
        "getfile /s/../secret/f\nunlink /s/f\nputfile /s/g 420 1\nx",
        "-2\n-2\n0\n1\n",
    );
    // A mask set through a link is of the directory behind it.
    holder.allow(&mut owner, &[("/s/out", "r")]);
    peer.expect("getfile /secret/f\ngetfile /other/f\n", "7\ncontent-2\n");
    // What a ticket is good for ends with its mask, at once; its descriptors stay.
    let opened = peer.answer("open /s/f r 0\n");
    assert!(opened.starts_with(b"0\n"));
    holder.allow(&mut owner, &[("/s", "n")]);
    peer.expect("getfile /s/f\npread 0 7 0\n", "-2\n7\ncontent");
    owner.expect(format!("ticket_delete ticket:{}\n", holder.digest), "0\n");
    peer.expect(
        "getfile /secret/f\npread 0 7 0\nticket_list self\n",
        "-2\n7\ncontent-2\n",
    );
}

#[test]
fn a_ticket_never_has_more_than_its_owner() {
    let place = place();
    place.directory("shared", "address:127.0.0.1 rl\n");
    place.write("shared/f", "content");
    let server = place.serve(&["-P", "address:127.0.0.1"]);
    let mut guest = server.guest(1);
    let holder = Holder::new(1024);
    holder.register(&mut guest, 600);
    let name = format!("ticket:{}", holder.digest);
    guest.expect(format!("ticket_modify {name} /shared rwl\nticket_modify {name} /shared rla\nticket_modify {name} /none r\nticket_modify {name} /shared/f r\nticket_modify {name} / n\n"), "-2\n0\n-3\n-3\n0\n");
    // The superuser's ticket is not the superuser.
    let mut peer = holder.login(&server, "address:127.0.0.1");
    peer.expect(
        "getfile /shared/f\ngetdir /s\nsetacl /shared unix:x r\n",
        "7\ncontent-2\n-2\n",
    );
    peer.expect("ticket_list all\nticket_list unix:x\n", "-2\n-2\n");
    peer.expect(format!("ticket_get {name}\n"), "-2\n");
    // Another's, for the superuser.
    server
        .owner()
        .expect("ticket_register self 600 3\nabc", "0\n");
    let list = String::from_utf8(guest.answer("ticket_list all\n")).unwrap();
    assert!(
        list.contains(&name) && list.contains(&digest("abc")),
        "{list}"
    );
    guest.expect(
        format!("ticket_list {}\n", own(&place)),
        format!("0\n39\nticket:{}0\n", digest("abc")),
    );
}

#[test]
fn w30_what_a_ticket_makes_is_its_owners() {
    let place = place();
    place.write("s/.__acl", format!("unix:{} lv(rwl)\n", place.user));
    let server = place.serve(&[]);
    let holder = Holder::new(1024);
    let mut owner = server.owner();
    holder.register(&mut owner, 600);
    holder.allow(&mut owner, &[("/s", "v(rl)")]);
    holder
        .login(&server, &own(&place))
        .expect("mkdir /s/new 448\n", "0\n");
    // Of the rights that v gives, those that the mask leaves.
    owner.expect("getacl /s/new\n", format!("0\nunix:{} rl\n\n", place.user));
}

#[test]
fn time_ends_a_ticket_during_a_session_and_what_it_made() {
    let place = place();
    let server = place.serve(&["--max-ticket-duration", "1h"]);
    let mut owner = server.owner();
    let holder = Holder::new(1024);
    holder.register(&mut owner, 1_000_000);
    holder.allow(&mut owner, &[("/", "rl")]);
    let text = fs::read_to_string(place.host(format!(".__ticket.{}", holder.digest))).unwrap();
    let expires: u64 = text.split('"').nth(5).unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(
        (3000..=3601).contains(&(expires - now)),
        "{expires} at {now}"
    );
    // A ticket made by a ticket ends with it and belongs to the same owner.
    let mut peer = holder.login(&server, &own(&place));
    holder.register(&mut owner, 3);
    holder.allow(&mut owner, &[("/", "rl")]);
    peer.expect("ticket_register self 600 3\nabc", "0\n");
    let made = fs::read_to_string(place.host(format!(".__ticket.{}", digest("abc")))).unwrap();
    let until: u64 = made.split('"').nth(5).unwrap().parse().unwrap();
    assert!(until < now + 600, "{made}");
    assert!(
        made.starts_with(&format!("subject \"{}\"", own(&place))),
        "{made}"
    );
    assert!(peer.answer("open /s/f r 0\n").starts_with(b"0\n"));
    eventually("the time is over", || {
        peer.answer("getfile /s/f\n") == b"-2\n"
    });
    peer.expect(
        "pread 0 7 0\ngetdir /\nticket_register self 600 3\nabd",
        "7\ncontent-2\n-2\n",
    );
    assert!(holder.challenge(&mut server.connect()).is_none());
    owner.expect(
        format!(
            "ticket_get ticket:{0}\nticket_delete ticket:{0}\nticket_modify ticket:{0} / l\n",
            holder.digest
        ),
        "-8\n-3\n-3\n",
    );
}

#[test]
fn the_number_of_tickets_is_bounded() {
    let place = place();
    let server = place.serve(&[]);
    let mut guest = server.guest(1);
    let requests: String = (0..1001)
        .map(|n| format!("ticket_register self 600 4\n{n:04}"))
        .collect();
    guest.expect(requests, format!("{}-6\n", "0\n".repeat(1000)));
    // Renewing and others' are no new ones, and one that goes makes room.
    guest.expect("ticket_register self 600 4\n0007", "0\n");
    server
        .guest(2)
        .expect("ticket_register self 600 1\nx", "0\n");
    guest.expect(
        format!(
            "ticket_delete ticket:{}\nticket_register self 600 1\ny",
            digest("0007")
        ),
        "0\n0\n",
    );
    // The same after a start.
    drop(server);
    let server = place.serve(&[]);
    server
        .guest(1)
        .expect("ticket_register self 600 1\nz", "-6\n");
}

/// Returns the names of the ticket files.
fn files(place: &Place) -> Vec<String> {
    let names = fs::read_dir(place.base("root")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(".__ticket."))
        .collect()
}

#[test]
fn a_session_by_a_ticket_has_nothing_from_the_next_owner_of_its_key() {
    let place = place();
    let all = format!("unix:{} rwlda\naddress:127.0.0.1 rl\n", place.user);
    place.write(".__acl", &all);
    let server = place.serve(&[]);
    let (mut owner, mut guest) = (server.owner(), server.guest(1));
    let holder = Holder::new(1024);
    holder.register(&mut owner, 600);
    holder.allow(&mut owner, &[("/s", "rl")]);
    let mut session = holder.login(&server, &own(&place));
    session.expect(
        "getfile /s/f\ngetfile /secret/f\nticket_list self\n",
        format!("7\ncontent-2\n0\n39\nticket:{}0\n", holder.digest),
    );
    owner.expect(format!("ticket_delete ticket:{}\n", holder.digest), "0\n");
    // The guest's masks are bounded by the guest's rights, and not those of the session's owner.
    holder.register(&mut guest, 600);
    holder.allow(&mut guest, &[("/", "rl")]);
    session.expect(
        "getfile /s/f\ngetfile /secret/f\ngetdir /\nticket_list self\nticket_register self 600 3\nabc",
        "-2\n-2\n-2\n-2\n-2\n",
    );
    holder
        .login(&server, "address:127.0.0.1")
        .expect("getfile /secret/f\n", "-2\n");
    // Their owner's again, it is good again.
    guest.expect(format!("ticket_delete ticket:{}\n", holder.digest), "0\n");
    holder.register(&mut owner, 600);
    holder.allow(&mut owner, &[("/s", "rl")]);
    session.expect("getfile /s/f\n", "7\ncontent");
}

#[test]
fn tickets_that_end_at_once_do_not_fill_the_disk() {
    let place = place();
    let server = place.serve(&[]);
    let mut guest = server.guest(1);
    let requests: String = (0..200)
        .map(|n| format!("ticket_register self {} 4\n{n:04}", -(n % 2)))
        .collect();
    guest.expect(requests, "0\n".repeat(200));
    let last = files(&place);
    assert_eq!(last, [format!(".__ticket.{}", digest("0199"))]);
    // Renewed by another server meanwhile: it stays and counts.
    let text = fs::read_to_string(place.host(&last[0])).unwrap();
    let end = text.split('"').nth(5).unwrap();
    place.write(&last[0], text.replace(end, "9999999999"));
    guest.expect("ticket_register self 600 3\nabc", "0\n");
    assert_eq!(files(&place).len(), 2);
    let list = String::from_utf8(guest.answer("ticket_list self\n")).unwrap();
    assert!(
        list.contains(&digest("0199")) && list.contains(&digest("abc")),
        "{list}"
    );
}

#[test]
fn a_ticket_makes_no_wider_one() {
    let place = place();
    place.directory("secret/open", &format!("unix:{} rwlda\n", place.user));
    let server = place.serve(&[]);
    let mut owner = server.owner();
    let (holder, other) = (Holder::new(1024), Holder::new(1024));
    holder.register(&mut owner, 600);
    holder.allow(
        &mut owner,
        &[
            ("/", "rlv(r)"),
            ("/secret", "n"),
            ("/secret/open", "rwl"),
            ("/s", "rl"),
        ],
    );
    let mut session = holder.login(&server, &own(&place));
    other.register(&mut session, 600);
    let name = format!("ticket:{}", other.digest);
    let modify = |path: &str, rights: &str| format!("ticket_modify {name} {path} {rights}\n");
    for (path, rights, answer) in [
        ("/", "rl", "-2\n"),
        ("/", "l", "-2\n"),
        ("/", "n", "0\n"),
        ("/secret", "r", "-2\n"),
        ("/secret/open", "rwl", "0\n"),
        ("/secret/open", "rwld", "-2\n"),
        ("/s", "rl", "0\n"),
        ("/other", "v(rl)", "-2\n"),
        // Without a list it reserves everything.
        ("/other", "v", "-2\n"),
        ("/other", "rv(r)", "0\n"),
    ] {
        session.expect(modify(path, rights), answer);
    }
    other.login(&server, &own(&place)).expect(
        "getfile /s/f\ngetfile /secret/f\ngetfile /f\n",
        "7\ncontent-2\n-2\n",
    );
    // Their owner may.
    owner.expect(modify("/", "rl"), "0\n");
}

#[test]
fn the_references_client_uses_our_tickets() {
    let place = place();
    let server = place.serve(&[]);
    let dir = tempfile::tempdir().unwrap();
    let ticket = dir.path().join("ticket");
    let chirp = |args: &[&str]| {
        let output = std::process::Command::new("timeout")
            .args(["20", "chirp", "-t", "5", "-a", "address", "-a", "ticket"])
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let at = format!("127.0.0.1:{}", server.port);
    server
        .owner()
        .expect("setacl / address:127.0.0.1 rwl\n", "0\n");
    let file = ticket.to_str().unwrap();
    let (done, words) = chirp(&[
        &at,
        "ticket_create",
        "-output",
        file,
        "-bits",
        "1024",
        "-duration",
        "600",
        "/",
        "rl",
    ]);
    assert!(done, "{words}");
    let output = std::process::Command::new("timeout")
        .args([
            "20", "chirp", "-t", "5", "-a", "ticket", "-i", file, &at, "whoami",
        ])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(
        words.contains("address:127.0.0.1"),
        "{words}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (done, words) = chirp(&[&at, "ticket_list", "self"]);
    assert!(done && words.contains("ticket:"), "{words}");
}
