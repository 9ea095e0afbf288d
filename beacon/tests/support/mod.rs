//! What the tests share: a broker, and a client that writes raw bytes and reads frames.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of it"
)]

use beacon::broker::{Broker, BrokerConfig, PublisherLost};
use beacon::frame::{Frame, Limits, Version};
use beacon::parse::Decoder;
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker.
pub struct Running {
    pub address: SocketAddr,
    pub lost: mpsc::Receiver<PublisherLost>,
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(config: BrokerConfig) -> Self {
        let mut broker = Broker::bind(config).await.unwrap();
        let address = broker.local_addrs().unwrap()[0];
        let lost = broker.publisher_lost().unwrap();
        let token = CancellationToken::new();
        let task = tokio::spawn(broker.run(token.clone()));
        Self {
            address,
            lost,
            token,
            task,
        }
    }

    pub async fn stop(self) {
        self.token.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("the broker stops")
            .unwrap();
    }
}

/// A client of raw bytes.
pub struct Raw {
    pub stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

impl Raw {
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Opens a connection whose receive buffer is small.
    pub async fn open_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(address).await.unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let limits = Limits {
            headers: 200,
            line: 1 << 20,
            head: 1 << 20,
            body: 1 << 20,
        };
        Self {
            stream,
            decoder: Decoder::new(limits),
            input: BytesMut::new(),
        }
    }

    /// Opens a connection of that version.
    pub async fn connected(address: SocketAddr, version: &str) -> Self {
        Self::connected_with(address, version, "host:x\n").await
    }

    /// Opens a connection of that version with these further header lines.
    pub async fn connected_with(address: SocketAddr, version: &str, headers: &str) -> Self {
        let mut raw = Self::open(address).await;
        raw.send(&format!("CONNECT\naccept-version:{version}\n{headers}\n\0"))
            .await;
        let frame = raw.expect("CONNECTED").await;
        assert_eq!(frame.header("version").unwrap_or("1.0"), version);
        raw.decoder
            .set_version(Version::from_wire(version).unwrap());
        raw
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends each byte by itself.
    pub async fn drip(&mut self, text: &str) {
        for byte in text.as_bytes() {
            self.stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    /// Returns the next frame, or nothing when the broker closed.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            match read.await.expect("the broker answers in time") {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    pub async fn expect(&mut self, command: &str) -> Frame {
        let frame = self.next().await.expect("a frame, not the end");
        assert_eq!(frame.command, command, "{frame:?}");
        frame
    }

    /// Expects an ERROR whose message has these words, and the end of the connection.
    pub async fn expect_refused(&mut self, words: &str) {
        let frame = self.expect("ERROR").await;
        let message = frame.header("message").unwrap();
        assert!(message.contains(words), "{message}");
        assert_eq!(self.next().await, None, "closed after ERROR");
    }

    /// Sends a frame with a receipt and waits for it.
    pub async fn sure(&mut self, head: &str) {
        self.send(&format!("{head}\nreceipt:sure\n\n\0")).await;
        let frame = self.expect("RECEIPT").await;
        assert_eq!(frame.header("receipt-id"), Some("sure"));
    }
}

/// A presence body of a guest.
pub fn beacon(word: &str, number: u8, seq: u64) -> String {
    format!(
        "{word} {{\"id\":\"02:00:00:00:00:{number:02X}\",\"name\":\"g{number}\",\"ip\":\"127.0.0.{number}\",\
         \"port\":9094,\"boot\":\"b\",\"run\":\"r\",\"seq\":{seq},\"interval\":1}}"
    )
}

/// A SEND frame of a presence body.
pub fn send(body: &str) -> String {
    format!(
        "SEND\ndestination:/topic/connections\ncontent-length:{}\n\n{body}\0",
        body.len()
    )
}
