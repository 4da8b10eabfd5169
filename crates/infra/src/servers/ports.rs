//! Chooses each server's port and keeps it over restarts of the same folder. Never holds a port itself.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;

use super::{ServerError, files};

/// Below Linux' range for outgoing connections (32768 and up): there, while the server is down, any
/// connection of this machine could take the port, and a client that retries could even connect to itself.
const PRIVATE: Range<u16> = 20_000..32_000;

/// How many random ports are tried before the system is asked for any.
const GUESSES: usize = 64;

/// The port kept in `file` if it is free now, else a new one.
pub(super) fn choose(file: &Path) -> Result<u16, ServerError> {
    let kept = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    match kept {
        Some(port) if is_free(port) => Ok(port),
        _ => any(),
    }
}

/// A port that nothing listens on now.
pub(super) fn any() -> Result<u16, ServerError> {
    let random = random_bytes::<{ GUESSES * 2 }>()?;
    let guess = random
        .chunks_exact(2)
        .map(|pair| PRIVATE.start + u16::from_le_bytes([pair[0], pair[1]]) % (PRIVATE.end - PRIVATE.start))
        .find(|port| is_free(*port));
    match guess {
        Some(port) => Ok(port),
        None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| address.port())
            .map_err(files("find a free port on", Path::new("127.0.0.1"))),
    }
}

/// Writes down the port a server came up on.
pub(super) fn keep(file: &Path, port: u16) -> Result<(), ServerError> {
    std::fs::write(file, format!("{port}\n")).map_err(files("write", file))
}

/// `N` bytes fit for a password.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], ServerError> {
    use std::io::Read;
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    std::fs::File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(files("read", source))?;
    Ok(bytes)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
