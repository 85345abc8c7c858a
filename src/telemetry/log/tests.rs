//! Tests of the text of log lines, and of the choice of events that become lines.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct FailingWriter;

impl Write for FailingWriter {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn logged(format: Format, level: Level, access: Access, events: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    let settings = Settings { format, level, access, ..Settings::by_default(false) };
    let (subscriber, _) = subscriber(&settings, move || writer.clone());
    tracing::subscriber::with_default(subscriber, events);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn access_line() {
    tracing::info!(
        target: "warmline::access",
        client = %"127.0.0.1:58781",
        upstream = "payments",
        endpoint = None::<&str>,
        r#use = Some(8_u64),
        age = Some(seconds(Duration::from_millis(41_300))),
        queue = seconds(Duration::ZERO),
        total = seconds(Duration::from_micros(3_040)),
        status = 200_u16,
        req = %"GET /a?b=\"c\"",
    );
}

#[test]
fn an_access_line_in_text_is_pairs_behind_the_time_and_the_level() {
    let lines = logged(Format::Text, Level::Info, Access::All, access_line);
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert_eq!(
        rest,
        r#"INFO client=127.0.0.1:58781 upstream=payments use=8 age=41s queue=0ms total=3.0ms status=200 req="GET /a?b=\"c\"""#
    );
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T' && time.len() == 27, "{time}");
}

#[test]
fn an_access_line_in_json_has_the_same_keys_flat_and_times_as_seconds() {
    let lines = logged(Format::Json, Level::Info, Access::All, access_line);
    let mut line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    let wanted = serde_json::json!({
        "level": "INFO", "target": "warmline::access", "client": "127.0.0.1:58781", "upstream": "payments", "use": 8,
        "age": 41.3, "queue": 0.0, "total": 0.003_04, "status": 200, "req": "GET /a?b=\"c\"",
    });
    assert_eq!(line, wanted);
}

#[test]
fn a_message_stands_before_its_pairs_and_nothing_leaves_its_line() {
    let lines = logged(Format::Text, Level::Info, Access::Off, || {
        tracing::warn!(target: "warmline::cli", reason = "a\n\u{1b}[31mb", empty = "", "two\nlines");
    });
    let rest = lines[0].split_once(' ').unwrap().1;
    assert_eq!(rest, r#"WARN two\nlines reason="a\n\u{1b}[31mb" empty="""#);
    assert_eq!(lines.len(), 1);
}

fn one_of_each() {
    tracing::info!(target: "warmline::access", "access");
    tracing::info!(target: "warmline::connection", "connection");
    tracing::error!(target: "warmline::pool", "own-error");
    tracing::info!(target: "warmline", "own-info");
    tracing::debug!(target: "warmline::pool", "own-debug");
    tracing::error!(target: "hickory_net::udp", "foreign-error");
    tracing::warn!(target: "warmlines", "foreign-warn");
    tracing::error!(target: "kube_client::client", "kube-error");
    tracing::info!(target: "hickory_net::udp", "foreign-info");
    tracing::trace!(target: "hickory_net::udp", "foreign-trace");
}

fn shown(level: Level, access: Access) -> String {
    let lines = logged(Format::Text, level, access, one_of_each);
    let words: Vec<_> = lines.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    words.join(" ")
}

#[test]
fn the_level_and_the_access_setting_choose_the_lines() {
    use Access::{All, Errors, Off};
    assert_eq!(shown(Level::Error, Off), "own-error foreign-error");
    assert_eq!(shown(Level::Error, All), "access connection own-error foreign-error");
    assert_eq!(shown(Level::Info, Off), "own-error own-info foreign-error foreign-warn");
    assert_eq!(shown(Level::Info, Errors), "access own-error own-info foreign-error foreign-warn");
    assert_eq!(
        shown(Level::Debug, Off),
        "connection own-error own-info own-debug foreign-error foreign-warn"
    );
    assert_eq!(
        shown(Level::Trace, Off),
        "connection own-error own-info own-debug foreign-error foreign-warn kube-error foreign-info foreign-trace"
    );
}

#[test]
fn a_broken_pipe_loses_the_line_and_nothing_else() {
    for format in [Format::Text, Format::Json] {
        let settings = Settings { format, level: Level::Trace, ..Settings::by_default(true) };
        tracing::subscriber::with_default(subscriber(&settings, || FailingWriter).0, one_of_each);
    }
}

fn quiet() -> Settings {
    Settings { level: Level::Error, access: Access::Off, ..Settings::by_default(true) }
}

#[test]
fn setting_the_log_up_twice_is_no_error() {
    let settings = quiet();
    init(&settings);
    init(&settings);
}

#[test]
fn durations_are_written_as_people_write_them() {
    let written: Vec<_> = [0, 4, 5, 184, 2_134, 9_960, 15_400, 236_000, 1_530_000, 41_300_000]
        .map(|micros| HumanDuration(Duration::from_micros(micros)).to_string())
        .into();
    let wanted =
        ["0ms", "0ms", "0.01ms", "0.18ms", "2.1ms", "10.0ms", "15ms", "236ms", "1.53s", "41s"];
    assert_eq!(written, wanted);
}

#[test]
fn another_level_and_another_access_apply_to_the_events_that_come_then() {
    let lines = Lines::default();
    let writer = lines.clone();
    let quiet = quiet();
    let (subscriber, filtering) = subscriber(&quiet, move || writer.clone());
    tracing::subscriber::with_default(subscriber, || {
        one_of_each();
        let before = lines.0.lock().unwrap().len();
        filtering
            .reload(filter(&Settings { level: Level::Debug, access: Access::All, ..quiet }))
            .unwrap();
        one_of_each();
        let text = String::from_utf8(lines.0.lock().unwrap()[before..].to_vec()).unwrap();
        assert!(text.lines().count() > 4, "{text}");
    });
}
