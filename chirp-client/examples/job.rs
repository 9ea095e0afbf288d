//! Sends a directory to a server, runs a program in it and fetches the directory again, over one
//! connection that is made anew when it is lost:
//!
//! ```text
//! cargo run -p chirp-client --example job -- guest:9094 ./input /jobs/17 ./output make -j4
//! ```

#![expect(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::path::Path;

use chirp_client::exec::{Control, Ending, ExecRequest};
use chirp_client::transfer::{self, Placement, TransferOptions};
use chirp_client::{Client, ConnectOptions, VirtualPath};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [host, input, place, output, program, arguments @ ..] = words.as_slice() else {
        return Err("usage: job HOST[:PORT] INPUT PLACE OUTPUT PROGRAM [ARGUMENT...]".into());
    };
    let client = Client::connect(ConnectOptions::new(host.parse()?)).await?;
    let remote = VirtualPath::from_decoded(place.as_bytes()).map_err(|code| code.text())?;
    // The names given are the new ones, whatever is there.
    let options = TransferOptions {
        placement: Placement::Exact,
        ..TransferOptions::default()
    };
    let sent = transfer::put(&client, Path::new(input), &remote, &options).await?;
    println!("{} files, {} bytes sent", sent.files, sent.bytes);

    let mut request = ExecRequest::new(program.as_str());
    request.args = arguments.iter().map(|word| word.as_str().into()).collect();
    request.path = place.as_str().into();
    let (_no_signals, mut control) = tokio::sync::mpsc::channel::<Control>(1);
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let execution = client.exec(&request).await?;
    let ending = execution
        .run(None::<tokio::io::Stdin>, &mut out, &mut err, &mut control)
        .await?;
    if let Ending::Ended(status) = ending {
        println!("{:?}", status.results);
    }

    let fetched = transfer::get(&client, &remote, Path::new(output), &options).await?;
    println!("{} files, {} bytes fetched", fetched.files, fetched.bytes);
    Ok(())
}
