//! A scene for each command of `chirp`'s help, named after it: what works, and what does not.

use anyhow::{Result, ensure};

use crate::matrix::Scene;
use crate::matrix::cell::Mix;
use crate::matrix::play::Play;

type Act = fn(&mut Play<'_>) -> Result<()>;

const fn scene(name: &'static str, act: Act) -> Scene {
    with_options(name, "", act)
}

const fn with_options(name: &'static str, options: &'static str, act: Act) -> Scene {
    Scene {
        name,
        options,
        servers: 1,
        mix: Mix::Apart,
        tools: &[],
        act,
    }
}

const fn with_two(name: &'static str, act: Act) -> Scene {
    Scene {
        servers: 2,
        ..scene(name, act)
    }
}

pub(in crate::matrix) const SCENES: &[Scene] = &[
    scene("audit", audit),
    scene("cat", cat),
    scene("cd", cd),
    scene("chmod", chmod),
    scene("close", close),
    scene("debug", debug),
    scene("df", df),
    scene("exit", exit),
    scene("get", get),
    scene("getacl", getacl),
    scene("hash", hash),
    scene("help", help),
    with_options("job_commit", JOBS, job_commit),
    with_options("job_create", JOBS, job_create),
    with_options("job_kill", JOBS, job_kill),
    with_options("job_reap", JOBS, job_reap),
    with_options("job_status", JOBS, job_status),
    with_options("job_wait", JOBS, job_wait),
    scene("lcd", lcd),
    scene("listacl", listacl),
    scene("ln", ln),
    scene("localpath", localpath),
    scene("lpwd", lpwd),
    scene("ls", ls),
    with_options("lsalloc", "-Q 10MB", lsalloc),
    with_two("matrix_create", matrix),
    with_two("matrix_delete", matrix),
    with_two("matrix_list", matrix),
    scene("md5", md5),
    with_options("mkalloc", "-Q 10MB", mkalloc),
    scene("mkdir", mkdir),
    scene("mv", mv),
    with_two("open", open),
    scene("put", put),
    scene("pwd", pwd),
    scene("quit", quit),
    with_options("remote_debug", "-P unix:nobody", remote_debug),
    scene("resetacl", resetacl),
    scene("rm", rm),
    scene("rmdir", rmdir),
    scene("search", search),
    scene("setacl", setacl),
    scene("setrep", setrep),
    scene("stat", stat),
    with_two("thirdput", thirdput),
    scene("ticket_create", ticket_create),
    scene("ticket_delete", ticket_delete),
    scene("ticket_get", ticket_get),
    scene("ticket_list", ticket_list),
    scene("ticket_modify", ticket_modify),
    scene("ticket_register", ticket_register),
    scene("timeout", timeout),
    scene("whoami", whoami),
    with_two("whoareyou", whoareyou),
    scene("xattr_get", xattr),
    scene("xattr_list", xattr),
    scene("xattr_set", xattr),
    scene("unknown-command", unknown_command),
    scene("wrong-number-of-words", wrong_number_of_words),
    scene("whole-session", whole_session),
    scene("session-that-fails", session_that_fails),
];

/// The scenes of jobs are about what the requests answer; what runs is `/bin/true` and the like.
const JOBS: &str = "--jobs";

/// Makes `/d` with two files, a directory and a link.
fn plant(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.write("a", b"hello\n")?;
        play.write("b", b"some more\n")?;
        play.script("mkdir /d\nmkdir /d/sub\nput a /d/a\nput b /d/sub/b\nln -s a /d/link\n")?;
        play.holds("d/a", b"hello\n")?;
        play.holds("d/sub/b", b"some more\n")
    })
}

fn audit(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("mkdir /other")?.succeeds()?;
    play.chirp("resetacl /other rwlda")?.succeeds()?;
    play.chirp("put b '/other/b b'")?.succeeds()?;
    play.chirp("audit")?.succeeds()?;
    play.sort();
    play.chirp("audit -r")?.succeeds()?;
    play.sort();
    play.chirp_with(&["-a", "address"], "audit -r")?.exits(1)?;
    Ok(())
}

fn cat(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("cat /d/a")?.succeeds()?;
    play.chirp("cat /d/a /d/none /d/link")?;
    play.chirp("cat /d")?;
    Ok(())
}

fn cd(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("cd /d")?.succeeds()?;
    play.chirp("cd /d/none")?.exits(1)?;
    play.chirp("cd /d/a")?;
    play.script("cd /d\ncat a\ncd sub\npwd\ncat b\ncd ..\npwd\ncd ../../..\npwd\n")?
        .succeeds()?;
    Ok(())
}

fn chmod(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for mode in ["755", "600", "0", "7777"] {
        play.chirp(&format!("chmod {mode} /d/a"))?.succeeds()?;
        play.chirp("stat /d/a")?;
    }
    play.chirp("chmod 777 /d/sub")?;
    play.chirp("chmod 700 /none")?.exits(1)?;
    Ok(())
}

fn close(play: &mut Play<'_>) -> Result<()> {
    play.chirp("close")?;
    play.script("close\nwhoami\n")?;
    play.script("close\nopen {HOST}\nwhoami\n")?;
    Ok(())
}

fn debug(play: &mut Play<'_>) -> Result<()> {
    play.chirp("debug clear")?;
    play.chirp("debug nonsense")?;
    Ok(())
}

fn df(play: &mut Play<'_>) -> Result<()> {
    for unit in ["", "-k", "-m", "-g", "-t", "-x"] {
        play.chirp(&format!("df {unit}"))?;
    }
    Ok(())
}

fn exit(play: &mut Play<'_>) -> Result<()> {
    play.chirp("exit")?;
    play.script("whoami\nexit\nwhoami\n")?.succeeds()?;
    Ok(())
}

fn get(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("get /d/a copy")?.succeeds()?;
    play.chirp("get /d tree")?.succeeds()?;
    play.shell("cat copy; cd tree; find . | sort; cat a sub/b; readlink link")?;
    play.chirp("get /none nothing")?.exits(1)?;
    play.chirp("get /d/a /no/such/place")?.exits(1)?;
    play.chirp_with(&["-a", "address"], "get /d/a stolen")?
        .exits(1)?;
    Ok(())
}

fn getacl(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("setacl /d unix:alice rl")?;
    for path in ["", "/d", "/d/sub", "/d/a", "/none"] {
        play.chirp(&format!("getacl {path}"))?;
    }
    play.chirp_with(&["-a", "address"], "getacl /d")?;
    Ok(())
}

fn hash(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for words in [
        "md5 /d/a",
        "sha1 /d/a",
        "sha256 /d/a",
        "sha1 /d",
        "sha1 /none",
    ] {
        play.chirp(&format!("hash {words}"))?;
    }
    Ok(())
}

fn help(play: &mut Play<'_>) -> Result<()> {
    play.chirp("help")?.succeeds()?;
    Ok(())
}

const TRUE: &str = r#"'{"executable":"/bin/true","arguments":["true"],"files":[]}'"#;

/// Ours asks for the right to execute, which a new tree's owner has there with `--jobs` (W6).
fn let_run(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| play.chirp("setacl / unix:{USER} rwldax").map(drop))
}

/// Has a job carried out and waits for its end.
fn run(play: &mut Play<'_>, description: &str) -> Result<()> {
    let_run(play)?;
    play.chirp(&format!("job_create {description}"))?
        .succeeds()?;
    play.chirp("job_commit [1]")?.succeeds()?;
    play.chirp("job_wait 1 20")?.succeeds()?;
    Ok(())
}

fn job_create(play: &mut Play<'_>) -> Result<()> {
    let_run(play)?;
    for description in [
        TRUE,
        r#"'{"executable":"/bin/sh","arguments":["sh","-c","exit 3"],"environment":{"A":"b"},"files":[],"tag":"t"}'"#,
        "'{}'",
        "'[]'",
        "nonsense",
        r#"'{"executable":7,"arguments":[],"files":[]}'"#,
        r#"'{"executable":"x","arguments":[],"files":[{"type":"INPUT","serv_path":"/none/x","task_path":"x"}]}'"#,
    ] {
        play.chirp(&format!("job_create {description}"))?;
    }
    play.chirp("job_status [1,2]")?;
    Ok(())
}

fn job_commit(play: &mut Play<'_>) -> Result<()> {
    run(play, TRUE)?;
    play.chirp("job_commit [1]")?;
    play.chirp("job_commit [77]")?;
    play.chirp("job_commit nonsense")?;
    play.chirp("job_commit []")?;
    Ok(())
}

fn job_kill(play: &mut Play<'_>) -> Result<()> {
    let_run(play)?;
    play.chirp(&format!("job_create {TRUE}"))?.succeeds()?;
    play.chirp("job_kill [1]")?.succeeds()?;
    play.chirp("job_status [1]")?;
    play.chirp("job_kill [1]")?;
    play.chirp("job_kill [99]")?;
    Ok(())
}

fn job_reap(play: &mut Play<'_>) -> Result<()> {
    run(play, TRUE)?;
    play.chirp("job_reap [1]")?;
    play.chirp("job_wait 1 0")?;
    play.chirp("job_status [1]")?;
    play.chirp("job_reap [99]")?;
    Ok(())
}

fn job_status(play: &mut Play<'_>) -> Result<()> {
    play.write("in", b"input\n")?;
    play.chirp("put in /in")?;
    run(
        play,
        r#"'{"executable":"/bin/sh","arguments":["sh","-c","cat one two > result && exit 4"],"files":[{"type":"INPUT","serv_path":"/in","task_path":"one","binding":"COPY"},{"type":"INPUT","serv_path":"/in","task_path":"two","binding":"LINK"},{"type":"OUTPUT","serv_path":"/out.%j","task_path":"result","binding":"COPY"}]}'"#,
    )?;
    play.chirp("job_status [1]")?;
    play.chirp("cat /out.1")?;
    // The reference makes executable what a job was given and what it made.
    play.shell("chmod 600 {ROOT}/in {ROOT}/out.1")?.succeeds()?;
    play.chirp("job_status []")?;
    play.chirp("job_status [5]")?;
    Ok(())
}

fn job_wait(play: &mut Play<'_>) -> Result<()> {
    play.chirp("job_wait 0 0")?;
    run(play, TRUE)?;
    play.chirp("job_wait 0 0")?;
    play.chirp("job_wait 9 0")?;
    play.chirp("job_wait -1 0")?;
    Ok(())
}

fn lcd(play: &mut Play<'_>) -> Result<()> {
    play.chirp("lcd /")?;
    play.chirp("lcd /none")?;
    play.script("lcd /usr\nlpwd\n")?;
    Ok(())
}

fn listacl(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for path in ["", "/d", "/d/a", "/none"] {
        play.chirp(&format!("listacl {path}"))?;
    }
    Ok(())
}

fn ln(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("ln /d/a /d/hard")?.succeeds()?;
    play.chirp("ln -s /d/sub /d/way")?.succeeds()?;
    play.chirp("cat /d/way/b")?;
    play.chirp("ln /d/a /d/hard")?.exits(1)?;
    play.chirp("ln /d/none /d/x")?.exits(1)?;
    play.chirp("ln -s a /d/link")?.exits(1)?;
    play.chirp("ln /d /d2")?;
    Ok(())
}

fn localpath(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for path in ["", "/d", "/d/../d/a", "/none", "/d/link"] {
        play.chirp(&format!("localpath {path}"))?;
    }
    Ok(())
}

fn lpwd(play: &mut Play<'_>) -> Result<()> {
    play.chirp("lpwd")?.succeeds()?;
    Ok(())
}

fn ls(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("put a '/d/sp ace'")?;
    play.chirp("put a /d/.hidden")?;
    for words in [
        "/d", "-a /d", "-l /d", "-la /d", "", "/d/sub", "/d/a", "/none", "-x /d",
    ] {
        play.chirp(&format!("ls {words}"))?;
        play.sort();
    }
    Ok(())
}

fn lsalloc(play: &mut Play<'_>) -> Result<()> {
    play.chirp("mkdir /d")?;
    play.chirp("lsalloc /d")?.succeeds()?;
    play.chirp("mkalloc /d/a 100000")?.succeeds()?;
    play.chirp("lsalloc /d/a")?.succeeds()?;
    play.chirp("lsalloc /none")?;
    Ok(())
}

fn mkalloc(play: &mut Play<'_>) -> Result<()> {
    play.write("a", &[b'x'; 5000])?;
    play.chirp("mkdir /d")?;
    play.chirp("mkalloc /d/a 20K")?.succeeds()?;
    play.chirp("put a /d/a/x")?.succeeds()?;
    play.chirp("lsalloc /d/a")?.succeeds()?;
    play.chirp("mkalloc /d/a/b 4K")?;
    play.chirp("put a /d/a/b/x")?;
    // The reference leaves an empty file of what it refused (W26).
    play.shell("rm -f {ROOT}/d/a/b/x")?;
    play.chirp("mkalloc /d/a 20K")?;
    play.chirp("mkalloc /d/big 900M")?;
    play.chirp("getacl /d/a")?;
    Ok(())
}

/// The lists of hosts come from a file, and the parts of the matrix lie on them.
fn matrix(play: &mut Play<'_>) -> Result<()> {
    let hosts = format!("{}\n{}\n", play.address(0)?, play.address(1)?);
    play.write("hosts", hosts.as_bytes())?;
    let path = play.work().join("hosts").to_string_lossy().into_owned();
    play.set_variable("CHIRP_HOSTS", &path);
    play.chirp("matrix_create /m 4 4 2")?.succeeds()?;
    play.chirp("matrix_list /m")?.succeeds()?;
    play.chirp("matrix_list /none")?;
    play.chirp("matrix_delete /m")?.succeeds()?;
    play.chirp("matrix_list /m")?;
    Ok(())
}

fn md5(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for path in ["/d/a", "/d/link", "/d", "/none"] {
        play.chirp(&format!("md5 {path}"))?;
    }
    Ok(())
}

fn mkdir(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("mkdir /d")?.succeeds()?;
    play.chirp("mkdir /d/a")?;
    play.chirp("mkdir /none/d")?.exits(1)?;
    play.chirp("mkdir -p /p/q/r")?.succeeds()?;
    play.chirp("mkdir -p /p/q/r")?.succeeds()?;
    play.chirp_with(&["-a", "address"], "mkdir /mine")?
        .exits(1)?;
    Ok(())
}

fn mv(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("mv /d/a /d/c")?.succeeds()?;
    play.chirp("mv /d/sub /moved")?.succeeds()?;
    play.chirp("mv /d/c /moved/b")?.succeeds()?;
    play.chirp("mv /none /x")?.exits(1)?;
    play.chirp("mv /d /d/below")?.exits(1)?;
    play.chirp("mv /d /moved")?;
    play.chirp("mv / /x")?;
    Ok(())
}

fn open(play: &mut Play<'_>) -> Result<()> {
    play.chirp("open {HOST1}")?;
    play.script("mkdir /one\nopen {HOST1}\nmkdir /two\npwd\nls /\n")?;
    Ok(())
}

fn put(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.shell(
        "mkdir -p t/u; echo 1 > t/one; echo 2 > 't/u/t w o'; ln -s one t/l; chmod 755 t/one",
    )?;
    play.chirp("put t /t")?.succeeds()?;
    play.chirp("put t /t")?.succeeds()?;
    play.chirp("put b /d/a")?.succeeds()?;
    play.chirp("put a /d/sub")?;
    play.chirp("put none /x")?.exits(1)?;
    play.chirp("put a /none/x")?.exits(1)?;
    play.chirp_with(&["-a", "address"], "put a /x")?.exits(1)?;
    play.script("mkdir /e\ncd /e\nput a\nls\n")?.succeeds()?;
    Ok(())
}

fn pwd(play: &mut Play<'_>) -> Result<()> {
    play.chirp("pwd")?.succeeds()?;
    Ok(())
}

fn quit(play: &mut Play<'_>) -> Result<()> {
    play.chirp("quit")?;
    play.script("whoami\nquit\nwhoami\n")?.succeeds()?;
    Ok(())
}

fn remote_debug(play: &mut Play<'_>) -> Result<()> {
    // The scene's options make this user the superuser, wherever it runs as `nobody`.
    play.chirp("remote_debug chirp")?;
    play.chirp_with(&["-a", "address"], "remote_debug all")?
        .exits(1)?;
    Ok(())
}

fn resetacl(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("setacl /d unix:alice rl")?;
    play.chirp("resetacl /d rwld")?.succeeds()?;
    play.chirp("getacl /d")?;
    play.chirp("resetacl /d read")?;
    play.chirp("getacl /d")?;
    play.chirp("resetacl /none rl")?.exits(1)?;
    play.chirp("resetacl /d/a rl")?.exits(1)?;
    Ok(())
}

fn rm(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("rm /d/a")?.succeeds()?;
    play.chirp("rm /d/a")?.exits(1)?;
    play.chirp("rm /d/link")?.succeeds()?;
    play.chirp_with(&["-a", "address"], "rm /d")?.exits(1)?;
    play.chirp("rm /d")?.succeeds()?;
    Ok(())
}

fn rmdir(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("rmdir /d")?.exits(1)?;
    play.chirp("rmdir /d/a")?.exits(1)?;
    play.chirp("rm /d/sub/b")?;
    play.chirp("rmdir /d/sub")?.succeeds()?;
    play.chirp("rmdir /none")?.exits(1)?;
    Ok(())
}

fn search(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("put a /d/sub/a")?;
    for words in [
        "/ a",
        "-i /d a",
        "/d sub",
        "-m /d a",
        "-s /d/sub b",
        "/d /a",
        "/ *",
        "/none a",
        "/d/a a",
        "/d a|b",
        "/d sub/*",
    ] {
        play.chirp(&format!("search {words}"))?;
        play.sort();
    }
    play.chirp_with(&["-a", "address"], "search / a")?;
    Ok(())
}

fn setacl(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for words in [
        "/d unix:alice read",
        "/d unix:alice write",
        "/d unix:alice admin",
        "/d unix:alice reserve",
        "/d unix:* rl",
        "/d hostname:*.org v(rwl)",
        "/d unix:alice none",
        "/d unix:bob rqZx",
        "/d/a unix:alice rl",
        "/none unix:alice rl",
        "/ address:127.0.0.1 rl",
    ] {
        play.chirp(&format!("setacl {words}"))?;
        play.chirp("getacl /d")?;
    }
    play.chirp_with(&["-a", "address"], "setacl / address:127.0.0.1 rwlda")?
        .exits(1)?;
    play.chirp_with(&["-a", "address"], "ls /")?.succeeds()?;
    Ok(())
}

fn setrep(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("setrep /d/a 2")?.exits(1)?;
    play.chirp("setrep /none 2")?.exits(1)?;
    Ok(())
}

fn stat(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for path in ["/d/a", "/d/link", "/none", "/d/a/x", "/d/a/"] {
        play.chirp(&format!("stat {path}"))?;
    }
    Ok(())
}

fn thirdput(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    let host = "{HOST1}";
    let open_up = format!("chirp -t 5 -a unix {host} setacl / hostname:* rwlda");
    play.tool(&open_up)?.succeeds()?;
    play.chirp("setacl /d unix:alice rl")?;
    play.chirp(&format!("thirdput /d/a {host} /copy"))?
        .succeeds()?;
    play.chirp(&format!("thirdput /d {host} /tree"))?
        .succeeds()?;
    play.chirp(&format!("thirdput /none {host} /x"))?.exits(1)?;
    play.chirp(&format!("thirdput /d/a {host} /none/x"))?
        .exits(1)?;
    play.chirp_with(&["-a", "address"], &format!("thirdput /d/a {host} /x"))?
        .exits(1)?;
    ensure!(
        play.root(1)?.join("tree/sub/b").is_file(),
        "no tree was copied"
    );
    Ok(())
}

fn ticket_create(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp(
        "ticket_create -output t -subject unix:{USER} -duration 3600 -bits 1024 / rl /d rwl",
    )?
    .succeeds()?;
    play.shell("grep -v '^[A-Za-z0-9+/=]*$' t")?;
    play.chirp("ticket_create -o u / rl /d")?;
    play.chirp("ticket_create -o v /d x")?;
    let ticket = ["-a", "ticket", "-i", "t"];
    play.chirp_with(&ticket, "whoami")?.succeeds()?;
    play.chirp_with(&ticket, "cat /d/a")?.succeeds()?;
    play.chirp_with(&ticket, "put a /d/new")?.succeeds()?;
    play.chirp_with(&ticket, "put a /new")?.exits(1)?;
    play.chirp_with(&ticket, "setacl /d unix:alice rl")?
        .exits(1)?;
    Ok(())
}

fn ticket_delete(play: &mut Play<'_>) -> Result<()> {
    play.chirp("ticket_create -o t / rl")?.succeeds()?;
    play.chirp("ticket_delete t")?.succeeds()?;
    play.shell("test -e t")?;
    play.chirp("ticket_list self")?;
    play.chirp("ticket_delete ticket:00000000000000000000000000000000")?
        .exits(1)?;
    play.chirp("ticket_delete nonsense")?.exits(1)?;
    Ok(())
}

fn ticket_get(play: &mut Play<'_>) -> Result<()> {
    play.chirp("mkdir /d")?;
    play.chirp("ticket_create -o t -d 86000 / rl /d rw")?
        .succeeds()?;
    play.chirp("ticket_get t")?.succeeds()?;
    play.chirp("ticket_get ticket:00000000000000000000000000000000")?
        .exits(1)?;
    play.chirp_with(&["-a", "address"], "ticket_get t")?
        .exits(1)?;
    Ok(())
}

fn ticket_list(play: &mut Play<'_>) -> Result<()> {
    play.chirp("ticket_list self")?.succeeds()?;
    play.chirp("ticket_create -o t / rl")?.succeeds()?;
    play.chirp("ticket_list self")?.succeeds()?;
    play.chirp("ticket_list unix:{USER}")?.succeeds()?;
    play.chirp("ticket_list unix:somebody-else")?;
    play.chirp_with(&["-a", "address"], "ticket_list self")?;
    Ok(())
}

fn ticket_modify(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("ticket_create -o t / rl")?.succeeds()?;
    let ticket = ["-a", "ticket", "-i", "t"];
    play.chirp_with(&ticket, "put a /d/new")?.exits(1)?;
    play.chirp("ticket_modify t /d rwl")?.succeeds()?;
    play.chirp_with(&ticket, "put a /d/new")?.succeeds()?;
    play.chirp("ticket_modify t / n")?;
    play.chirp_with(&ticket, "ls /")?;
    play.chirp("ticket_modify t /d x")?;
    play.chirp("ticket_modify t /none rl")?;
    Ok(())
}

fn ticket_register(play: &mut Play<'_>) -> Result<()> {
    play.shell("openssl genrsa -out key 1024 2>/dev/null")?
        .succeeds()?;
    play.chirp("ticket_register key self 3600")?;
    play.chirp("ticket_register key 3600")?;
    play.chirp("ticket_register key unix:somebody-else 3600")?;
    play.chirp("ticket_register none 3600")?;
    play.chirp("ticket_modify key / rl")?;
    play.chirp_with(&["-a", "ticket", "-i", "key"], "whoami")?;
    play.chirp_with(&["-a", "ticket", "-i", "key"], "ls /")?;
    Ok(())
}

fn timeout(play: &mut Play<'_>) -> Result<()> {
    play.chirp("timeout 7")?;
    play.chirp("timeout")?;
    Ok(())
}

fn whoami(play: &mut Play<'_>) -> Result<()> {
    play.chirp("whoami")?.succeeds()?;
    for method in ["hostname", "address"] {
        play.chirp_with(&["-a", method], "whoami")?.succeeds()?;
    }
    play.chirp_with(&[], "whoami")?.succeeds()?;
    play.chirp_with(&["-a", "ticket"], "whoami")?.exits(1)?;
    play.chirp_with(&["-a", "ticket", "-a", "hostname"], "whoami")?
        .succeeds()?;
    Ok(())
}

fn whoareyou(play: &mut Play<'_>) -> Result<()> {
    play.chirp("whoareyou {HOST1}")?.succeeds()?;
    play.chirp("whoareyou {HOST}")?.succeeds()?;
    Ok(())
}

fn xattr(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("xattr_set /d/a user.one first")?.succeeds()?;
    play.chirp("xattr_set /d/a user.two second")?.succeeds()?;
    play.chirp("xattr_list /d/a")?.succeeds()?;
    play.sort();
    play.chirp("xattr_get /d/a user.one")?.succeeds()?;
    play.chirp("xattr_set /d/a user.one changed")?.succeeds()?;
    play.chirp("xattr_get /d/a user.one")?;
    play.chirp("xattr_set /d/a user.one")?.succeeds()?;
    play.chirp("xattr_list /d/a")?;
    play.chirp("xattr_set /d/a trusted.x y")?.exits(1)?;
    play.chirp("xattr_get /none user.one")?.exits(1)?;
    play.chirp_with(&["-a", "address"], "xattr_get /d/a user.two")?
        .exits(1)?;
    Ok(())
}

fn unknown_command(play: &mut Play<'_>) -> Result<()> {
    play.chirp("frobnicate /d")?.exits(1)?;
    Ok(())
}

fn wrong_number_of_words(play: &mut Play<'_>) -> Result<()> {
    for line in ["stat", "mv /a", "put", "setacl /d", "whoami too many"] {
        play.chirp(line)?;
    }
    Ok(())
}

fn whole_session(play: &mut Play<'_>) -> Result<()> {
    play.write("a", b"hello\n")?;
    play.script(
        "# a comment\nmkdir /p; cd /p; put a 'sp ace'\n\nls\ncat \"sp ace\"\nmkdir q\nmv 'sp ace' q/b\n\
         cd q\nstat b\nchmod 700 b\nln -s b c\nmd5 b\nsetacl . unix:alice rl\ngetacl\nget b back\n\
         cat c\nrm c\nls\nlocalpath b\ncd ..\nrm q\nls -a\nwhoami\n",
    )?
    .succeeds()?;
    Ok(())
}

fn session_that_fails(play: &mut Play<'_>) -> Result<()> {
    play.script("mkdir /p\nls /none\nmkdir /q\n")?.exits(1)?;
    play.script("ls /none; mkdir /r\nmkdir /s\n")?;
    play.script("")?;
    Ok(())
}
