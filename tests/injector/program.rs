//! The injector's process, and a client that speaks to it as the API server does.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use warmline::demo::authority::Authority;

/// The name of the injector's service, which the API server verifies.
pub const NAME: &str = "warmline-injector.warmline-system.svc";
/// The time that a test waits for an event before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running injector with its certificate in files; killed when dropped.
pub struct Injector {
    child: Child,
    lines: Mutex<Receiver<String>>,
    pub webhook: SocketAddr,
    pub health: SocketAddr,
    pub folder: TempDir,
    pub authority: Authority,
}

/// The status, head and body of an HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Injector {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts the injector with these further arguments and its certificate in place, and waits until it is ready.
    pub fn start_with(arguments: &[&str]) -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new().unwrap());
        write_certificate(folder.path(), &authority);
        let injector = Self::launch(folder, authority, arguments);
        eventually("ready", || (injector.health("/readyz").status == 200).then_some(()));
        injector
    }

    pub fn launch(folder: TempDir, authority: Authority, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_warmline"))
            .args(["injector", "--image", "warmline/warmline:1", "--bind", "127.0.0.1:0"])
            .args(["--health-bind", "127.0.0.1:0", "--certificate-files"])
            .arg(folder.path())
            .args(arguments)
            .env("KUBECONFIG", "/nowhere")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let serving = line_with(&lines, "warmline injector is serving");
        let address = |key: &str| serving[key].as_str().unwrap().parse().unwrap();
        let (webhook, health) = (address("webhook"), address("health"));
        Self { child, lines: Mutex::new(lines), webhook, health, folder, authority }
    }

    /// Waits for the next log line with this message and returns it.
    pub fn line(&self, message: &str) -> Value {
        line_with(&self.lines.lock().unwrap(), message)
    }

    /// Connects as the API server does: the name is verified, with this authority as the only root.
    pub fn connect(&self) -> Tls {
        self.try_connect(&self.authority).unwrap()
    }

    pub fn try_connect(&self, authority: &Authority) -> std::io::Result<Tls> {
        handshake(TcpStream::connect(self.webhook)?, authority)
    }

    /// Makes the TLS handshake over an open TCP connection.
    pub fn handshake(&self, tcp: TcpStream) -> std::io::Result<Tls> {
        handshake(tcp, &self.authority)
    }

    /// Posts this body to the webhook over a new connection and returns the answer.
    pub fn post(&self, body: &[u8]) -> Answer {
        post(&mut self.connect(), body)
    }

    /// Posts a review and returns the `response` of the answer.
    pub fn review(&self, review: &Value) -> Value {
        let answer = self.post(review.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        answer["response"].clone()
    }

    pub fn health(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.health).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read(&mut stream)
    }

    /// Returns the value of a metric, given by its name with its labels.
    pub fn metric(&self, name: &str) -> String {
        let text = self.health("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    }

    /// Returns the highest resident memory of the process so far, in bytes (`VmHWM`).
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Returns the processor time that the process has used so far, in the kernel's ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        let numbers: Vec<&str> = behind_name.split_whitespace().collect();
        // Fields 14 and 15 of the line: user and system time.
        [numbers[11], numbers[12]].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    pub fn terminate(&self) {
        let id = i32::try_from(self.child.id()).unwrap();
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn handshake(tcp: TcpStream, authority: &Authority) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    let pem = authority.certificate_pem();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(tls), NAME.try_into().unwrap()).unwrap();
    tcp.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(client, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Writes a certificate of this authority and its key into the folder.
pub fn write_certificate(folder: &Path, authority: &Authority) {
    let credentials = authority.server(NAME).unwrap();
    std::fs::write(folder.join("tls.crt"), credentials.certificate_pem()).unwrap();
    std::fs::write(folder.join("tls.key"), credentials.key_pem()).unwrap();
}

pub fn post(stream: &mut (impl Read + Write), body: &[u8]) -> Answer {
    write!(
        stream,
        "POST /mutate HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    stream.flush().unwrap();
    read(stream)
}

/// Reads one response that has a content-length.
pub fn read(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    let end = loop {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
        if bytes.ends_with(b"\r\n\r\n") {
            break bytes.len();
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let status = head[9..12].parse().unwrap();
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

/// Asks again and again until there is a value; panics with `what` if there never is.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "never {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns a review of the creation of this pod.
pub fn creation(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "name": "a",
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// Returns a pod that asks for a sidecar.
pub fn asking() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"warmline.dev/inject": "true"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

fn line_with(lines: &Receiver<String>, message: &str) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line says {message}"));
        if let Ok(line) = serde_json::from_str::<Value>(&line)
            && line["message"] == message
        {
            return line;
        }
    }
}
