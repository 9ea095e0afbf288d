//! Many executions, one after the other and at once, with outputs of sizes at which buffers, frames and
//! windows end: no byte is missing and none hangs.

use std::sync::Arc;
use std::time::Duration;

use chirp_client::exec::{Control, Ending, ExecRequest, StdinFrom};
use chirp_client::{Client, ConnectOptions, Method};
use chirp_proto::request::ExecutionName;
use tokio::sync::mpsc;

use crate::common::{Place, Server};

/// Longer than any one of these executions takes on a loaded machine.
const HANG: Duration = Duration::from_secs(60);

/// The largest power of two around which sizes lie.
const LARGEST: usize = 1 << 20;

/// What both outputs are taken from: no part of it looks like another.
fn content(seed: u32) -> Vec<u8> {
    let words = (0..=LARGEST / 4).map(|word| (word as u32).wrapping_mul(2_654_435_761) ^ seed);
    words.flat_map(u32::to_le_bytes).collect()
}

/// Each size around each power of two.
fn sizes() -> Vec<usize> {
    let powers = (0..=20).map(|power| 1_usize << power);
    let mut all: Vec<usize> = powers.flat_map(|size| [size - 1, size, size + 1]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is asked of one execution.
#[derive(Clone, Copy, Debug)]
struct Case {
    out: usize,
    err: usize,
    stdin: bool,
}

/// The case of this number: after all of them they begin again.
fn case(number: usize) -> Case {
    let sizes = sizes();
    let pick = |index: usize| sizes[index % sizes.len()];
    Case {
        out: pick(number),
        // Another size with each round, so that the two differ.
        err: pick(sizes.len() - 1 - number % sizes.len() + number / sizes.len()),
        stdin: (number / 3).is_multiple_of(2),
    }
}

/// The two contents, and who may run programs on them.
struct World {
    place: Place,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl World {
    fn new() -> Arc<Self> {
        let place = Place::new();
        let list = format!("unix:{} rwldax\naddress:127.0.0.1 rwldax\n", place.user);
        place.write(".__acl", list);
        let (out, err) = (content(0), content(0x5a5a_5a5a));
        place.write("out", &out);
        place.write("err", &err);
        Arc::new(Self { place, out, err })
    }

    /// Runs one and compares every byte.
    async fn check(&self, client: &Client, case: Case) {
        let run = tokio::time::timeout(HANG, self.run(client, case)).await;
        run.unwrap_or_else(|_| panic!("{case:?} hangs"));
    }

    async fn run(&self, client: &Client, case: Case) {
        let Case { out, err, stdin } = case;
        let mut request = ExecRequest::new("sh");
        let source = if stdin {
            "cat".to_owned()
        } else {
            format!("head -c {out} out")
        };
        let script = format!("head -c {err} err >&2 & {source}; wait; exit 3");
        request.args = vec!["-c".into(), script.into()];
        let input = stdin.then(|| &self.out[..out]);
        if stdin {
            request.stdin = StdinFrom::Stream;
        }
        let execution = client.exec(&request).await.unwrap();
        let id = execution.id();
        let (mut received_out, mut received_err) = (Vec::new(), Vec::new());
        let (sender, mut control) = mpsc::channel::<Control>(1);
        drop(sender);
        let ending = execution
            .run(input, &mut received_out, &mut received_err, &mut control)
            .await
            .unwrap();
        let Ending::Ended(status) = ending else {
            panic!("{case:?}: detached");
        };
        let results = status.results.unwrap();
        assert!(
            results.finished && results.exit_code_or_signal == 3,
            "{case:?}"
        );
        assert!(received_out == self.out[..out], "{case:?}: out");
        assert!(received_err == self.err[..err], "{case:?}: err");
        assert_eq!(results.out_bytes, out as u64);
        assert_eq!(status.stdin_received, if stdin { out as u64 } else { 0 });
        client.exec_remove(&ExecutionName::Id(id)).await.unwrap();
    }
}

async fn connect(server: &Server<'_>) -> Client {
    let address = format!("127.0.0.1:{}", server.port);
    let mut options = ConnectOptions::new(address.parse().unwrap());
    options.methods = vec![Method::Address];
    Client::connect(options).await.unwrap()
}

/// Runs `in_a_row` on one connection and then `at_once` on one each.
fn volume(in_a_row: usize, at_once: usize) {
    let world = World::new();
    let server = world.place.serve(&["--exec"]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect(&server).await;
        for number in 0..in_a_row {
            world.check(&client, case(number)).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..at_once {
            let (world, client) = (Arc::clone(&world), connect(&server).await);
            tasks.spawn(async move { world.check(&client, case(number)).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        // Nothing of them is left.
        assert!(client.exec_list().await.unwrap().is_empty());
    });
}

#[test]
fn each_size_around_each_power_of_two_arrives_whole() {
    volume(126, 60);
}

#[test]
#[ignore = "takes minutes; `make test-full` runs it"]
fn ten_thousand_in_a_row_and_two_hundred_at_once() {
    volume(10_000, 200);
}
