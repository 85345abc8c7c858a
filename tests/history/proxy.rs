//! What carries the load: Warmline inside this process, and as controls HAProxy and nginx, configured for the same work.

use std::{fs, net::SocketAddr, process::Command, sync::Mutex, time::Instant};

use tempfile::TempDir;
use warmline::pool::Pool;

use crate::{
    faults::Run,
    history::Account,
    origin::Upstream,
    process::{self, free_port, program},
    support::{
        authority::{self, Authority},
        key_format::KeyFormat,
        running::Running,
        setup::Setup,
        wait_for,
    },
};

/// Something that carries requests to the upstreams.
pub trait Proxy: Sync {
    /// Where clients connect.
    fn address(&self) -> SocketAddr;

    /// Looks at its connections; called again and again while the load runs.
    fn look(&self) {}

    /// Ends it; answers its own account, if it keeps one.
    fn finish(self: Box<Self>) -> Option<Account>;
}

/// How to start one before these upstreams.
pub type Start = fn(&Run, &[Upstream], threads: usize) -> Box<dyn Proxy>;

/// Requests are sent at most so often: more than the default, so that a GET whose first attempt met an idle close, and
/// whose others were all reset, is too rare to be seen. The logs could not tell it from a lost one.
pub const ATTEMPTS: usize = 6;

struct Warmline {
    running: Running,
    upstreams: Vec<&'static str>,
    most: Mutex<usize>,
}

/// Warmline, its numbers as users get them but for the cap and [`ATTEMPTS`].
pub fn warmline(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let start = Setup::new().set_global("threads", threads);
    let setup = upstreams.iter().fold(start, |setup, upstream| {
        let endpoint = format!("127.0.0.1:{}", upstream.origin.port());
        let name = upstream.name.replace('.', "-");
        let setup = setup.upstream_at(&name, &endpoint).identity(&upstream.identity);
        let setup = setup.set("hosts", vec![upstream.name]).set("tls.serverName", upstream.name);
        setup.set("pool.maxConnections", run.cap).set("retries.max", ATTEMPTS - 1)
    });
    let upstreams = upstreams.iter().map(|upstream| upstream.name).collect();
    Box::new(Warmline { running: setup.start(), upstreams, most: Mutex::default() })
}

impl Proxy for Warmline {
    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    fn look(&self) {
        let totals = self.names().map(|name| self.running.pool(&name).census.total());
        let mut most = self.most.lock().expect("nothing panics inside");
        *most = totals.fold(*most, usize::max);
    }

    fn finish(self: Box<Self>) -> Option<Account> {
        let requests = self.running.metric("warmline_requests_total", &[]);
        let upstreams: Vec<_> = self.names().map(|name| self.running.upstream(&name)).collect();
        let pools = || upstreams.iter().map(|upstream| upstream.pool());
        let dialling = |pool: &Pool<_, _>| pool.snapshot(Instant::now()).census.connecting > 0;
        // A dial whose waiter was served otherwise is counted once it is done; the drain would break it off.
        wait_for("the last dial's end", || !pools().any(|pool| dialling(pool)));
        self.running.shutdown();
        self.running.join();
        let left = pools().map(|pool| pool.snapshot(Instant::now()));
        let left = left.map(|pool| pool.census.total() + pool.queued).sum();
        let opened = pools().map(|pool| pool.counters().opened.get()).collect();
        let most = self.most.into_inner().expect("nothing panics inside");
        Some(Account { most, left, opened, requests })
    }
}

impl Warmline {
    fn names(&self) -> impl Iterator<Item = String> {
        self.upstreams.iter().map(|name| name.replace('.', "-"))
    }
}

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

/// HAProxy with `http-reuse always`, and retries as it has them by default.
pub fn haproxy(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    haproxy_with("", run, upstreams, threads)
}

/// HAProxy told to repeat a GET whatever came of it, as one must ask it to.
pub fn haproxy_retrying(run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let retries = ATTEMPTS - 1;
    let retries = format!(
        "retries {retries}\n  retry-on all-retryable-errors\n  \
         http-request disable-l7-retry if METH_POST"
    );
    haproxy_with(&retries, run, upstreams, threads)
}

fn haproxy_with(more: &str, run: &Run, upstreams: &[Upstream], threads: usize) -> Box<dyn Proxy> {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut text = format!(
        "global\n  nbthread {threads}\n  maxconn 1000\n\
         defaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  timeout client 1h\n  \
         timeout server 1h\n  timeout queue 20s\n\
         frontend applications\n  bind 127.0.0.1:{port}\n"
    );
    for upstream in upstreams {
        let name = upstream.name;
        text += &format!("  use_backend {name} if {{ req.hdr(host) -i {name} }}\n");
    }
    for upstream in upstreams {
        let (name, endpoint, files) =
            (upstream.name, upstream.origin.port(), files(&folder, upstream));
        text += &format!(
            "backend {name}\n  {more}\n  server one 127.0.0.1:{endpoint} ssl verify required \
             ca-file {} verifyhost {name} sni str({name}) crt {} pool-max-conn -1 \
             pool-purge-delay 1h maxconn {}\n",
            files.trust, files.bundle, run.cap
        );
    }
    let file = authority::write(folder.path(), "haproxy.cfg", &text);
    let mut command = Command::new(program("haproxy"));
    Control::start(command.args(["-db", "-f"]).arg(file), port, folder)
}

/// nginx with the pool that its documentation recommends. It has no cap that queues: none is set.
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

/// What a control reads from files.
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
    let identity = &upstream.identity;
    let bundle = identity.chain_pem() + &identity.key_pem(KeyFormat::Pkcs8);
    let name = upstream.name;
    Files {
        trust: write(format!("{name}-trust.pem"), &trust),
        bundle: write(format!("{name}-bundle.pem"), &bundle),
    }
}
