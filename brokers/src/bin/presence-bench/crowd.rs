//! Many guests' connections to one broker, and one that listens to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use beacon::Credentials;
use beacon::frame::{Frame, Limits, Version};
use beacon::parse::Decoder;
use brokers::Broker;
use brokers::broker::{agent_account, guest_account};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Connections under way at once.
const AT_ONCE: usize = 64;
/// How long a broker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One open connection.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    decoder: Decoder,
    input: bytes::BytesMut,
}

impl Connection {
    /// Connects with an account, in 1.1, which all brokers speak.
    pub(crate) async fn open(address: SocketAddr, account: &Credentials) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V1_1);
        let mut connection = Self {
            stream,
            decoder,
            input: bytes::BytesMut::new(),
        };
        let connect = format!(
            "CONNECT\naccept-version:1.1\nhost:/\nlogin:{}\npasscode:{}\n\n\0",
            account.login, account.passcode
        );
        connection.stream.write_all(connect.as_bytes()).await?;
        connection.expect("CONNECTED").await?;
        Ok(connection)
    }

    async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input)? {
                return Ok(frame);
            }
            self.input.reserve(64 * 1024);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the broker closed the connection");
            }
        }
    }

    async fn expect(&mut self, command: &str) -> Result<()> {
        let frame = tokio::time::timeout(PATIENCE, self.next()).await;
        let frame = frame.with_context(|| format!("no {command}"))??;
        if frame.command != command {
            bail!("not {command}: {frame:?}");
        }
        Ok(())
    }
}

/// Opens so many guests' connections, some at once; returns them and how long that took.
pub(crate) async fn join(broker: &Broker, guests: usize) -> Result<(Vec<Connection>, Duration)> {
    let start = Instant::now();
    let (address, mut coming) = (broker.address(), JoinSet::new());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for _ in 0..guests {
        let places = Arc::clone(&places);
        coming.spawn(async move {
            let _place = places.acquire().await?;
            Connection::open(address, &guest_account()).await
        });
    }
    let mut connections = Vec::with_capacity(guests);
    while let Some(connection) = coming.join_next().await {
        connections.push(connection?.with_context(|| format!("a guest of {}", broker.kind()))?);
    }
    Ok((connections, start.elapsed()))
}

/// One that counts all presence messages, and gives a permit back for each.
pub(crate) struct Listener {
    pub(crate) heard: Arc<AtomicU64>,
    task: JoinHandle<Result<()>>,
}

impl Listener {
    pub(crate) async fn start(broker: &Broker, window: Arc<Semaphore>) -> Result<Self> {
        let mut connection = Connection::open(broker.address(), &agent_account()).await?;
        let subscribe =
            "SUBSCRIBE\nid:1\ndestination:/topic/connections\nack:auto\nreceipt:1\n\n\0";
        connection.stream.write_all(subscribe.as_bytes()).await?;
        connection.expect("RECEIPT").await?;
        let heard = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            loop {
                let frame = connection.next().await?;
                if frame.command != "MESSAGE" {
                    bail!("not MESSAGE: {frame:?}");
                }
                count.fetch_add(1, Ordering::Relaxed);
                window.add_permits(1);
            }
        });
        Ok(Self { heard, task })
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ends listening.
    ///
    /// # Errors
    ///
    /// It had ended by itself, for this reason.
    pub(crate) async fn stop(self) -> Result<()> {
        if self.task.is_finished() {
            return self.task.await?;
        }
        self.task.abort();
        Ok(())
    }
}

/// Returns the beacon of one guest as a SEND frame, of the size that real ones have.
pub(crate) fn beat(guest: usize, seq: u64) -> Vec<u8> {
    let [.., b, c, d] = guest.to_be_bytes();
    let body = format!(
        "STILL_ALIVE {{\"v\":1,\"id\":\"02:00:01:{b:02X}:{c:02X}:{d:02X}\",\"name\":\"worker-{guest}\",\
         \"ip\":\"10.{b}.{c}.{d}\",\"port\":9094,\"boot\":\"2b1c7f54-4a0e-4dd1-9d0a-1f2e3d4c5b6a\",\
         \"run\":\"9f0e8d7c-6b5a-4c3d-8e2f-1a0b9c8d7e6f\",\"seq\":{seq},\"interval\":10,\
         \"ver\":\"chirp-server 0.1.0\",\"caps\":{{\"exec\":1,\"sha256\":1}},\"load\":0.25,\"free\":12345678901}}"
    );
    format!(
        "SEND\ndestination:/topic/connections\ncontent-type:text/plain;charset=utf-8\ncontent-length:{}\n\n{body}\0",
        body.len()
    )
    .into_bytes()
}
