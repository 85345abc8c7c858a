//! The way of log lines to standard error: a bounded queue and a thread of its own, so that a reader that stalls stalls
//! nothing else. A line that finds no room is lost and counted; once there is room again, a line reports how many were
//! lost. Another line, once a second at most, reports how many [`Rate`] left out.

use std::{
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::{
    MakeWriter,
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use super::{
    Format,
    rate::{LeftOut, Rate},
};

/// The most lines in the queue; also the number of written lines after which losses are reported although more are
/// waiting.
const LINES: usize = 1024;
/// The most bytes in the queue.
const BYTES: usize = 1024 * 1024;
/// The time after the last line, and between two reports, after which the count of lines left out is reported.
const TELLS_AFTER: Duration = Duration::from_secs(1);
/// The period at which a flush looks whether the lines are written.
const LOOK: Duration = Duration::from_millis(1);

/// The sender's side of the queue; each write is one line.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

/// The counts that both sides of the queue share.
#[derive(Debug, Default)]
struct Counts {
    /// The number of lines taken into the queue.
    taken: AtomicU64,
    /// The number of lines written, or given up because nothing reads them any more.
    written: AtomicU64,
    /// The number of lines that found no room and were not reported yet.
    lost: AtomicU64,
    /// The number of bytes in the queue.
    waiting: AtomicUsize,
}

/// Returns the number of whole seconds from the first call in this process to this moment.
pub(super) fn second(at: Instant) -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    at.saturating_duration_since(*FIRST.get_or_init(|| at)).as_secs()
}

/// Starts the thread that writes to the sink; returns the queue that it takes lines from. Fails if no thread can be
/// started.
pub(super) fn start(
    format: Format,
    sink: impl Write + Send + 'static,
    rate: Arc<Rate>,
) -> io::Result<Queue> {
    let (lines, taken) = sync_channel(LINES);
    let counts = Arc::new(Counts::default());
    let told = Instant::now();
    let outlet = Outlet { format, sink, counts: Arc::clone(&counts), rate, told };
    thread::Builder::new().name("log".into()).spawn(move || outlet.write(&taken))?;
    Ok(Queue { lines, counts })
}

impl Queue {
    /// Waits until every line so far is written, but no longer than this; has the thread report the lines that were
    /// left out.
    pub(super) fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        // An empty line: at it the thread reports what was left out.
        self.take(&[]);
        let taken = self.counts.taken.load(SeqCst);
        while self.counts.written.load(SeqCst) < taken && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
    }

    /// Takes a line into the queue; false if there was no room.
    fn take(&self, line: &[u8]) -> bool {
        let counts = &self.counts;
        if counts.waiting.fetch_add(line.len(), SeqCst) + line.len() > BYTES
            || self.lines.try_send(line.to_vec()).is_err()
        {
            counts.waiting.fetch_sub(line.len(), SeqCst);
            return false;
        }
        counts.taken.fetch_add(1, SeqCst);
        true
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.take(line) {
            self.counts.lost.fetch_add(1, SeqCst);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The thread's side of the queue.
struct Outlet<W> {
    format: Format,
    sink: W,
    counts: Arc<Counts>,
    rate: Arc<Rate>,
    /// The time of the last report of lines that the rate left out.
    told: Instant,
}

impl<W: Write> Outlet<W> {
    /// Writes lines until the queue is dropped. Reports lines that were lost once the queue is empty or many lines were
    /// written, and those that the rate left out at most once a second, and at a flush.
    fn write(mut self, lines: &Receiver<Vec<u8>>) {
        let mut untold = 0;
        while let Some(line) = self.next(lines) {
            // A line that nothing reads is lost silently.
            let _ = self.sink.write_all(&line);
            self.counts.waiting.fetch_sub(line.len(), SeqCst);
            untold += 1;
            let last = self.counts.taken.load(SeqCst) <= self.counts.written.load(SeqCst) + 1;
            if last || untold >= LINES {
                untold = 0;
                self.report_losses();
            }
            if line.is_empty() || self.told.elapsed() >= TELLS_AFTER {
                self.report_left_out();
            }
            self.counts.written.fetch_add(1, SeqCst);
        }
    }

    /// Returns the next line; `None` at the end. One second after the last line, reports once what was left out since.
    fn next(&mut self, lines: &Receiver<Vec<u8>>) -> Option<Vec<u8>> {
        match lines.recv_timeout(TELLS_AFTER) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => {
                self.report_left_out();
                lines.recv().ok()
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Writes a line with the number of lines that the rate left out since the last report; none if there were none.
    fn report_left_out(&mut self) {
        self.told = Instant::now();
        let left_out = self.rate.take_left_out();
        if left_out != LeftOut::default() {
            let _ = self.sink.write_all(gap(self.format, left_out).as_bytes());
        }
    }

    /// Writes a line with the number of lines that were lost since the last such line; none if there were none.
    fn report_losses(&mut self) {
        let lost = self.counts.lost.swap(0, SeqCst);
        if lost > 0 {
            let _ = self.sink.write_all(loss(self.format, lost).as_bytes());
        }
    }
}

/// Returns the line that reports lost lines.
fn loss(format: Format, lost: u64) -> String {
    told(format, "log lines were lost: standard error was not read in time", &[("lost", lost)])
}

/// Returns the line that reports lines left out by the rate.
fn gap(format: Format, LeftOut { all, failures }: LeftOut) -> String {
    let message = "access lines were left out: there were more than log.accessRate in a second";
    told(format, message, &[("left_out", all), ("failures", failures)])
}

/// Returns a line that is written at every `log.level`: readers of the log must know that it has a gap.
fn told(format: Format, message: &str, numbers: &[(&str, u64)]) -> String {
    let mut time = String::new();
    // The time is left out if it cannot be written; the rest of the line is still useful.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    match format {
        Format::Text => {
            let pairs: Vec<_> = numbers.iter().map(|(key, n)| format!(" {key}={n}")).collect();
            let pairs = pairs.concat();
            format!("{time} WARN {message}{pairs}\n")
        }
        Format::Json => {
            let pairs: Vec<_> = numbers.iter().map(|(key, n)| format!("\"{key}\":{n},")).collect();
            let pairs = pairs.concat();
            format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{message}\",{pairs}\
                 \"target\":\"warmline::telemetry::log\"}}\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// A pipe that nothing reads before the gate opens, and the bytes that came out.
    struct Stalled {
        entered: mpsc::Sender<()>,
        gate: Receiver<()>,
        open: bool,
        out: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                self.entered.send(()).expect("the scene waits");
                self.open = self.gate.recv().is_ok();
            }
            self.out.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        queue: Queue,
        entered: Receiver<()>,
        reader: mpsc::Sender<()>,
        out: Arc<Mutex<Vec<u8>>>,
    }

    fn stalled(format: Format) -> Scene {
        let (reader, gate) = mpsc::channel();
        let (entering, entered) = mpsc::channel();
        let out = Arc::new(Mutex::new(Vec::new()));
        let sink = Stalled { entered: entering, gate, open: false, out: Arc::clone(&out) };
        let queue = start(format, sink, Arc::default()).expect("a thread");
        Scene { queue, entered, reader, out }
    }

    impl Scene {
        fn write(&mut self, line: &str) {
            self.queue.write_all(line.as_bytes()).expect("it never fails");
        }

        /// Lets the pipe be read from now on; returns all lines that came out.
        fn read(self) -> Vec<String> {
            self.reader.send(()).expect("the thread waits");
            self.queue.flush(Duration::from_secs(20));
            let out = self.out.lock().expect("no panic");
            String::from_utf8_lossy(&out).lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_reader_that_stalls_stalls_no_writer_and_is_told_what_it_missed() {
        let mut scene = stalled(Format::Text);
        scene.write("line 0\n");
        // The thread holds the first line, and the queue is empty.
        scene.entered.recv().expect("the thread writes");
        for number in 1..3 * LINES {
            scene.write(&format!("line {number}\n"));
        }
        let (kept, told): (Vec<_>, Vec<_>) =
            scene.read().into_iter().partition(|line| line.starts_with("line "));
        for (number, line) in kept.iter().enumerate() {
            assert_eq!(*line, format!("line {number}"), "whole, and in order");
        }
        assert_eq!(kept.len(), LINES + 1);
        let lost = 3 * LINES - kept.len();
        assert!(told.len() == 1 && told[0].ends_with(&format!(" lost={lost}")), "{told:?}");
    }

    #[test]
    fn the_log_queue_is_bounded_in_bytes_too() {
        let mut scene = stalled(Format::Text);
        let line = format!("{}\n", "x".repeat(BYTES / 4));
        for _ in 0..10 {
            scene.write(&line);
        }
        let lines = scene.read();
        assert_eq!(lines.iter().filter(|line| line.starts_with('x')).count(), 3);
        assert!(lines.last().is_some_and(|told| told.ends_with(" lost=7")), "{:?}", lines.last());
    }

    #[test]
    fn a_loss_is_told_in_the_logs_own_format() {
        let told: serde_json::Value = serde_json::from_str(&loss(Format::Json, 7)).expect("JSON");
        assert_eq!((&told["lost"], &told["level"]), (&7.into(), &"WARN".into()));
        assert!(loss(Format::Text, 7).contains(" WARN log lines were lost"));
    }

    #[test]
    fn fault_26_lines_that_the_rate_left_out_are_reported_at_the_end_too() {
        let (rate, out) = (Arc::new(Rate::default()), Arc::new(Mutex::new(Vec::new())));
        let (entered, gate) = (mpsc::channel().0, mpsc::channel().1);
        let sink = Stalled { entered, gate, open: true, out: Arc::clone(&out) };
        let queue = start(Format::Text, sink, Arc::clone(&rate)).expect("a thread");
        rate.set(2);
        let admitted = (0..10).filter(|_| rate.admits(super::super::Line::Ordinary, 7)).count();
        queue.flush(Duration::from_secs(20));
        let told = String::from_utf8_lossy(&out.lock().expect("no panic")).into_owned();
        assert!(told.ends_with(&format!("left_out={} failures=0\n", 10 - admitted)), "{told}");
    }

    #[test]
    fn an_end_waits_for_the_last_lines_but_not_for_ever() {
        let mut scene = stalled(Format::Text);
        scene.write("never read\n");
        scene.queue.flush(Duration::from_millis(50));
        assert!(scene.out.lock().expect("no panic").is_empty());
        assert_eq!(scene.read(), ["never read"]);
    }
}
