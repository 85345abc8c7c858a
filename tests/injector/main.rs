//! `warmline injector` as the API server and kubelet meet it: the program, over real sockets and TLS.

mod certificates;
mod ending;
mod hostile;
mod program;
mod reviews;
