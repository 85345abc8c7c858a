//! The program under test: `warmline run` with one upstream.

use std::{
    fmt::Write as _,
    fs,
    process::{Command, ExitStatus},
};

use crate::{
    certificates::{Certificates, Pair, SERVER_NAME},
    curl,
    process::{Running, free_port},
};

/// A running sidecar.
pub(crate) struct Sidecar {
    running: Running,
    port: u16,
    metrics: u16,
}

impl Sidecar {
    /// Starts a sidecar before the server at `endpoint`, a loopback port. `pool` is the content of the pool's block, as
    /// in `idleTimeout: 100ms`.
    pub(crate) fn start(
        certificates: &Certificates,
        endpoint: u16,
        identity: Option<&Pair>,
        pool: &str,
    ) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_warmline"));
        Self::start_with(command, certificates, endpoint, identity, &format!("pool: {{ {pool} }}"))
    }

    /// Starts a sidecar by this command, to which the arguments are added; `settings` are further keys of the upstream.
    pub(crate) fn start_with(
        mut command: Command,
        certificates: &Certificates,
        endpoint: u16,
        identity: Option<&Pair>,
        settings: &str,
    ) -> Self {
        let (port, metrics) = (free_port(), free_port());
        let file = certificates.folder().join(format!("warmline-{port}.yaml"));
        let upstream = upstream(certificates, endpoint, identity, settings);
        let configuration = format!("{}{upstream}", process(port, metrics));
        fs::write(&file, configuration).expect("the temporary folder can be written to");
        let mut running = Running::start(command.arg("run").arg("--config").arg(file));
        running.wait_for_port(port);
        Self { running, port, metrics }
    }

    /// Sends one request over a new client connection.
    pub(crate) fn get(&self, path: &str) -> curl::Answer {
        curl::get(self.port, path)
    }

    /// Returns the sum of a counter's series whose labels include `label`, written `name="value"`; `""` takes all
    /// series.
    pub(crate) fn counter(&self, name: &str, label: &str) -> u64 {
        let page = curl::get(self.metrics, "/metrics").body;
        page.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| line.contains(label))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum()
    }

    /// Returns the value of a metric without labels.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        self.counter(name, "")
    }

    /// Returns the traffic port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for a log line that contains `text`.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        self.running.line_with(text)
    }

    /// Asks the sidecar to end, as Kubernetes does, and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.running.terminate()
    }

    /// Returns the log so far.
    pub(crate) fn log(&mut self) -> String {
        self.running.told()
    }
}

fn process(port: u16, metrics: u16) -> String {
    let admin = free_port();
    format!(
        "log: {{ format: text, level: info, access: all }}\n\
         metrics: {{ bind: [\"127.0.0.1:{metrics}\"] }}\n\
         admin: {{ bind: [\"127.0.0.1:{admin}\"] }}\n\
         listeners:\n  - bind: [\"127.0.0.1:{port}\"]\n"
    )
}

fn upstream(
    certificates: &Certificates,
    endpoint: u16,
    identity: Option<&Pair>,
    settings: &str,
) -> String {
    let trust = certificates.trust();
    let mut text = format!(
        "upstreams:\n  - name: peer\n    hosts: [\"*\"]\n    endpoints: [\"127.0.0.1:{endpoint}\"]\n    \
         {settings}\n    tls:\n      serverName: {SERVER_NAME}\n      trust: {}\n",
        trust.display()
    );
    if let Some(Pair { certificate, key }) = identity {
        let (certificate, key) = (certificate.display(), key.display());
        let line = format!("      identity: {{ certificate: {certificate}, key: {key} }}\n");
        text.write_str(&line).expect("a string can be written to");
    }
    text
}
