//! The system clock jumps: the validity of certificates follows it, and time limits do not. The program runs under
//! Debian's `faketime`, which reads the jump from a file.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    certificates::{Certificates, this_year},
    openssl::s_server,
    process::{WATCHDOG, free_port, program},
    sidecar::Sidecar,
};

/// The file with a clock's offset, which the test sets.
struct Clock(PathBuf);

impl Clock {
    fn new(certificates: &Certificates) -> Self {
        let clock = Self(certificates.folder().join("clock"));
        clock.jump("+0");
        clock
    }

    /// Sets the clock this far from the real time, as in `+10y`.
    fn jump(&self, by: &str) {
        let beside = self.0.with_extension("new");
        fs::write(&beside, by).expect("the temporary folder can be written to");
        fs::rename(&beside, &self.0).expect("a file can be replaced");
    }

    /// Returns a command for the program under this clock. Its monotonic clock is the system's, which no jump moves.
    fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warmline"));
        command.envs(faketime());
        command.env("FAKETIME_TIMESTAMP_FILE", &self.0).env("FAKETIME_NO_CACHE", "1");
        command
    }
}

/// Returns the environment that `faketime` gives to its children, without the time, which would take precedence over
/// the file's. The program is not started by `faketime` itself: a killed `faketime` would leave it running.
fn faketime() -> Vec<(String, String)> {
    remove_leavings();
    let mut command = Command::new(program("faketime"));
    let told = command
        .args(["-m", "--exclude-monotonic", "-f", "+0", "env"])
        .output()
        .expect("faketime runs");
    let told = String::from_utf8(told.stdout).expect("names and values in UTF-8");
    let set = told.lines().filter_map(|line| line.split_once('='));
    let its = |name: &str| {
        name == "LD_PRELOAD"
            || (name.contains("FAKE") && !["FAKETIME", "FAKETIME_SHARED"].contains(&name))
    };
    let its: Vec<_> = set
        .filter(|(name, _)| its(name))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    assert!(its.iter().any(|(name, _)| name == "LD_PRELOAD"), "{told}");
    its
}

/// Removes the shared memory that processes under faketime left behind because they were killed: the library refuses to
/// start in a process that has got the number of such a process again.
fn remove_leavings() {
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| {
            let number = name.strip_prefix("sem.faketime_sem_");
            number.or_else(|| name.strip_prefix("faketime_shm_"))
        });
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Sends a request over a new connection, whose answer is still to come.
fn ask(sidecar: &Sidecar) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", sidecar.port())).expect("it listens");
    client
        .write_all(b"GET /any HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    client.set_read_timeout(Some(WATCHDOG)).expect("a socket option");
    client
}

fn answer(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer and its end");
    answer
}

/// Starts listening at a port where connections are never answered.
fn silent() -> (TcpListener, u16) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = server.local_addr().expect("it is bound").port();
    (server, port)
}

#[test]
fn case_52_whether_a_certificate_is_valid_follows_the_clock_wherever_it_jumps() {
    let certificates = Certificates::generate_for_some_years();
    let port = free_port();
    let _server = s_server(&certificates, port, &["-tls1_2", "-no_ticket", "-no_cache"]);
    let clock = Clock::new(&certificates);
    let identity = certificates.client();
    let mut sidecar =
        Sidecar::start_with(clock.program(), &certificates, port, Some(&identity), "");
    for (jump, status, says) in [
        ("+0", 200, ""),
        ("+10y", 502, "expired on"),
        ("+0", 200, ""),
        ("-10y", 502, "is not valid before"),
        ("+1h", 200, ""),
    ] {
        clock.jump(jump);
        let answer = sidecar.get("/");
        assert_eq!(answer.status, status, "{jump}: {answer:?}\n{}", sidecar.log());
        assert!(answer.body.contains(says), "{jump}: {answer:?}");
    }
}

#[test]
fn fault_02_no_session_outlives_the_certificate_that_it_was_made_with() {
    let certificates = Certificates::generate_for_some_years();
    let port = free_port();
    let _server = s_server(&certificates, port, &["-tls1_2", "-no_ticket"]);
    let clock = Clock::new(&certificates);
    let identity = certificates.client();
    let mut sidecar =
        Sidecar::start_with(clock.program(), &certificates, port, Some(&identity), "");
    for _ in 0..2 {
        assert_eq!(sidecar.get("/").status, 200, "{}", sidecar.log());
    }
    assert_eq!(sidecar.counter("warmline_tls_handshakes_total", "result=\"resumed\""), 1);
    clock.jump("+10y");
    let answer = sidecar.get("/");
    assert_eq!(answer.status, 502, "{answer:?}\n{}", sidecar.log());
    assert!(answer.body.contains("expired on"), "{answer:?}");
}

#[test]
fn case_52_a_jump_of_the_clock_ends_no_exchange_under_way() {
    let certificates = Certificates::generate();
    let (server, port) = silent();
    let clock = Clock::new(&certificates);
    let limits = "timeouts: { connect: 1h, handshake: 1h, response: 1h }";
    let mut sidecar = Sidecar::start_with(clock.program(), &certificates, port, None, limits);
    let mut client = ask(&sidecar);
    let (dialled, _) = server.accept().expect("it dials");
    clock.jump("+10y");
    assert_eq!(sidecar.counter("warmline_build_info", ""), 1, "it is at work, on its new clock");
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket option");
    let read = client.read(&mut [0]).expect_err("nothing to read");
    assert!(matches!(read.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{read}");
    client.set_read_timeout(Some(WATCHDOG)).expect("a socket option");
    // The request's retries find nothing listening.
    drop((server, dialled));
    assert!(answer(client).starts_with("HTTP/1.1 502 "));
    let line = sidecar.line_with("status=502");
    let year: i32 = line[..4].parse().expect("a line begins with its year");
    assert!(year >= this_year() + 9, "the clock did not jump: {line}");
}

#[test]
fn case_52_a_limit_comes_although_the_clock_jumps_back() {
    let certificates = Certificates::generate();
    let (_server, port) = silent();
    let clock = Clock::new(&certificates);
    let limits = "timeouts: { handshake: 300ms }";
    let sidecar = Sidecar::start_with(clock.program(), &certificates, port, None, limits);
    let client = ask(&sidecar);
    clock.jump("-10y");
    assert!(answer(client).starts_with("HTTP/1.1 504 "));
}
