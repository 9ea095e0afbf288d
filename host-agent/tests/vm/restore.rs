//! What a restore does to a guest's server and to the programs that run there.

use std::sync::{Arc, Mutex};

use chirp_client::exec::{Ending, ExecRequest, Execution, OutputTo, State as Execs, Status};
use chirp_client::{Client, Error, ExecutionName};
use host_agent::hypervisor::State;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::harness::{Machines, wait_for};

/// Says a line ten times a second until it is told to stop, and ends with 7.
const COUNTER: &str =
    "i=0; until [ -e stop ]; do i=$((i+1)); echo line $i; sleep 0.1; done; exit 7";

/// Returns what the counter says as far as this line.
fn lines(last: usize) -> String {
    (1..=last).map(|line| format!("line {line}\n")).collect()
}

/// A host's end of an execution.
struct Attached {
    /// What came since it attached.
    heard: Arc<Mutex<Vec<u8>>>,
    ended: JoinHandle<Result<Ending, Error>>,
}

impl Attached {
    /// Takes part until the end, or until the connection is lost.
    fn to(machines: &Machines, execution: Execution) -> Self {
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (mut out, mut from) = tokio::io::duplex(64 * 1024);
        let copy = Arc::clone(&heard);
        machines.runtime.spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                copy.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        let ended = machines.runtime.spawn(async move {
            let (_open, mut control) = mpsc::channel(1);
            let mut err = tokio::io::sink();
            let nothing = None::<tokio::io::Empty>;
            execution
                .run(nothing, &mut out, &mut err, &mut control)
                .await
        });
        Self { heard, ended }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }

    /// Waits until so many lines have come.
    fn wait_lines(&self, machines: &Machines, count: usize) -> String {
        wait_for(
            &|| {
                format!(
                    "{count} lines; {:?}; {}",
                    self.heard(),
                    machines.told("worker")
                )
            },
            || Some(self.heard()).filter(|heard| heard.matches('\n').count() >= count),
        )
    }

    /// Waits for the end.
    fn end(self, machines: &Machines) -> Result<Ending, Error> {
        let told = || format!("the end of the stream; {}", machines.told("worker"));
        wait_for(&told, || self.ended.is_finished().then_some(()));
        machines.runtime.block_on(self.ended).unwrap()
    }
}

/// Expects the end of a counter that was told to stop.
#[track_caller]
fn was_told_to_stop(end: Result<Ending, Error>) {
    match end {
        Ok(Ending::Ended(status)) => {
            let results = status.results.unwrap();
            assert!(
                results.finished && results.exit_code_or_signal == 7,
                "{results:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

fn status(machines: &Machines, client: &Client, name: &ExecutionName) -> Status {
    machines.runtime.block_on(client.exec_status(name)).unwrap()
}

/// Waits until the guest is ready in another run than those, and not in another boot.
fn wait_new_run(machines: &Machines, before: &[&Value]) -> Value {
    let guest = wait_for(
        &|| format!("a new run; {}", machines.told("worker")),
        || {
            let guest = machines.agent.guest("worker")?;
            let new = before.iter().all(|before| guest["run"] != before["run"]);
            (new && guest["state"] == "ready").then_some(guest)
        },
    );
    assert_eq!(guest["boot"], before[0]["boot"], "it did not boot");
    guest
}

/// Attaches to an execution where its unread output begins.
fn attach(machines: &Machines, name: &ExecutionName) -> (u64, Attached) {
    let client = machines.client("worker");
    let status = status(machines, &client, name);
    assert_eq!(status.state, Execs::Running, "{status:?}");
    let attached = client.exec_attach(name, status.out_from, status.err_from);
    let (status, execution) = machines.runtime.block_on(attached).unwrap();
    (status.out_from, Attached::to(machines, execution))
}

/// Checks that what was heard from an offset on is what the counter says there.
#[track_caller]
fn unbroken(heard: &str, from: u64) {
    let from = usize::try_from(from).unwrap();
    let whole = lines(from + heard.len());
    assert_eq!(heard, &whole[from..from + heard.len()]);
}

#[test]
#[ignore = "starts a machine: make test-vm"]
fn programs_go_on_from_the_snapshot_in_a_new_run_and_what_ended_since_runs_again() {
    let mut machines = Machines::new();
    let woken = machines.wake("worker");
    let run = |arguments: &[&str]| machines.agent.run(arguments).expect(0);
    let client = machines.client("worker");
    let mut request = ExecRequest::new("sh");
    request.args = vec!["-c".into(), COUNTER.into()];
    request.stdout = OutputTo::Stream;
    let execution = machines.runtime.block_on(client.exec(&request)).unwrap();
    let name = ExecutionName::Id(execution.id());
    let first = Attached::to(&machines, execution);
    first.wait_lines(&machines, 3);

    run(&["vm", "snapshot", "worker", "now"]);
    let at_snapshot = first.heard().matches('\n').count();
    first.wait_lines(&machines, at_snapshot + 3);
    assert_eq!(
        machines.agent.guest("worker").unwrap()["run"],
        woken["run"],
        "a snapshot is no restore"
    );
    machines.exec("worker", "touch stop").expect(0);
    was_told_to_stop(first.end(&machines));

    // It has not ended, as far as the guest is concerned, and says so.
    run(&["vm", "restore", "worker", "now"]);
    let restored = wait_new_run(&machines, &[&woken]);
    let (from, second) = attach(&machines, &name);
    let heard = second.wait_lines(&machines, at_snapshot + 5);
    unbroken(&heard, from);

    // Again, with somebody attached: the connection is lost at once, and the same snapshot is another run.
    run(&["vm", "restore", "worker"]);
    let lost = second.end(&machines).unwrap_err();
    assert!(matches!(lost, Error::Lost { .. }), "{lost:?}");
    wait_new_run(&machines, &[&woken, &restored]);
    let (from, third) = attach(&machines, &name);
    third.wait_lines(&machines, 5);
    let now = machines.agent.guest("worker").unwrap();

    // Off and on: everything is as it was, but for the run.
    run(&["vm", "save", "worker"]);
    assert_eq!(machines.state("worker"), State::Saved);
    let lost = third.end(&machines).unwrap_err();
    assert!(matches!(lost, Error::Lost { .. }), "{lost:?}");
    run(&["vm", "start", "worker"]);
    wait_new_run(&machines, &[&woken, &restored, &now]);
    let (again, fourth) = attach(&machines, &name);
    assert!(
        again >= from,
        "what was acknowledged stays so: {again} {from}"
    );
    let so_far = fourth.wait_lines(&machines, 5);
    machines.exec("worker", "touch stop").expect(0);
    let heard = Arc::clone(&fourth.heard);
    was_told_to_stop(fourth.end(&machines));
    let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
    assert!(heard.starts_with(&so_far));
    unbroken(&heard, again);
}
