//! Scenes for the reference's other tools, and for a shell script that starts a server.

use anyhow::{Result, ensure};

use crate::matrix::Scene;
use crate::matrix::cell::Mix;
use crate::matrix::play::Play;

type Act = fn(&mut Play<'_>) -> Result<()>;

const fn scene(name: &'static str, servers: usize, act: Act) -> Scene {
    Scene {
        name,
        options: "",
        servers,
        mix: Mix::Apart,
        tools: &[],
        act,
    }
}

/// A scene for a tool that not every set of clients has.
const fn with_tool(
    name: &'static str,
    tools: &'static [&'static str],
    servers: usize,
    act: Act,
) -> Scene {
    Scene {
        tools,
        ..scene(name, servers, act)
    }
}

pub(in crate::matrix) const SCENES: &[Scene] = &[
    scene("chirp-get", 1, get),
    scene("chirp-put", 1, put),
    scene("chirp-put-of-streams", 1, put_of_streams),
    scene("chirp-put-follow", 1, put_follow),
    scene("chirp-stream-files-copy", 3, stream_copy),
    scene("chirp-stream-files-split-and-join", 3, stream_split),
    with_tool("chirp-benchmark", &["chirp_benchmark"], 1, benchmark),
    with_tool("chirp-distribute", &["chirp_distribute"], 3, distribute),
    Scene {
        mix: Mix::Servers,
        ..with_tool(
            "chirp-distribute-across",
            &["chirp_distribute"],
            3,
            distribute,
        )
    },
    with_tool(
        "chirp-distribute-failures",
        &["chirp_distribute"],
        2,
        distribute_failures,
    ),
    scene(
        "shell-script-that-starts-a-server",
        1,
        script_that_starts_a_server,
    ),
    scene("chirp-audit-cluster", 1, audit_cluster),
];

const ACCESS: &str = "-t 5 -a unix";

fn plant(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.shell(
            "mkdir -p t/sub/deep 't/e m p t y'; echo 1 > t/one; : > t/nothing; \
             echo 2 > 't/sub/t w o%'; seq 1 100000 > t/sub/deep/long; ln -s ../one t/sub/link; \
             ln -s none t/broken; chmod 755 t/one; chmod 600 t/nothing",
        )
        .map(drop)
    })
}

fn get(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.tool(&format!("chirp_put {ACCESS} t {{HOST}} /t"))?
        .succeeds()?;
    play.tool(&format!("chirp_get {ACCESS} {{HOST}} /t back"))?
        .succeeds()?;
    play.shell("diff -r t back; cd back; find . -printf '%p %M %s %l\\n' | grep -v ' d' | sort")?;
    play.tool(&format!("chirp_get {ACCESS} {{HOST}} /t/one -"))?
        .succeeds()?;
    play.tool(&format!("chirp_get {ACCESS} {{HOST}} /t -"))?
        .exits(1)?;
    play.tool(&format!("chirp_get {ACCESS} {{HOST}} /none x"))?
        .exits(1)?;
    play.tool(&format!("chirp_get {ACCESS} {{HOST}} /t/one /no/place"))?
        .exits(1)?;
    play.tool("chirp_get -t 5 -a address {HOST} /t/one stolen")?
        .exits(1)?;
    play.tool("chirp_get {HOST} /t/one")?;
    play.tool("chirp_get -v")?;
    Ok(())
}

fn put(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for size in ["", "-b 1", "-b 1000", "-b 1000000"] {
        play.tool(&format!(
            "chirp_put {ACCESS} {size} t/sub/deep/long {{HOST}} /long"
        ))?
        .succeeds()?;
    }
    play.tool(&format!("chirp_put {ACCESS} t {{HOST}} /t"))?
        .succeeds()?;
    play.shell("echo changed > t/one; rm t/sub/link; ln -s x t/sub/link")?;
    play.tool(&format!("chirp_put {ACCESS} t {{HOST}} /t"))?
        .succeeds()?;
    play.tool(&format!("chirp_put {ACCESS} none {{HOST}} /x"))?
        .exits(1)?;
    play.tool(&format!("chirp_put {ACCESS} t/one {{HOST}} /no/place"))?
        .exits(1)?;
    play.tool(&format!("chirp_put {ACCESS} t/one {{HOST}} /t"))?;
    play.tool("chirp_put -t 5 -a address t/one {HOST} /x")?
        .exits(1)?;
    play.tool("chirp_put t/one {HOST}")?;
    // Two names of one file.
    play.shell("mkdir h; echo 1 > h/a; ln h/a h/b")?;
    play.tool(&format!("chirp_put {ACCESS} h {{HOST}} /h"))?
        .succeeds()?;
    play.tool(&format!("chirp {ACCESS} {{HOST}} cat /h/a /h/b"))?
        .succeeds()?;
    play.tool(&format!("chirp {ACCESS} {{HOST}} stat /h/b"))?
        .succeeds()?;
    play.tool(&format!("chirp {ACCESS} {{HOST}} rm /h"))?
        .succeeds()?;
    Ok(())
}

fn put_of_streams(play: &mut Play<'_>) -> Result<()> {
    play.shell(&format!(
        "seq 1 50000 | cat | (exec chirp_put {ACCESS} - {{HOST}} /input)"
    ))?;
    // It opens a pipe twice, so the writer keeps it open until the remote file is there.
    for (size, name) in [("-b 3", "one"), ("", "two")] {
        play.shell(&format!(
            "rm -f pipe; mkfifo pipe; exec 3<>pipe; seq 1 5000 >&3; \
             chirp_put {ACCESS} {size} pipe {{HOST}} /{name} 3>&- & \
             while [ ! -e {{ROOT}}/{name} ]; do kill -0 $! || break; done; exec 3>&-; wait $!"
        ))?
        .succeeds()?;
    }
    play.shell(&format!("chirp_put {ACCESS} /dev/null {{HOST}} /null"))?;
    Ok(())
}

fn put_follow(play: &mut Play<'_>) -> Result<()> {
    // It follows the file for ever. Servers write whole blocks down at once, so that all of these are there
    // before it is ended; what it has not sent by then is lost.
    play.shell(&format!(
        "seq 1 300000 | head -c 1310720 > log; chirp_put -f {ACCESS} log {{HOST}} /log & i=0; \
         while [ $i -lt 3000 ] && ! [ \"$(stat -c %s {{ROOT}}/log 2>/dev/null || echo 0)\" -eq 1310720 ]; \
         do i=$((i+1)); sleep 0.01; done; exec 2>/dev/null; kill $!; wait $!; test $i -lt 3000"
    ))?;
    let length = std::fs::metadata(play.work().join("log"))?.len();
    play.wait_for_bytes(&["log"], length)
}

fn stream_copy(play: &mut Play<'_>) -> Result<()> {
    play.shell("seq 1 30000 > lines; printf 'no line end' >> lines")?;
    let stream = format!("chirp_stream_files {ACCESS}");
    play.tool(&format!(
        "{stream} copy lines {{HOST}} /a {{HOST1}} /b {{HOST2}} /c"
    ))?
    .succeeds()?;
    play.tool(&format!("{stream} copy lines {{HOST}} /no/place"))?
        .exits(1)?;
    play.tool(&format!("{stream} copy none {{HOST}} /a"))?
        .exits(1)?;
    play.tool(&format!("{stream} shuffle lines {{HOST}} /a"))?
        .exits(1)?;
    let length = std::fs::metadata(play.work().join("lines"))?.len();
    play.wait_for_bytes(&["a", "b", "c"], 3 * length)
}

fn stream_split(play: &mut Play<'_>) -> Result<()> {
    play.shell("seq 1 30001 > lines")?;
    let stream = format!("chirp_stream_files {ACCESS}");
    let parts = "{HOST} /a {HOST1} /b {HOST2} /c";
    play.tool(&format!("{stream} split lines {parts}"))?
        .succeeds()?;
    let length = std::fs::metadata(play.work().join("lines"))?.len();
    play.wait_for_bytes(&["a", "b", "c"], length)?;
    play.tool(&format!("{stream} join back {parts}"))?
        .succeeds()?;
    play.shell("cmp lines back")?.succeeds()?;
    play.tool(&format!("{stream} join back {{HOST}} /none"))?
        .exits(1)?;
    Ok(())
}

fn benchmark(play: &mut Play<'_>) -> Result<()> {
    play.tool("chirp_benchmark {HOST} /file 2 2 0")?
        .succeeds()?;
    play.set_variable("CHIRP_SYNC", "1");
    play.tool("chirp_benchmark {HOST} /file 2 2 0")?
        .succeeds()?;
    play.tool("chirp_benchmark {HOST} /file")?;
    Ok(())
}

/// Makes a tree on the first server that the others let it copy to them.
fn plant_to_distribute(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    // The reference adds to the text of a link what its buffer had of an earlier, longer path.
    play.shell("rm t/broken t/sub/link")?;
    for index in 0..play.servers() {
        let host = if index == 0 {
            "{HOST}".to_owned()
        } else {
            format!("{{HOST{index}}}")
        };
        play.tool(&format!("chirp {ACCESS} {host} setacl / hostname:* rwlda"))?
            .succeeds()?;
    }
    play.tool(&format!("chirp {ACCESS} {{HOST}} put t /t"))?
        .succeeds()?;
    play.tool(&format!("chirp {ACCESS} {{HOST}} setacl /t unix:alice rl"))?
        .succeeds()?;
    Ok(())
}

/// Copies from the first server to the others, checks, and removes.
fn distribute(play: &mut Play<'_>) -> Result<()> {
    plant_to_distribute(play)?;
    play.tool(&format!(
        "chirp_distribute {ACCESS} -p 1 -Y {{HOST}} /t {{HOST1}} {{HOST2}}"
    ))?
    .succeeds()?;
    for host in ["{HOST1}", "{HOST2}"] {
        play.tool(&format!("chirp {ACCESS} {host} getacl /t"))?
            .succeeds()?;
        play.tool(&format!("chirp {ACCESS} {host} getacl /t/sub"))?
            .succeeds()?;
        play.tool(&format!("chirp {ACCESS} {host} get /t from{}", &host[1..6]))?
            .succeeds()?;
    }
    play.shell("diff -r t fromHOST1 && diff -r t fromHOST2")?;
    play.trees()?;
    play.tool(&format!(
        "chirp_distribute {ACCESS} -X {{HOST}} /t {{HOST1}}"
    ))?
    .succeeds()?;
    Ok(())
}

fn distribute_failures(play: &mut Play<'_>) -> Result<()> {
    plant_to_distribute(play)?;
    play.tool(&format!("chirp {ACCESS} {{HOST1}} setacl / hostname:* rl"))?
        .succeeds()?;
    play.tool(&format!(
        "chirp_distribute {ACCESS} -F failures -Y {{HOST}} /t {{HOST1}}"
    ))?;
    play.shell("cat failures")?;
    play.tool(&format!(
        "chirp_distribute {ACCESS} -Y {{HOST}} /none {{HOST1}}"
    ))?;
    Ok(())
}

/// As administrators write them. `$SERVER` is `chirp_server`, or ours in its place.
const START_AND_STOP: &str = r#"
set -e
# Not where other servers look for a port at the same time.
export TCP_LOW_PORT=$((20000 + $$ % 10000))
mkdir data
trap '[ -s pid ] && kill $(cat pid) 2>/dev/null' EXIT
$SERVER -r $PWD/data -b -B $PWD/pid -Z $PWD/port -o $PWD/log -d all -a unix -a hostname \
    -I 127.0.0.1 -u - -t 30s -s 1m -M 50 -T 60 -c /tmp -z 5s -F 1MB -O 1MB -n here -w me -U 1m \
    -A $PWD/acl --inherit-default-acl -P unix:nobody -C
i=0
while [ ! -s port ] && [ $i -lt 500 ]; do sleep 0.02; i=$((i+1)); done
host=127.0.0.1:$(cat port)
echo hello > x
chirp -t 5 -a unix $host mkdir /d
chirp -t 5 -a unix $host put x /d/x 2>/dev/null
chirp -t 5 -a unix $host cat /d/x
chirp -t 5 -a unix $host getacl /d
chirp -t 5 -a hostname $host whoami
chirp_get -t 5 -a unix $host /d/x - | cmp - x && echo same
test -s log && echo there is a log
kill -0 $(cat pid) && echo it runs under the pid of the file
kill $(cat pid)
while kill -0 $(cat pid) 2>/dev/null; do sleep 0.02; done
cat data/d/x
rm pid
"#;

fn script_that_starts_a_server(play: &mut Play<'_>) -> Result<()> {
    play.write("acl", b"unix:* rwlda\n")?;
    play.write("start-and-stop", START_AND_STOP.as_bytes())?;
    play.shell("sh start-and-stop")?.succeeds()?;
    // What it says of itself at a wrong start.
    play.shell("$SERVER -r $PWD/no/such/place -p 0 2>/dev/null; echo")?;
    // What it logs is its own affair.
    play.shell("rm log")?.succeeds()?;
    Ok(())
}

/// The tool asks `chirp_status` for the servers and runs `chirp HOST audit -r` on each by `multirun`,
/// which Debian does not ship; one of a few lines stands for it, and a list of one server for the
/// catalog's.
fn audit_cluster(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.tool(&format!("chirp {ACCESS} {{HOST}} put t /t"))?
        .succeeds()?;
    play.write(
        "multirun",
        b"#!/bin/sh\n# multirun -d -p N -f PREFIX -t N COMMAND HOST...\n\
          prefix=$5; command=$8; shift 8\n\
          for host; do sh -c \"$(echo \"$command\" | sed \"s/%s/-a unix $host/\")\" > $prefix.$host; done\n",
    )?;
    let outcome = play.shell(
        "echo 'echo {HOST}' > chirp_status; chmod 755 multirun chirp_status; \
         export PATH=$PWD:$PATH; flock -w 60 /tmp/audit-$(id -u).lock sh -c \
         'chirp_audit_cluster; cat audit.*.txt; rm -r /tmp/audit-$(id -u)'",
    )?;
    let text = String::from_utf8_lossy(&outcome.stdout);
    ensure!(text.contains("unix:"), "no owner in {outcome}");
    Ok(())
}
