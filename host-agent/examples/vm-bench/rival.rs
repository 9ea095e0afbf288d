//! QEMU's guest agent, over the machine's virtio-serial port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::machine::PATIENCE;

/// Bytes in one message: from 48 KiB to 4 MiB all go equally fast.
const PIECE: usize = 1 << 20;

/// How long the agent of a machine that boots is waited for, each time.
const SOON: Duration = Duration::from_millis(500);

/// A conversation with it; there is one at a time.
pub(crate) struct Rival {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

/// What a program wrote.
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    /// Whether the agent says that there was more.
    pub(crate) cut: bool,
}

impl Rival {
    /// Connects, and finds the place in the stream where answers are ours.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SOON))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut rival = Self { stream, reader };
        let id = std::process::id();
        rival.tell(&json!({"execute": "guest-sync", "arguments": {"id": id}}))?;
        while rival.answer()?.get("return") != Some(&json!(id)) {}
        rival.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(rival)
    }

    /// Runs a program, and asks again and again until it has ended: there is no other way.
    pub(crate) fn exec(&mut self, program: &str, arguments: &[&str]) -> Result<Output> {
        let started = self.ask(
            "guest-exec",
            &json!({"path": program, "arg": arguments, "capture-output": true}),
        )?;
        let pid = started.get("pid").context("no pid")?;
        loop {
            let told = self.ask("guest-exec-status", &json!({"pid": pid}))?;
            if told.get("exited") != Some(&json!(true)) {
                continue;
            }
            ensure!(told.get("exitcode") == Some(&json!(0)), "it ended badly");
            let data = told.get("out-data").and_then(Value::as_str);
            return Ok(Output {
                bytes: STANDARD.decode(data.unwrap_or_default())?,
                cut: told.get("out-truncated") == Some(&json!(true)),
            });
        }
    }

    /// Writes a file.
    pub(crate) fn put(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let handle = self.ask("guest-file-open", &json!({"path": path, "mode": "w"}))?;
        for piece in content.chunks(PIECE) {
            let text = STANDARD.encode(piece);
            let mut sent = self.ask(
                "guest-file-write",
                &json!({"handle": handle, "buf-b64": text}),
            )?;
            ensure!(
                sent.get_mut("count").map(Value::take) == Some(json!(piece.len())),
                "{sent}"
            );
        }
        self.ask("guest-file-close", &json!({"handle": handle}))?;
        Ok(())
    }

    /// Reads a file.
    pub(crate) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let handle = self.ask("guest-file-open", &json!({"path": path, "mode": "r"}))?;
        let mut content = Vec::new();
        loop {
            let piece = self.ask(
                "guest-file-read",
                &json!({"handle": handle, "count": PIECE}),
            )?;
            let data = piece.get("buf-b64").and_then(Value::as_str);
            content.extend(STANDARD.decode(data.context("no content")?)?);
            if piece.get("eof") == Some(&json!(true)) {
                break;
            }
        }
        self.ask("guest-file-close", &json!({"handle": handle}))?;
        Ok(content)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.tell(&json!({"execute": command, "arguments": arguments}))?;
        let mut answer = self.answer()?;
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => bail!("the guest agent answered {answer}"),
        }
    }

    fn tell(&mut self, request: &Value) -> Result<()> {
        Ok(self.stream.write_all(format!("{request}\n").as_bytes())?)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        ensure!(!line.is_empty(), "QEMU closed the port");
        Ok(serde_json::from_str(&line)?)
    }
}
