//! One look at a port, as a balancer's check looks. Blocking, with a limit; sends nothing that counts as mail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For a connection, and for each read.
const LIMIT: Duration = Duration::from_secs(2);
/// A check reads no more.
const ANSWER_BYTES_MAX: u64 = 4096;
/// PROXY protocol version 2, LOCAL, no addresses: a balancer's own connection.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// The first line of what a port says after `question`, or why there is none.
pub(super) fn ask(address: SocketAddr, question: &[u8]) -> Result<String, String> {
    let mut stream = connect(address)?;
    stream.write_all(question).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    // What came before an end or a silence is the answer.
    let read = Read::by_ref(&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
    match (read, bytes.is_empty()) {
        (Err(error), true) => Err(error.to_string()),
        (Ok(_), true) => Err("closed without a word".to_owned()),
        (_, false) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// The line with which an SMTP server greets.
pub(super) fn greeting(address: SocketAddr, proxy: bool) -> Result<String, String> {
    let mut stream = connect(address)?;
    if proxy {
        stream.write_all(LOCAL).map_err(|error| error.to_string())?;
    }
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 512 && !line.ends_with(b"\n") {
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.extend(byte),
            Err(error) => return Err(error.to_string()),
        }
    }
    // Politeness; who does not hear it loses nothing.
    stream.write_all(b"QUIT\r\n").ok();
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

/// Only whether somebody takes the connection.
pub(super) fn connects(address: SocketAddr) -> Result<String, String> {
    connect(address).map(|_| "takes connections".to_owned())
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, LIMIT).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
    Ok(stream)
}
