//! The controls: `HAProxy` and nginx, configured for the same work as Warmline, each in a process of its own.

use std::{fs, net::SocketAddr, process::Command, sync::Mutex};

use tempfile::TempDir;

use crate::{
    faults::Run,
    history::Account,
    origin::Upstream,
    process::{self, free_port, program},
    proxy::{ATTEMPTS, Proxy},
    support::{
        authority::{self, Authority},
        key_format::KeyFormat,
    },
};

/// A proxy in a process of its own.
struct Control {
    running: Mutex<process::Running>,
    address: SocketAddr,
    _folder: TempDir,
}

impl Control {
    fn start(command: &mut Command, port: u16, folder: TempDir) -> Box<dyn Proxy> {
        let mut running = process::Running::start(command);
        running.wait_for_port(port);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Box::new(Self { running: Mutex::new(running), address, _folder: folder })
    }
}

impl Proxy for Control {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn finish(self: Box<Self>) -> Option<Account> {
        self.running.lock().expect("nothing panics inside").terminate();
        None
    }
}

/// Starts `HAProxy` with `http-reuse always` and its default retries.
pub fn haproxy(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    haproxy_with("", run, upstreams, threads)
}

/// Starts `HAProxy` told to repeat a GET after any failure (`retry-on all-retryable-errors`), but no POST.
pub fn haproxy_retrying(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let more = format!("{}\n  http-request disable-l7-retry if METH_POST", repeat());
    haproxy_with(&more, run, upstreams, threads)
}

/// Starts `HAProxy` told to repeat every request after any failure, POSTs too.
pub fn haproxy_repeating(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    haproxy_with(&repeat(), run, upstreams, threads)
}

fn repeat() -> String {
    format!("retries {}\n  retry-on all-retryable-errors", ATTEMPTS - 1)
}

fn haproxy_with(more: &str, run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let names = upstreams.iter().map(|upstream| upstream.name);
    let uses = names.map(|name| format!("  use_backend {name} if {{ req.hdr(host) -i {name} }}\n"));
    let backends = upstreams.iter().map(|upstream| backend(&folder, upstream, more, run.cap));
    let text = format!(
        "global\n  nbthread {threads}\n  maxconn 1000\n\
         defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 1h\n  \
         timeout server 1h\n  timeout queue 20s\n\
         frontend applications\n  bind 127.0.0.1:{port}\n{}{}",
        uses.collect::<String>(),
        backends.collect::<String>()
    );
    let file = authority::write(folder.path(), "haproxy.cfg", &text);
    let mut command = Command::new(program("haproxy"));
    Control::start(command.args(["-db", "-f"]).arg(file), port, folder)
}

fn backend(folder: &TempDir, upstream: &Upstream, more: &str, cap: usize) -> String {
    let (name, endpoint, files) = (upstream.name, upstream.origin.port(), files(folder, upstream));
    let Files { trust, bundle } = files;
    format!(
        "backend {name}\n  {more}\n  server one 127.0.0.1:{endpoint} ssl verify required \
         ca-file {trust} verifyhost {name} sni str({name}) crt {bundle} pool-max-conn -1 \
         pool-purge-delay 1h maxconn {cap}\n"
    )
}

/// Starts nginx with the pool that its documentation recommends. nginx has no cap with a queue, so none is set.
pub fn nginx(_run: &Run, upstreams: &[Upstream], _threads: usize) -> Box<dyn Proxy> {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let path = folder.path().display().to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {path}/{kind};")).concat();
    let upstreams: String =
        upstreams.iter().map(|upstream| site(&folder, upstream, port)).collect();
    let text = format!(
        "daemon off; master_process off; pid {path}/nginx.pid; error_log stderr crit;
        events {{ worker_connections 2000; }}
        http {{
            access_log off; {temporary} client_max_body_size 0;
            keepalive_requests 1000000000; keepalive_timeout 1h;
            {upstreams}
        }}"
    );
    let file = authority::write(folder.path(), "nginx.conf", &text);
    let mut command = Command::new(program("nginx"));
    command.args(["-e", "stderr", "-p", &path, "-c"]).arg(file);
    Control::start(&mut command, port, folder)
}

fn site(folder: &TempDir, upstream: &Upstream, port: u16) -> String {
    let (name, endpoint, files) = (upstream.name, upstream.origin.port(), files(folder, upstream));
    format!(
        "upstream {name} {{
            server 127.0.0.1:{endpoint};
            keepalive 64; keepalive_requests 1000000000; keepalive_timeout 1h;
        }}
        server {{
            listen 127.0.0.1:{port}; server_name {name};
            location / {{
                proxy_pass https://{name}; proxy_http_version 1.1;
                proxy_set_header Host {name}; proxy_set_header Connection \"\";
                proxy_ssl_certificate {bundle}; proxy_ssl_certificate_key {bundle};
                proxy_ssl_trusted_certificate {trust}; proxy_ssl_verify on;
                proxy_ssl_name {name}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;
            }}
        }}",
        bundle = files.bundle,
        trust = files.trust
    )
}

/// The files' contents that a control is configured with.
struct Files {
    trust: String,
    bundle: String,
}

fn files(folder: &TempDir, upstream: &Upstream) -> Files {
    let write = |name: String, text: &str| {
        fs::write(folder.path().join(&name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let trust = authority::certificates_pem(&[Authority::shared().certificate().clone()]);
    let identity = &upstream.identities[0];
    let bundle = identity.chain_pem() + &identity.key_pem(KeyFormat::Pkcs8);
    let name = upstream.name;
    Files {
        trust: write(format!("{name}-trust.pem"), &trust),
        bundle: write(format!("{name}-bundle.pem"), &bundle),
    }
}
