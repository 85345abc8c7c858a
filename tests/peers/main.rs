//! Warmline before servers that other people wrote: nginx, OpenSSL's `s_server`, socat and Java. Each server tells what it saw
//! of us: how many connections, whose certificate, which sessions resumed, how a connection ended.
//!
//! The programs come from Debian; a program that is missing fails its test with the command that installs it.

mod certificates;
mod clock;
mod curl;
mod java;
mod nginx;
mod openssl;
mod process;
mod sidecar;
mod socat;
