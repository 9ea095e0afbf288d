//! Lets somebody read a directory for a day: makes a key, registers it as a ticket, and writes the file
//! that whoever has it logs in with (`chirp-client -a ticket -i FILE ...`, or the reference's tools):
//!
//! ```text
//! cargo run -p chirp-client --example share -- guest:9094 /results for-alice.ticket
//! ```

#![expect(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::time::Duration;

use chirp_client::ticket::{TicketFile, TicketKey};
use chirp_client::{Client, ConnectOptions, VirtualPath};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, directory, file] = words.as_slice() else {
        return Err("usage: share HOST[:PORT] DIRECTORY FILE".into());
    };
    let client = Client::connect(ConnectOptions::new(host.parse()?)).await?;
    let directory = VirtualPath::from_decoded(directory.as_bytes()).map_err(|code| code.text())?;
    // Finding primes takes a while and must not hold up the connection.
    let key = tokio::task::spawn_blocking(|| TicketKey::generate(2048)).await??;
    let day = Duration::from_secs(86_400);
    client
        .ticket_register("self", key.public_pem(), day)
        .await?;
    client.ticket_modify(&key.name(), &directory, "rl").await?;
    TicketFile::create(file, key)?;
    println!("{file} reads {directory} for a day");
    Ok(())
}
