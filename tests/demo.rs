//! `warmline demo` from its user's view.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use warmline::demo::{APPLICATION, ORIGIN, authority::Authority, client::OneShot, origin::Origin};

/// The time that a test waits for an event before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// The lock on the demo's usual ports, which one test at a time may use.
static PORTS: Mutex<()> = Mutex::new(());

fn ports() -> MutexGuard<'static, ()> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running demo; killed when dropped.
struct Demo {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_warmline"))
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let out = lines(child.stdout.take().expect("it is piped"));
        let err = lines(child.stderr.take().expect("it is piped"));
        Self { child, out, err }
    }

    /// Waits for the end; returns the status and the lines since then: standard output, then standard error.
    fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let (out, err) = (rest(&self.out), rest(&self.err));
        let status = self.child.wait().expect("it is our child");
        (status, out, err)
    }

    /// Waits until the process handles Ctrl-C; before that the signal would end the process at once, without the polite
    /// end that the tests want.
    fn wait_until_signals_are_watched(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !catches(self.child.id(), Signal::INT) {
            assert!(Instant::now() < deadline, "nobody watches for Ctrl-C");
            thread::yield_now();
        }
    }

    fn interrupt(&self) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process id"), Signal::INT).expect("it still runs");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True if a process has a handler for this signal, by its `SigCgt` mask (proc(5)).
fn catches(process: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("hexadecimal");
    mask >> (signal.as_raw() - 1) & 1 == 1
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if line.ok().is_none_or(|line| sender.send(line).is_err()) {
                return;
            }
        }
    });
    receiver
}

fn rest(lines: &Receiver<String>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => all.push(line),
            Err(RecvTimeoutError::Disconnected) => return all,
            Err(RecvTimeoutError::Timeout) => panic!("it does not end; it said {all:#?}"),
        }
    }
}

/// Waits for the first line that fits; returns that line and all lines before.
fn wait_for(lines: &Receiver<String>, fits: impl Fn(&str) -> bool) -> (String, Vec<String>) {
    let mut before = Vec::new();
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        if fits(&line) {
            return (line, before);
        }
        before.push(line);
    }
    panic!("the line does not come; before it came {before:#?}");
}

/// Returns the two numbers at the end of the table's row with this label.
fn row(lines: &[String], label: &str) -> (u64, u64) {
    let line = lines.iter().find(|line| line.trim_start().starts_with(label));
    let line = line.unwrap_or_else(|| panic!("no row {label:?} in {lines:#?}"));
    let mut numbers = line.split_whitespace().rev().map(|word| word.parse().expect("a number"));
    let through = numbers.next().expect("a column");
    (numbers.next().expect("two columns"), through)
}

#[test]
fn there_are_as_many_requests_as_are_asked_for_and_not_none() {
    let _ports = ports();
    let (status, out, _) = Demo::start(&["--once", "--round-trip", "0", "--requests", "3"]).end();
    assert!(status.success(), "{status}");
    assert_eq!(row(&out, "requests  "), (3, 3));
    let (status, _, err) = Demo::start(&["--once", "--requests", "0"]).end();
    assert_eq!(status.code(), Some(2));
    assert!(err.concat().contains("0 is not in 1..=1000000"), "{err:#?}");
}

#[test]
fn forty_one_shot_requests_become_one_connection_with_one_full_handshake() {
    let _ports = ports();
    let (status, out, err) = Demo::start(&["--once", "--round-trip", "0"]).end();
    assert!(status.success(), "{status}, {err:#?}");
    assert_eq!(row(&out, "requests  "), (40, 40));
    assert_eq!(row(&out, "connections that the origin saw"), (40, 1));
    assert_eq!(row(&out, "full TLS handshakes"), (40, 1));
    assert_eq!(row(&out, "resumed TLS handshakes"), (0, 0));
    assert_eq!(row(&out, "requests that reused a connection"), (0, 39));
    for own in ["39 reused, 1 new (reason: first).", "handshakes: 1 full (TLS 1.3)."] {
        assert!(out.iter().any(|line| line.ends_with(own)), "{out:#?}");
    }
    assert!(err.is_empty(), "{err:#?}");
    assert!(out.iter().all(|line| line.chars().count() <= 80), "{out:#?}");
    assert!(!out.concat().contains('\x1b'), "no colours into a pipe: {out:#?}");
}

#[test]
fn a_simulated_round_trip_is_called_simulated() {
    let _ports = ports();
    let (status, out, _) = Demo::start(&["--once", "--round-trip", "2ms"]).end();
    assert!(status.success(), "{out:#?}");
    assert!(out.concat().contains("a simulated network of 2ms a round trip"), "{out:#?}");
    assert_eq!(row(&out, "connections that the origin saw"), (40, 1));
}

#[test]
fn a_taken_port_is_replaced_by_a_free_one_and_named() {
    let _ports = ports();
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 13301));
    let _taken = take(usual);
    let (status, out, err) = Demo::start(&["--once", "--round-trip", "0"]).end();
    assert!(status.success(), "{status}, {err:#?}");
    let said = out.iter().any(|line| line.starts_with(&format!("{usual} is taken")));
    assert!(said, "{out:#?}");
    assert_eq!(row(&out, "connections that the origin saw"), (40, 1));
}

/// Listens on this address, if need be after another process has stopped listening there.
fn take(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        thread::yield_now();
    }
}

#[test]
fn the_demo_goes_on_serving_and_logs_each_request_until_ctrl_c() {
    let _ports = ports();
    let demo = Demo::start(&["--round-trip", "0"]);
    let (line, before) = wait_for(&demo.out, |line| line.contains("what the application does"));
    assert_eq!(row(&before, "full TLS handshakes"), (40, 1));
    wait_for(&demo.out, |line| line.contains("Ctrl-C ends it"));

    let url = line.split_whitespace().nth(1).expect("curl URL");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let answer = get(address);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("says CN=demo-application"), "{answer}");
    assert!(answer.contains("request 81 since I started, on connection 41"), "{answer}");
    let (access, _) = wait_for(&demo.err, |line| line.contains("status=200"));
    assert!(access.contains("upstream") && access.contains("reused"), "{access}");

    demo.wait_until_signals_are_watched();
    demo.interrupt();
    let (status, _, err) = demo.end();
    assert!(status.success(), "{status}, {err:#?}");
    assert!(err.iter().any(|line| line.contains("polite")), "{err:#?}");
}

fn get(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let request = format!("GET / HTTP/1.1\r\nHost: {ORIGIN}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_wrong_round_trip_is_refused_with_what_would_be_right() {
    let (status, out, err) = Demo::start(&["--round-trip", "20"]).end();
    assert_eq!(status.code(), Some(2));
    assert!(out.is_empty(), "{out:#?}");
    assert!(err.concat().contains("up to 500ms, such as 20ms"), "{err:#?}");
}

#[test]
fn the_origin_serves_nobody_whose_certificate_its_authority_did_not_sign() {
    let authority = Authority::new().expect("an authority");
    let server = authority.server(ORIGIN).expect("a certificate");
    let origin = Origin::start(&authority, &server, Duration::ZERO).expect("an origin");
    let to = format!("https://{}/", origin.address()).parse().expect("a URL");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");

    let stranger = Authority::new().and_then(|other| other.client(APPLICATION));
    let stranger = OneShot::new(&authority, &stranger.expect("a certificate")).expect("a client");
    let refused = runtime.block_on(stranger.send(&to, 1));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!((origin.seen().connections, origin.seen().requests), (1, 0));

    let known = authority.client(APPLICATION).expect("a certificate");
    let known = OneShot::new(&authority, &known).expect("a client");
    let answers = runtime.block_on(known.send(&to, 2));
    assert_eq!(answers.map(|times| times.len()).map_err(|error| error.to_string()), Ok(2));
    assert_eq!((origin.seen().connections, origin.seen().full), (3, 2));
    assert_eq!((origin.seen().resumed, origin.seen().requests), (0, 2));
}
