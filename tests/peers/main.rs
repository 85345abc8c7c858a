//! Warmline before servers that others wrote: nginx, OpenSSL's `s_server`, socat and Java. Each server reports what it
//! saw of Warmline: the connections, the client certificate, the resumed sessions, the ends of connections.
//!
//! The programs come from Debian; a missing program fails its test with the command that installs it.

mod certificates;
mod clock;
mod curl;
mod java;
mod nginx;
mod openssl;
mod process;
mod sidecar;
mod socat;
