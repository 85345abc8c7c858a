//! A fuzz target that takes any text as a configuration, and any bytes as the files that it names: the result is a plan
//! or errors, never a panic.
//!
//! The first zero byte of the input ends the configuration; the rest is the content of every file.

#![no_main]

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use warmline::{
    config::{self, Context, Files},
    tls::trust::{Trust, TrustError},
};

/// A world in which every file has the same content, and the system's roots are read from it too.
struct World<'a>(&'a [u8]);

impl Files for World<'_> {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.into())
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Trust::from_pem(self.0)
    }
}

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (text, rest) = input.split_at(end);
    let Ok(text) = str::from_utf8(text) else { return };
    let files = World(rest.get(1..).unwrap_or_default());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    let context = Context::new("fuzz", &files, now);
    if let Err(errors) = config::compile(text, &context) {
        assert!(!errors.to_string().is_empty());
        assert!(!errors.findings().is_empty());
    }
});
