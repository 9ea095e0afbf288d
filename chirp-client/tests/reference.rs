//! The library against the reference's server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chirp_client::transfer::{self, Placement, TransferOptions};
use chirp_client::{
    AccessMode, Client, Code, ConnectOptions, Error, HashAlgorithm, Method, OpenFlags, Stride,
    XattrFlags, XattrTarget,
};
use support::{Reference, path};

const RIGHTS: &str = "address:127.0.0.1 rwldpa";

#[tokio::test]
async fn every_request_of_the_protocol_is_understood() {
    let server = Reference::start();
    let client = server.client().await;
    assert_eq!(client.subject().as_str(), "address:127.0.0.1");
    assert_eq!(client.whoami().await.unwrap(), &b"address:127.0.0.1"[..]);

    let (directory, file) = (path("/d"), path("/d/f \u{e9}%"));
    client.mkdir(&directory, 0o700).await.unwrap();
    let mut content: &[u8] = b"hello world";
    client
        .putfile(&file, 0o644, 11, &mut content)
        .await
        .unwrap();
    assert!(server.root().join("d/f \u{e9}%").exists());
    let mut received = Vec::new();
    let body = client.getfile(&file).await.unwrap();
    assert_eq!(body.copy_to(&mut received).await.unwrap(), 11);
    assert_eq!(received, b"hello world");
    assert_eq!(client.stat(&file).await.unwrap().size, 11);
    let md5 = client.hash(HashAlgorithm::Md5, &file).await.unwrap();
    assert_eq!(md5[..4], [0x5e, 0xb6, 0x3b, 0xbb]);
    let sha1 = client.hash(HashAlgorithm::Sha1, &file).await.unwrap();
    assert_eq!(sha1.len(), 20);

    let (fd, stat) = client
        .open(&file, OpenFlags::parse(b"rw"), 0)
        .await
        .unwrap();
    assert_eq!(stat.size, 11);
    assert_eq!(client.pread(fd, 5, 6).await.unwrap(), &b"world"[..]);
    let data = Bytes::from_static(b"W");
    assert_eq!(client.pwrite(fd, data, 6).await.unwrap(), 1);
    let stride = Stride {
        length: 4,
        piece: 1,
        every: 2,
        offset: 0,
    };
    assert_eq!(client.sread(fd, stride).await.unwrap(), &b"hloW"[..]);
    let data = Bytes::from_static(b"HL");
    let stride = Stride {
        length: 0,
        ..stride
    };
    assert_eq!(client.swrite(fd, data, stride).await.unwrap(), 2);
    assert_eq!(client.fstat(fd).await.unwrap().size, 11);
    client.fsync(fd).await.unwrap();
    client.ftruncate(fd, 9).await.unwrap();
    client.fchmod(fd, 0o755).await.unwrap();
    client.fchown(fd, 1, 1).await.unwrap();
    let refused = client.fstatfs(fd).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NotDirectory));
    client.close(fd).await.unwrap();
    let refused = client.close(fd).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::BadDescriptor));
    assert_eq!(
        std::fs::read(server.root().join("d/f \u{e9}%")).unwrap(),
        b"HeLlo Wor"
    );

    let renamed = path("/d/g");
    client.rename(&file, &renamed).await.unwrap();
    client.link(&renamed, &path("/d/h")).await.unwrap();
    client.symlink(b"g", &path("/d/s")).await.unwrap();
    assert_eq!(client.readlink(&path("/d/s")).await.unwrap(), &b"g"[..]);
    assert!(client.lstat(&path("/d/s")).await.unwrap().is_symlink());
    assert!(client.stat(&path("/d/s")).await.unwrap().is_file());
    let execute = AccessMode::new(1).unwrap();
    let refused = client.access(&renamed, execute).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NotAuthorized));
    client.chmod(&renamed, 0o600).await.unwrap();
    client.chown(&renamed, 0, 0).await.unwrap();
    client.lchown(&renamed, 0, 0).await.unwrap();
    client.truncate(&renamed, 3).await.unwrap();
    client.utime(&renamed, 1000, 2000).await.unwrap();
    let stat = client.stat(&renamed).await.unwrap();
    assert_eq!((stat.size, stat.mtime), (3, 2000));
    assert_eq!(client.localpath(&renamed).await.unwrap(), &b"/d/g"[..]);
    assert!(client.statfs(&directory).await.unwrap().blocks > 0);

    let on = XattrTarget::Path(renamed.clone());
    let value = Bytes::from_static(b"v\nw");
    match client
        .setxattr(&on, "user.a", value, XattrFlags::Either)
        .await
    {
        Ok(()) => {
            assert_eq!(client.getxattr(&on, "user.a").await.unwrap(), &b"v\nw"[..]);
            assert_eq!(client.listxattr(&on).await.unwrap(), [&b"user.a"[..]]);
            client.removexattr(&on, "user.a").await.unwrap();
        }
        // The file system below has none.
        Err(error) => assert_eq!(error.code(), Some(Code::NotSupported)),
    }

    let mut names = Vec::new();
    let mut listing = client.getdir(&directory).await.unwrap();
    while let Some(name) = listing.next().await.unwrap() {
        names.push(name);
    }
    names.sort();
    assert_eq!(names, [&b"."[..], b"..", b"g", b"h", b"s"]);
    let entries = client.getlongdir(&directory).await.unwrap();
    assert_eq!(entries.collect().await.unwrap().len(), 3);

    client.setacl(&directory, "unix:bob", "rl").await.unwrap();
    let acl = client.getacl(&directory).await.unwrap();
    assert!(acl.contains(&Bytes::from_static(b"unix:bob rl")), "{acl:?}");
    client.resetacl(&directory, "rwld").await.unwrap();
    assert_eq!(client.getacl(&directory).await.unwrap(), [RIGHTS]);
    client.unlink(&path("/d/h")).await.unwrap();
    let refused = client.rmdir(&directory).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NotEmpty));
    client.rmall(&directory).await.unwrap();
    let refused = client.sha256(&renamed).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidRequest));
    assert!(client.features().await.unwrap().is_none());
    assert!(!client.is_closed());
}

#[tokio::test]
async fn what_cannot_be_said_is_not_sent() {
    let server = Reference::start();
    let client = server.client().await;
    let spaced = client.symlink(b"a b", &path("/l")).await.unwrap_err();
    assert!(matches!(spaced, Error::Argument { .. }), "{spaced}");
    let injected = client.setacl(&path("/"), "unix:a\nrmall /", "rl").await;
    assert!(matches!(injected, Err(Error::Argument { .. })));
    let long = path(&"/\u{e9}".repeat(300));
    let long = client.stat(&long).await.unwrap_err();
    assert!(matches!(long, Error::Argument { .. }), "{long}");
    assert!(client.getdir(&path("/")).await.is_ok());
}

#[tokio::test]
async fn login_methods_are_tried_in_their_order() {
    let server = Reference::start();
    let mut options = ConnectOptions::new(server.address().parse().unwrap());
    for (methods, name) in [
        (vec![Method::Hostname, Method::Address], "hostname"),
        (vec![Method::Ticket, Method::Address], "address"),
        (vec![], "unix"),
    ] {
        options.methods = methods;
        let client = Client::connect(options.clone()).await.unwrap();
        assert_eq!(client.subject().method(), name);
    }
    options.methods = vec![Method::Ticket];
    let error = Client::connect(options).await.err().unwrap();
    assert!(matches!(error, Error::Login { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let started = std::time::Instant::now();
    let error = Client::connect(ConnectOptions::new(address.parse().unwrap()))
        .await
        .err()
        .unwrap();
    assert!(started.elapsed().as_secs() < 5);
    let text = error.to_string();
    assert!(
        text.contains(&address) && text.contains("refused"),
        "{text}"
    );
}

/// Makes a tree with everything that has to survive.
fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("sub/deep/deeper")).unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    std::fs::write(root.join(".dot"), "dot").unwrap();
    std::fs::write(root.join("sub/sp ace"), "").unwrap();
    std::fs::write(root.join("sub/run"), "#!/bin/sh\n").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.join("sub/run"), executable).unwrap();
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(root.join("sub/large"), large).unwrap();
    for number in 0..300 {
        let name = format!("sub/deep/deeper/{number}");
        std::fs::write(root.join(name), format!("{number}\n")).unwrap();
    }
    symlink("../sub/run", root.join("sub/link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"odd\x01\t\xff%41\\'\"~");
    std::fs::write(root.join(odd), "odd").unwrap();
}

/// Says what is in a tree: path, kind, execute bit, content.
fn describe(root: &Path) -> Vec<String> {
    fn visit(root: &Path, below: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = below.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                found.push(format!("{name:?}/"));
                visit(root, &name, found);
            } else if kind.is_symlink() {
                found.push(format!(
                    "{name:?} -> {:?}",
                    entry.path().read_link().unwrap()
                ));
            } else {
                let executable = entry.metadata().unwrap().permissions().mode() & 0o100;
                let content = std::fs::read(entry.path()).unwrap();
                let sum = content.iter().fold(content.len() as u64, |sum, byte| {
                    sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                });
                found.push(format!("{name:?} {executable:o} {sum:x}"));
            }
        }
    }
    let mut found = Vec::new();
    visit(root, Path::new(""), &mut found);
    found.sort();
    found
}

#[tokio::test]
async fn a_tree_goes_there_and_comes_back_as_it_was() {
    let server = Reference::start();
    let client = server.client().await;
    let local = server.outside("local");
    make_tree(&local.join("../local"));
    let seen = Arc::new(AtomicU64::new(0));
    let last = Arc::clone(&seen);
    let options = TransferOptions {
        progress: Some(Arc::new(move |done| {
            last.fetch_max(done.bytes, Ordering::Relaxed);
        })),
        ..TransferOptions::default()
    };
    let put = transfer::put(&client, &local, &path("/"), &options)
        .await
        .unwrap();
    assert_eq!((put.files, put.directories, put.links), (305, 5, 2));
    assert_eq!(seen.load(Ordering::Relaxed), put.bytes);
    let back = server.outside("back");
    let got = transfer::get(&client, &path("/local"), &back, &options)
        .await
        .unwrap();
    assert_eq!(got, put);
    assert_eq!(describe(&back.join("local")), describe(&local));
    // Once more over what is there, in both directions.
    transfer::put(&client, &local, &path("/"), &options)
        .await
        .unwrap();
    transfer::get(&client, &path("/local"), &back, &options)
        .await
        .unwrap();
    assert_eq!(describe(&back.join("local")), describe(&local));
    assert!(!client.is_closed());
}

#[tokio::test]
async fn targets_mean_what_they_mean_to_cp() {
    let server = Reference::start();
    let client = server.client().await;
    let local = server.outside("local");
    std::fs::write(local.join("f"), "x").unwrap();
    client.mkdir(&path("/d"), 0o700).await.unwrap();
    let options = TransferOptions::default();
    let exact = TransferOptions {
        placement: Placement::Exact,
        ..TransferOptions::default()
    };
    for (source, target, options, made) in [
        ("f", "/d", &options, "d/f"),
        ("f", "/g", &options, "g"),
        (".", "/d", &options, "d/f"),
        (".", "/new", &options, "new/f"),
        ("../local", "/d", &options, "d/local/f"),
        ("../local/", "/d/local", &options, "d/local/local/f"),
        ("../local", "/e", &exact, "e/f"),
        ("../local", "/e", &exact, "e/f"),
    ] {
        let (source, target) = (local.join(source), path(target));
        transfer::put(&client, &source, &target, options)
            .await
            .unwrap();
        assert!(server.root().join(made).is_file(), "{made}");
        client.unlink(&path(made)).await.unwrap();
    }
    let mut content: &[u8] = b"x";
    client
        .putfile(&path("/d/f"), 0o600, 1, &mut content)
        .await
        .unwrap();
    for (source, target, made) in [
        ("/d/f", "here", "here"),
        ("/d/f", ".", "f"),
        ("/d", "all", "all/f"),
        ("/d", "all", "all/d/f"),
    ] {
        let target = local.join(target);
        transfer::get(&client, &path(source), &target, &options)
            .await
            .unwrap();

        assert!(local.join(made).is_file(), "{made}");
    }
    let slash = local.join("nothing/");
    let error = transfer::get(&client, &path("/d/f"), &slash, &options).await;
    assert!(error.is_err());
}

#[tokio::test]
async fn entries_that_cannot_be_copied_are_listed_and_the_rest_is_copied() {
    let server = Reference::start();
    let client = server.client().await;
    let local = server.outside("local");
    for name in ["good", "line\nend", ".__acl"] {
        std::fs::write(local.join(name), "x").unwrap();
    }
    symlink("two words", local.join("link")).unwrap();
    let fifo = local.join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let options = TransferOptions::default();
    let error = transfer::put(&client, &local, &path("/"), &options)
        .await
        .unwrap_err();
    let Error::Incomplete(incomplete) = error else {
        panic!("{error}");
    };
    assert_eq!(incomplete.failed, 4, "{:?}", incomplete.failures);
    assert_eq!(incomplete.copied.files, 1);
    assert!(server.root().join("local/good").is_file());
    let mut all = incomplete.failures.iter();
    assert!(all.any(|failure| failure.error.to_string().contains("line end")));
}

#[tokio::test]
async fn files_whose_size_says_nothing_are_read_to_their_end() {
    let server = Reference::start();
    let client = server.client().await;
    let options = TransferOptions::default();
    let cpuinfo = Path::new("/proc/cpuinfo");
    transfer::put(&client, cpuinfo, &path("/c"), &options)
        .await
        .unwrap();
    assert!(std::fs::metadata(server.root().join("c")).unwrap().len() > 0);
    // A pipe that brings more than is kept in memory.
    let fifo = server.outside("local").join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let target = fifo.clone();
    let writer = std::thread::spawn(move || std::fs::write(target, vec![7; 1_000_000]));
    transfer::put(&client, &fifo, &path("/p"), &options)
        .await
        .unwrap();
    writer.join().unwrap().unwrap();
    let stored = std::fs::read(server.root().join("p")).unwrap();
    assert_eq!(stored, vec![7; 1_000_000]);
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_sent_is_sent_to_its_end() {
    let server = Reference::start();
    let client = server.client().await;
    let file = server.outside("local").join("log");
    std::fs::write(&file, vec![1; 1_000_000]).unwrap();
    // The growth happens between measuring and the end: at the first sign of progress.
    let grown = file.clone();
    let once = std::sync::Once::new();
    let options = TransferOptions {
        progress: Some(Arc::new(move |_| {
            once.call_once(|| {
                use std::io::Write;
                let mut file = std::fs::File::options().append(true).open(&grown).unwrap();
                file.write_all(&[2; 500_000]).unwrap();
            });
        })),
        ..TransferOptions::default()
    };
    transfer::put(&client, &file, &path("/log"), &options)
        .await
        .unwrap();
    let stored = std::fs::read(server.root().join("log")).unwrap();
    assert_eq!(stored, std::fs::read(&file).unwrap());
    assert_eq!(stored.len(), 1_500_000);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_an_error() {
    let server = Reference::start();
    let client = server.client().await;
    let file = server.outside("local").join("log");
    std::fs::write(&file, vec![1; 1_000_000]).unwrap();
    let cut = file.clone();
    let options = TransferOptions {
        progress: Some(Arc::new(move |done: transfer::Summary| {
            if done.bytes > 0 {
                let file = std::fs::File::options().write(true).open(&cut).unwrap();
                file.set_len(300_000).unwrap();
            }
        })),
        ..TransferOptions::default()
    };
    let error = transfer::put(&client, &file, &path("/log"), &options)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("shorter"), "{error}");
}

#[tokio::test]
async fn devices_are_written_to_and_not_replaced() {
    let server = Reference::start();
    let client = server.client().await;
    let mut content: &[u8] = b"x";
    client
        .putfile(&path("/f"), 0o600, 1, &mut content)
        .await
        .unwrap();
    let options = TransferOptions::default();
    let device = Path::new("/dev/null");
    transfer::get(&client, &path("/f"), device, &options)
        .await
        .unwrap();
    use std::os::unix::fs::FileTypeExt;
    assert!(device.metadata().unwrap().file_type().is_char_device());
}
