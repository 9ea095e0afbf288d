//! The command line: one file for each command, with its arguments, help and body.

pub(crate) mod boot;
mod carry;
mod demo;
mod events;
mod exec;
mod guests;
mod pull;
mod push;
mod serve;
mod vm;
mod wait;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use beacon::registry::GuestRecord;
use clap::{Args, Parser, Subcommand};

pub(crate) use exec::failure as exec_failure;

use crate::api::client::{ApiClient, Lost, Refusal, no_agent};
use crate::api::socket;
use crate::api::types::{Target, usable};
use crate::config::Config;
use crate::output;
use crate::pattern::BadPattern;

/// Finds guests by their beacons, pushes job files into them, runs programs there with live output, and
/// pulls the results.
#[derive(Debug, Parser)]
#[command(name = "host-agent", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The exit codes of every command, for their help texts.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure; exec, push: on at least one guest
  2  the command line is wrong
  3  no guest matches, or one that does is not ready; vm: no such machine, or its state forbids it
  4  no agent is running (start one with `host-agent serve`), or it went away
  5  wait, vm start --wait: the time is over";

/// What to do. The help of each is the documentation of its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::Arguments),
    Guests(guests::Arguments),
    Wait(wait::Arguments),
    Events(events::Arguments),
    Exec(exec::Arguments),
    Push(push::Arguments),
    Pull(pull::Arguments),
    Vm(vm::Arguments),
    Demo(demo::Arguments),
    #[command(hide = true)]
    Carry(carry::Arguments),
}

impl Command {
    /// Returns the levels of the log where `HOST_AGENT_LOG` does not set them.
    pub(crate) fn log_default(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            _ => "warn",
        }
    }
}

/// Where the agent is: of every command that talks to it.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentArguments {
    /// The agent's settings file, for its Host.api_socket.
    #[arg(long, value_name = "FILE", env = "HOST_AGENT_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The agent's API socket [default: Host.api_socket, else host-agent.sock in $XDG_RUNTIME_DIR, in
    /// /run/user/UID or in /tmp/host-agent-UID]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) socket: Option<PathBuf>,
}

impl AgentArguments {
    /// Returns a client of that agent.
    ///
    /// # Errors
    ///
    /// The settings are wrong, or the socket's directory is not private.
    pub(crate) fn client(&self) -> anyhow::Result<ApiClient> {
        let set = match &self.socket {
            Some(socket) => Some(socket.clone()),
            None => Config::load(self.config.as_deref())?.api_socket,
        };
        Ok(ApiClient::new(socket::path(set)?))
    }
}

/// A guest that a command is for and that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("guest {} is {} and not ready: {}", guest.name, guest.state, guest.why)]
pub(crate) struct NotReady {
    guest: Box<GuestRecord>,
}

/// The agent ended while a command listened to it.
#[derive(Debug, thiserror::Error)]
#[error("the agent has stopped")]
pub(crate) struct Stopped;

/// Asks the agent for the guests that a pattern takes, all of them ready.
///
/// # Errors
///
/// Nobody matches, or one who does is not ready.
async fn ready(client: &ApiClient, pattern: &str) -> anyhow::Result<Vec<Target>> {
    let guests = client.guests(Some(pattern), false).await?.guests;
    match guests.iter().find(|guest| !usable(guest)) {
        Some(guest) => Err(NotReady {
            guest: Box::new(guest.clone()),
        }
        .into()),
        None => Ok(guests.iter().map(Target::from).collect()),
    }
}

/// Runs a command and returns the process's exit code.
pub(crate) async fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Guests(arguments) => guests::run(arguments).await,
        Command::Wait(arguments) => wait::run(arguments).await,
        Command::Events(arguments) => events::run(arguments).await,
        Command::Exec(arguments) => exec::run(arguments).await,
        Command::Push(arguments) => push::run(arguments).await,
        Command::Pull(arguments) => pull::run(arguments).await,
        Command::Vm(arguments) => vm::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Carry(arguments) => carry::run(arguments).await,
    };
    match result {
        Ok(code) => code,
        // What a program ends with that SIGPIPE ends, as a shell sees it.
        // A pipe to the agent that breaks is another matter.
        Err(error) if output::is_broken_pipe(&error) && !error.is::<Lost>() => {
            ExitCode::from(128 + 13)
        }
        Err(error) => {
            output::note(&format!("host-agent: {error:#}"));
            code_of(&error)
        }
    }
}

/// Returns the exit code that [`EXIT_CODES`] promises for an error.
fn code_of(error: &anyhow::Error) -> ExitCode {
    use hyper::StatusCode;

    if no_agent(error) || error.is::<Stopped>() || error.is::<Lost>() {
        return ExitCode::from(4);
    }
    if error.is::<BadPattern>() {
        return ExitCode::from(2);
    }
    if error.is::<NotReady>() {
        return ExitCode::from(3);
    }
    if let Some(error) = error.downcast_ref::<host_agent::hypervisor::Error>() {
        use host_agent::hypervisor::Error as Machine;
        return ExitCode::from(match error {
            Machine::NoSuchMachine { .. }
            | Machine::NoSuchSnapshot { .. }
            | Machine::Ambiguous { .. }
            | Machine::Exists { .. }
            | Machine::WrongState { .. }
            | Machine::Busy { .. } => 3,
            Machine::BadName { .. } | Machine::BadArgument { .. } => 2,
            _ => 1,
        });
    }
    match error
        .downcast_ref::<Refusal>()
        .map(|refusal| refusal.status)
    {
        Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT) => ExitCode::from(3),
        Some(StatusCode::BAD_REQUEST) => ExitCode::from(2),
        Some(StatusCode::SERVICE_UNAVAILABLE) => ExitCode::from(4),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{}: {help}", command.get_name());
        }
    }
}
