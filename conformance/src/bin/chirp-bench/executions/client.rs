//! An execution as its client sees it: a request, frames, acknowledgements.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};
use conformance::connection::PATIENCE;
use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;

/// Bytes of output after which they are acknowledged: half of the server's window.
const ACK_EVERY: u64 = 512 * 1024;

/// A connection that runs programs, one after the other.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    line: String,
    scratch: Vec<u8>,
}

impl Client {
    /// Connects from `127.0.0.number` and logs in by address.
    pub(crate) fn open(address: SocketAddr, number: u8) -> Result<Self> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        let local = SocketAddr::from((Ipv4Addr::new(127, 0, 0, number), 0));
        rustix::net::bind(&socket, &local)?;
        rustix::net::connect(&socket, &address)?;
        let writer = TcpStream::from(socket);
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(10 * PATIENCE))?;
        writer.set_write_timeout(Some(PATIENCE))?;
        let mut client = Self {
            reader: BufReader::with_capacity(1 << 16, writer.try_clone()?),
            writer,
            line: String::new(),
            scratch: vec![0; 1 << 16],
        };
        client.writer.write_all(b"address\n")?;
        for _ in 0..5 {
            client.next_line()?;
        }
        Ok(client)
    }

    /// Starts a program and returns its number.
    pub(crate) fn start(&mut self, request: &Value) -> Result<u64> {
        let body = request.to_string();
        let text = format!("exec {}\n{body}", body.len());
        self.writer.write_all(text.as_bytes())?;
        let line = self.next_line()?;
        let number = line.parse();
        number.with_context(|| format!("exec was answered \"{line}\""))
    }

    /// Reads frames to the end, leaves stream mode, and returns how many bytes of output came.
    pub(crate) fn finish(&mut self) -> Result<u64> {
        let (mut received, mut acknowledged) = (0, 0);
        loop {
            let (word, length) = self.frame()?;
            match word.as_str() {
                "out" => received += length,
                "end" => {
                    self.writer.write_all(b"done\n")?;
                    return Ok(received);
                }
                _ => {}
            }
            if received - acknowledged >= ACK_EVERY {
                acknowledged = received;
                self.writer
                    .write_all(format!("ack {received} 0\n").as_bytes())?;
            }
        }
    }

    /// Tells the server that this end of the stream is there: after half a minute of silence it would be
    /// taken for lost.
    pub(crate) fn keep_alive(&mut self) -> Result<()> {
        Ok(self.writer.write_all(b"alive\n")?)
    }

    /// Lets the server forget an ended execution.
    pub(crate) fn remove(&mut self, id: u64) -> Result<()> {
        self.writer
            .write_all(format!("exec_remove {id}\n").as_bytes())?;
        let line = self.next_line()?;
        ensure!(line == "0", "exec_remove was answered \"{line}\"");
        Ok(())
    }

    /// Reads a frame and throws its payload away. Returns its word and the payload's length.
    fn frame(&mut self) -> Result<(String, u64)> {
        let line = self.next_line()?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let length = match word {
            "out" | "err" | "end" | "usage" => rest.parse().context("no length")?,
            "at" | "alive" | "credit" => 0,
            _ => bail!("a stream said \"{line}\""),
        };
        let mut left = length;
        while left > 0 {
            let room = self.scratch.len().min(usize::try_from(left)?);
            let chunk = self.scratch.get_mut(..room).unwrap_or_default();
            self.reader.read_exact(chunk)?;
            left -= room as u64;
        }
        Ok((word.to_owned(), length))
    }

    fn next_line(&mut self) -> Result<String> {
        self.line.clear();
        let count = self.reader.read_line(&mut self.line).context("no reply")?;
        ensure!(count > 0, "the server closed the connection");
        Ok(self.line.trim_end().to_owned())
    }
}
