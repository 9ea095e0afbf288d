//! A bare copy over TCP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Result, ensure};

/// Sends a file.
pub(crate) fn put(address: SocketAddr, content: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut order = vec![b'p'];
    order.extend((content.len() as u64).to_le_bytes());
    stream.write_all(&order)?;
    stream.write_all(content)?;
    let mut told = [0; 1];
    stream.read_exact(&mut told)?;
    ensure!(&told == b"!", "the floor answered {told:?}");
    Ok(())
}

/// Receives the file that was sent last.
pub(crate) fn get(address: SocketAddr) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"g")?;
    let mut content = Vec::new();
    stream.read_to_end(&mut content)?;
    Ok(content)
}
