//! Our server, through the client's library, over one connection that stays open.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use chirp_client::exec::Ending;
use chirp_client::transfer::{TransferOptions, put};
use chirp_client::{Client, ConnectOptions, ExecutionName, VirtualPath};
use exec_ext::request::ExecRequest;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How long the server of a machine that boots is waited for, each time.
const SOON: Duration = Duration::from_secs(2);

/// A connection.
pub(crate) struct Ours {
    runtime: Runtime,
    client: Client,
}

impl Ours {
    /// Connects and logs in.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let runtime = Runtime::new()?;
        let mut options = ConnectOptions::new(address.to_string().parse()?);
        options.methods = vec![chirp_client::Method::Address];
        options.connect_timeout = SOON;
        let client = runtime.block_on(Client::connect(options))?;
        Ok(Self { runtime, client })
    }

    /// Runs a program; returns what it wrote, and the execution's number.
    pub(crate) fn exec(&self, program: &str, arguments: &[&str]) -> Result<(Vec<u8>, u64)> {
        let mut request = ExecRequest::new(program);
        request.args = arguments.iter().map(Into::into).collect();
        self.runtime.block_on(async {
            let execution = self.client.exec(&request).await?;
            let id = execution.id();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let (_, mut control) = mpsc::channel(1);
            let ending = execution
                .run(None::<tokio::io::Empty>, &mut out, &mut err, &mut control)
                .await?;
            let Ending::Ended(status) = ending else {
                bail!("somebody else took the program over");
            };
            let results = status.results.context("no results")?;
            ensure!(
                results.finished && results.exit_code_or_signal == 0,
                "{program} ended badly: {}",
                String::from_utf8_lossy(&err)
            );
            Ok((out, id))
        })
    }

    /// Makes the server forget an execution, as the guest agent does by itself.
    pub(crate) fn forget(&self, id: u64) -> Result<()> {
        let name = ExecutionName::Id(id);
        Ok(self.runtime.block_on(self.client.exec_remove(&name))?)
    }

    /// Writes a file.
    pub(crate) fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let (path, length, mut content) = (virtual_path(path)?, content.len() as u64, content);
        let sent = self.client.putfile(&path, 0o644, length, &mut content);
        Ok(self.runtime.block_on(sent)?)
    }

    /// Reads a file.
    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>> {
        let path = virtual_path(path)?;
        self.runtime.block_on(async {
            let mut content = Vec::new();
            let body = self.client.getfile(&path).await?;
            body.copy_to(&mut content).await?;
            Ok(content)
        })
    }

    /// Sends a tree.
    pub(crate) fn put_tree(&self, tree: &Path, path: &str) -> Result<()> {
        let path = virtual_path(path)?;
        let options = TransferOptions::default();
        self.runtime
            .block_on(put(&self.client, tree, &path, &options))?;
        Ok(())
    }

    /// Removes a file or tree.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        let path = virtual_path(path)?;
        Ok(self.runtime.block_on(self.client.rmall(&path))?)
    }
}

fn virtual_path(path: &str) -> Result<VirtualPath> {
    match VirtualPath::from_decoded(path.as_bytes()) {
        Ok(path) => Ok(path),
        Err(code) => bail!("{path}: {}", code.text()),
    }
}
