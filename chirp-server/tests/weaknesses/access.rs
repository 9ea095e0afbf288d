//! Weaknesses that gave away identities and rights.

use std::fs;

use crate::common::{Place, Server, require_root};
use crate::reference::Reference;

#[test]
fn w02_the_owner_of_what_a_challenge_links_to_does_not_log_in_as_root() {
    require_root();
    let place = Place::new();
    let attack = |server: &Server<'_>| {
        let mut peer = server.connect();
        let path = peer.begin_unix();
        // A place where the kernel lets the server follow the link.
        std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        peer.send("yes\n");
        let mut verdict = vec![peer.line()];
        while verdict[0] == "yes" && verdict.len() < 4 {
            verdict.push(peer.line());
        }
        verdict
    };
    // What the name has after the process id, in two logins of one server.
    let names = |server: &Server<'_>| {
        [(); 2].map(|()| {
            let path = server.connect().begin_unix();
            path.extension().unwrap().to_owned()
        })
    };
    {
        let theirs = Reference::serve(&place, &["-z", "1"]);
        assert_eq!(attack(&theirs), ["yes", "yes", "unix", "root"]);
        let [one, other] = names(&theirs);
        assert_eq!(one, other);
    }
    let ours = place.serve(&["-z", "1"]);
    assert_eq!(attack(&ours), ["no"]);
    let [one, other] = names(&ours);
    assert_ne!(one, other, "a name cannot be known before");
}

#[test]
fn w03_write_and_delete_do_not_become_admin() {
    let attack = |serve: &dyn Fn(&Place) -> Vec<String>| {
        let place = Place::new();
        let owner = format!("unix:{} rwlda\n", place.user);
        place.directory("pub", &format!("{owner}address:127.0.0.2 rwl\n"));
        place.directory("linked", &format!("{owner}address:127.0.0.2 rwl\n"));
        place.link("l2", "linked/l1");
        place.link(".__acl", "linked/l2");
        place.directory("r", &format!("{owner}address:127.0.0.2 d\n"));
        serve(&place)
    };
    let act = |place: &Place, server: &Server<'_>| {
        let mut guest = server.guest(2);
        let list = "address:127.0.0.2 rwlda\n";
        for path in ["/pub/.__acl/", "/linked/l1"] {
            guest.putfile(path, list);
        }
        guest.answer("unlink /r/.__acl\n");
        // What it may do by then.
        for dir in ["pub", "linked"] {
            guest.answer(format!("setacl /{dir} address:127.0.0.9 rwlda\n"));
        }
        ["pub", "linked", "r"]
            .map(|dir| fs::read_to_string(place.host(dir).join(".__acl")).unwrap_or_default())
            .to_vec()
    };
    let [public, linked, removed]: [String; 3] =
        attack(&|place| act(place, &Reference::serve(place, &[])))
            .try_into()
            .unwrap();
    for list in [public, linked] {
        assert!(list.ends_with("address:127.0.0.9 rwldpa\n"), "{list}");
    }
    assert_eq!(removed, "");
    let lists = attack(&|place| act(place, &place.serve(&[])));
    for (list, rights) in lists.iter().zip(["rwl", "rwl", "d"]) {
        assert!(
            list.ends_with(&format!("address:127.0.0.2 {rights}\n")),
            "{list}"
        );
    }
}

#[test]
fn w03_put_does_not_become_admin_where_a_default_list_governs() {
    let place = Place::new();
    fs::create_dir(place.host("bare")).unwrap();
    place.give(&place.host("bare"));
    let default = place.base("default");
    fs::write(&default, "address:127.0.0.2 p\n").unwrap();
    place.give(&default);
    let list = "address:127.0.0.2 rwlda\n";
    let act = |server: &Server<'_>| {
        let mut guest = server.guest(2);
        (
            guest.putfile("/bare/.__acl/", list),
            guest.putfile("/bare/.__acl", list),
        )
    };
    let args = ["-A", default.to_str().unwrap()];
    {
        let theirs = Reference::serve(&place, &args);
        let (one, other) = act(&theirs);
        assert!(one > 0 || other > 0, "{one} {other}");
        assert!(place.host("bare/.__acl").exists());
    }
    fs::remove_file(place.host("bare/.__acl")).unwrap();
    let ours = place.serve(&args);
    assert_eq!(act(&ours), (-2, -2));
    assert_eq!(fs::read_dir(place.host("bare")).unwrap().count(), 0);
}

#[test]
fn w04_two_symlinks_do_not_bypass_the_acl() {
    let place = Place::new();
    place.directory("priv", &format!("unix:{} rwlda\n", place.user));
    place.directory("pub", "address:127.0.0.2 rwlda\n");
    let attack = |server: &Server<'_>| {
        place.write("priv/s", "private");
        let mut guest = server.guest(2);
        guest.answer("unlink /pub/l1\nunlink /pub/l2\n");
        guest.expect("symlink /priv/s /pub/l2\n", "0\n");
        guest.expect("getfile /pub/l2\n", "-2\n");
        guest.expect("symlink l2 /pub/l1\n", "0\n");
        let read = guest.getfile("/pub/l1");
        let opened = guest.answer("open /pub/l1 w 0\npwrite 0 1 0\nP");
        (read, opened)
    };
    {
        let theirs = Reference::serve(&place, &[]);
        let (read, opened) = attack(&theirs);
        assert_eq!(read, Ok(b"private".to_vec()));
        assert!(opened.ends_with(b"\n1\n"), "{}", opened.escape_ascii());
        assert_eq!(fs::read(place.host("priv/s")).unwrap(), b"Private");
    }
    let ours = place.serve(&[]);
    let (read, opened) = attack(&ours);
    assert_eq!((read, opened), (Err(-2), b"-2\n-12\n".to_vec()));
    assert_eq!(fs::read(place.host("priv/s")).unwrap(), b"private");
}

#[test]
fn w07_a_writer_cannot_end_the_server_through_its_own_files() {
    let place = Place::new();
    let list = format!("unix:{} rwlda\naddress:127.0.0.2 rwld\n", place.user);
    place.write(".__acl", &list);
    {
        let theirs = Reference::serve(&place, &[]);
        let mut guest = theirs.guest(2);
        guest.expect("truncate /.__uuid 0\n", "0\n");
        let mut next = theirs.connect();
        next.send("address\n").read_end();
        crate::common::eventually("it is gone", || {
            crate::common::Peer::try_connect(theirs.port, 1).is_err()
        });
    }
    place.write(".__uuid", "32EE7FEE-1A1D-479B-A1AF-E38B554B63DB");
    {
        let ours = place.serve(&[]);
        let mut guest = ours.guest(2);
        for verb in [
            "truncate /.__uuid 0",
            "putfile /.__uuid 420 1",
            "putfile /.__uuid/ 420 1",
            "open /.__uuid wct 420",
            "unlink /.__uuid",
            "rename /.__uuid /x",
            "rmall /.__uuid",
            "chmod /.__uuid 0",
            "mkdir /.__uuid 448",
            "symlink x /.__uuid",
        ] {
            let answer = guest.number(format!("{verb}\n"));
            assert!([-2, -4].contains(&answer), "{verb}: {answer}");
        }
        ours.guest(3).expect("whoami 7\n", "7\naddress");
    }
    // Even one that is damaged, by whom ever, ends nothing.
    place.write(".__uuid", "");
    let ours = place.serve(&["-u", "127.0.0.1:9"]);
    ours.guest(3).expect("whoami 7\n", "7\naddress");
}

#[test]
fn w08_no_file_of_the_server_s_is_reached_by_a_descriptor_never_opened() {
    let place = Place::new();
    place.write(".__acl", "address:127.0.0.2 rwl\n");
    let attack = |server: &Server<'_>| {
        let mut guest = server.guest(2);
        // With this the reference has opened its state.
        assert_eq!(guest.putfile("/f", "x"), 1);
        (0..8).any(|fd| {
            guest.send(format!("pread {fd} 100 0\n"));
            guest.counted().is_ok_and(|read| !read.is_empty())
        })
    };
    assert!(attack(&Reference::serve(&place, &["-Q", "1M"])));
    let ours = place.serve(&["-Q", "1M"]);
    assert!(!attack(&ours));
    let mut guest = ours.guest(2);
    for fd in 0..1100 {
        guest.expect(
            format!(
                "pread {fd} 9 0\npwrite {fd} 4 0\n1234fstat {fd}\nftruncate {fd} 0\nclose {fd}\n"
            ),
            "-12\n".repeat(5),
        );
    }
}

#[test]
fn w36_who_may_only_write_does_not_read() {
    let place = Place::new();
    place.directory("pub", "address:127.0.0.2 w\n");
    place.write("pub/f", "secret");
    let attack = |server: &Server<'_>, flags: &str| {
        let mut guest = server.guest(2);
        guest.expect("getfile /pub/f\nopen /pub/f r 0\n", "-2\n-2\n");
        guest.answer(format!("open /pub/f {flags} 0\n"));
        guest.send("pread 0 100 0\n");
        guest.counted()
    };
    {
        let theirs = Reference::serve(&place, &[]);
        for flags in ["rc", "ra"] {
            assert_eq!(attack(&theirs, flags), Ok(b"secret".to_vec()), "{flags}");
        }
    }
    let ours = place.serve(&[]);
    for flags in [
        "rc", "ra", "rca", "c", "a", "s", "rw", "wr", "rwc", "rs", "w",
    ] {
        assert_eq!(attack(&ours, flags), Err(-12), "{flags}");
    }
}

#[test]
fn w21_who_is_known_by_an_address_or_a_name_only_gets_nothing_that_was_not_given() {
    // There is no encryption in the protocol; SECURITY.md says where to use it. What a default start
    // trusts is the account that the kernel vouches for, not the network.
    let place = Place::new();
    let server = place.serve(&[]);
    let mut by_address = server.guest(2);
    let mut by_name = server.connect();
    by_name
        .send("hostname\n")
        .read_exactly("yes\nyes\nyes\nhostname\n");
    by_name.line();
    by_address.expect(
        "getdir /\nputfile /f 420 1\nmkdir /d 448\nsetacl / address:127.0.0.2 rl\n",
        "-2\n".repeat(4),
    );
    by_name
        .send("getdir /\nputfile /f 420 1\n")
        .read_exactly("-2\n-2\n");
    let list = fs::read_to_string(place.host(".__acl")).unwrap();
    assert_eq!(list, format!("unix:{} rwlda\n", place.user));
}
