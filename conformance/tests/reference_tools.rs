//! Lets the clients of both implementations work against the servers of both.
//!
//! Each case has a server and a directory of its own. The reference's clients run against the
//! reference's server too, which proves the cases themselves: `reference-client::on-reference::NAME`.

use std::process::ExitCode;

use conformance::program::{Maker, Program};
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "tools/ours.rs"]
mod ours;
#[path = "tools/reference.rs"]
mod reference;
#[path = "tools/stage.rs"]
mod stage;

use stage::Stage;

/// A case: its name, and what happens on its stage.
type Journey = (&'static str, fn(&Stage) -> anyhow::Result<()>);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for server in Maker::ALL {
        add(&mut trials, Maker::Reference, server, reference::JOURNEYS);
        add(&mut trials, Maker::Ours, server, ours::JOURNEYS);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn add(trials: &mut Vec<Trial>, client: Maker, server: Maker, journeys: &[Journey]) {
    let prefix = format!("{}-client::on-{}", client.name(), server.name());
    // A missing program is one failure, not one for each case.
    if let Err(error) = Program::server(server).and_then(|_| stage::client(client)) {
        trials.push(Trial::test(
            format!("{prefix}::programs-are-there"),
            move || Err(Failed::from(format!("{error:#}"))),
        ));
        return;
    }
    for (name, journey) in journeys {
        let journey = *journey;
        trials.push(Trial::test(format!("{prefix}::{name}"), move || {
            Stage::set(client, server)
                .and_then(|stage| journey(&stage))
                .map_err(|error| Failed::from(format!("{error:#}")))
        }));
    }
}
