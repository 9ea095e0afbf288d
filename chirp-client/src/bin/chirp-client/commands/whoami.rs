use chirp_client::Client;
use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::json::{self, Json, Text};
use crate::output;

/// Prints who the server takes this client for: the subject that rights are given to.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client -a address guest whoami")]
pub(crate) struct Whoami {
    #[command(flatten)]
    json: Json,
}

/// Prints who the server itself is to another server.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest whoareyou other.example.org:9094")]
pub(crate) struct Whoareyou {
    #[command(flatten)]
    json: Json,
    /// The other server, as the server can reach it.
    #[arg(value_name = "HOST[:PORT]")]
    other: String,
}

#[derive(Serialize)]
struct Identity<'a> {
    /// METHOD:NAME.
    subject: Text<'a>,
}

impl Whoami {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        print(&client.whoami().await?, self.json)
    }
}

impl Whoareyou {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        print(&client.whoareyou(&self.other).await?, self.json)
    }
}

fn print(subject: &[u8], json: Json) -> Result<(), Failure> {
    if json.wanted {
        let subject = subject.into();
        return json::print(&Identity { subject });
    }
    output::write(&[&output::name(subject)[..], b"\n"].concat())
}
