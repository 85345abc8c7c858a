//! Programs that a test starts: found by name, read line by line, ended by process id.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The time that a test waits for an event before it fails; nothing here takes a tenth of that.
pub(crate) const WATCHDOG: Duration = Duration::from_mins(1);

/// Finds a program, in the folders of administrators' programs too.
///
/// # Panics
/// If the program is missing, with the command that installs it: a test never skips silently.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not installed, and this test runs it: scripts/install-peers installs it")
    })
}

/// A running program whose lines, of standard output and standard error alike, can be waited for. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// The program's standard input, if it was started with one.
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_on(command, Stdio::null())
    }

    /// Starts a program with a standard input that [`Running::say`] writes to.
    pub(crate) fn start_listening(command: &mut Command) -> Self {
        Self::start_on(command, Stdio::piped())
    }

    fn start_on(command: &mut Command, input: Stdio) -> Self {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        forward(child.stdout.take().expect("standard output is piped"), sender.clone());
        forward(child.stderr.take().expect("standard error is piped"), sender);
        let input = child.stdin.take();
        Self { child, input, lines, seen: Vec::new() }
    }

    /// Writes this text to the program's standard input.
    pub(crate) fn say(&mut self, text: &str) {
        let input = self.input.as_mut().expect("it was started with an input");
        input.write_all(text.as_bytes()).expect("a running program reads");
    }

    /// Waits for the next line that contains `text`; lines before are skipped.
    ///
    /// # Panics
    /// If the program ends, or [`WATCHDOG`] passes, without such a line.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WATCHDOG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {text:?} came; the program's lines were:\n{}", self.told());
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the next `count` lines that contain `text`.
    pub(crate) fn lines_with(&mut self, text: &str, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line_with(text)).collect()
    }

    /// Returns everything that the program has written so far, for the messages of failed assertions.
    pub(crate) fn told(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// Waits until a program accepts connections on this loopback port.
    pub(crate) fn wait_for_port(&mut self, port: u16) {
        let deadline = Instant::now() + WATCHDOG;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "it ended ({ended:?}), saying:\n{}", self.told());
            assert!(Instant::now() < deadline, "port {port} stays closed:\n{}", self.told());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks the program to end, as Kubernetes does, and waits for it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("a running child can be signalled");
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If the process has ended by itself, there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn forward(source: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// Returns a loopback port on which nothing listens and which no other call of this process was given. It is below the
/// range from which the kernel takes the ports of outgoing connections, so that none of those can take it meanwhile.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time start at different places.
    let start = (std::process::id() % u32::from(COUNT)) as u16;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
