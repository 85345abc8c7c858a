//! The option `--key-log`: TLS secrets in the format that Wireshark reads (`SSLKEYLOGFILE`), from the command line
//! only.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    mem,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// A file that secrets are appended to.
#[derive(Debug)]
pub struct KeyLogFile(Mutex<Writer>);

#[derive(Debug)]
struct Writer {
    file: File,
    /// True if the last line could not be written: each handshake has several lines, and only the first failure is
    /// logged.
    failing: bool,
}

impl KeyLogFile {
    /// Opens the file to append to, and creates it, readable by its owner alone, if there is none. Fails if the kernel
    /// refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Mutex::new(Writer { file, failing: false })))
    }
}

impl rustls::KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writer.file.write_all(line.as_bytes());
        let failing = mem::replace(&mut writer.failing, written.is_err());
        if let Err(error) = written
            && !failing
        {
            tracing::warn!(%error, "the key log cannot be written: secrets are missing from it until it can be");
        }
    }
}

/// Returns bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
