//! What a bare copy over TCP costs in a guest: the floor of `make bench-vm`, and nothing else's.
//!
//! At port 9095, for each connection: `p` and a length of 8 bytes, the lowest first, and so many bytes, which go into
//! a file and are answered with one byte; or `g`, which is answered with that file.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const FILE: &str = "/srv/floor";

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 9095))?;
    let mut buffer = vec![0; 256 * 1024];
    for stream in listener.incoming() {
        if let Err(error) = stream.and_then(|stream| serve(stream, &mut buffer)) {
            eprintln!("floor: {error}");
        }
    }
    Ok(())
}

fn serve(mut stream: TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut order = [0; 1];
    stream.read_exact(&mut order)?;
    if &order == b"g" {
        // Between these two the standard library has the kernel move the bytes.
        return io::copy(&mut File::open(FILE)?, &mut stream).map(drop);
    }
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let mut left = u64::from_le_bytes(length);
    let mut file = File::create(FILE)?;
    while left > 0 {
        let read = stream.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&buffer[..read])?;
        left = left.saturating_sub(read as u64);
    }
    stream.write_all(b"!")
}
