//! The configuration as its users see it: accepted documents, and the messages about all others.

#![allow(clippy::unwrap_used)] // a test fails by a panic

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    process::ExitCode,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use clap::Parser;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{DnsName, ServerName};
use serde_json::Value;
use warmline::{
    cli::check,
    config::{self, Context, Errors, Files, Plan},
    telemetry::log::{Access, Format, Level},
    tls::{
        MinVersion,
        trust::{Trust, TrustError},
    },
};

/// A file system in memory, with the files that a configuration names, and the machine's roots.
struct World {
    files: BTreeMap<&'static str, String>,
    roots: Trust,
}

impl Files for World {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = path.to_str().and_then(|path| self.files.get(path));
        content.map(|text| text.clone().into_bytes()).ok_or_else(|| io::Error::from_raw_os_error(2))
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Ok(self.roots.clone())
    }
}

fn certificate(key: &KeyPair, years: (i32, i32)) -> String {
    let mut params = CertificateParams::new(["client.example".into()]).unwrap();
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params.self_signed(key).unwrap().pem()
}

/// The files for most tests; their present time is in 2026.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let now = certificate(&key, (2025, 2027));
    let files = BTreeMap::from([
        ("/etc/warmline/trust/ca.crt", certificate(&other, (2020, 2030))),
        ("/etc/warmline/identity/tls.crt", now.clone()),
        ("/etc/warmline/identity/tls.key", key.serialize_pem()),
        ("/bundle", format!("{}{now}", key.serialize_pem())),
        ("/other.key", other.serialize_pem()),
        ("/encrypted.key", key.serialize_pem().replace("PRIVATE", "ENCRYPTED PRIVATE")),
        ("/expired.crt", certificate(&key, (2020, 2025))),
        ("/future.crt", certificate(&key, (2027, 2030))),
        ("/empty", String::new()),
    ]);
    World { files, roots: Trust::from_pem(now.as_bytes()).unwrap() }
});

/// Returns the context in which a text is compiled unless a test is about the context.
fn context() -> Context<'static> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    Context {
        source: "w.yaml",
        terminal: false,
        files: &*WORLD,
        now,
        in_force: None,
        confined: false,
    }
}

fn compile_for(text: &str, terminal: bool) -> Result<Plan, Errors> {
    config::compile(text, &Context { terminal, ..context() })
}

fn compile(text: &str) -> Result<Plan, Errors> {
    compile_for(text, false)
}

fn accepted(text: &str) -> Plan {
    compile(text).unwrap_or_else(|errors| panic!("{errors}\n--- of ---\n{text}"))
}

/// Returns `LINE:COLUMN: PATH: MESSAGE` for each error; panics if the text is accepted.
fn complaints(text: &str) -> Vec<String> {
    listed(&compile(text).expect_err(text))
}

fn listed(errors: &Errors) -> Vec<String> {
    let place =
        |finding: &config::Finding| finding.at.map(|at| format!("{}:{}", at.line, at.column));
    errors
        .findings()
        .iter()
        .map(|finding| {
            format!("{}: {}: {}", place(finding).unwrap_or_default(), finding.path, finding.message)
        })
        .collect()
}

/// A document with one upstream; a test appends lines at the upstream's level or at the top.
const ONE: &str = "upstreams:\n  - name: a\n    endpoints: [\"a.example:443\"]\n";

/// Asserts that each document, `ONE` followed by the given lines, has exactly these complaints.
fn table(cases: &[(&str, &[&str])]) {
    for (lines, expected) in cases {
        let text = format!("{ONE}{lines}\n");
        assert_eq!(complaints(&text), *expected, "--- of ---\n{text}");
    }
}

#[test]
fn an_error_shows_file_line_column_path_remedy_and_the_line_itself() {
    let errors = compile(&format!("{ONE}    pool: {{maxIdle: -2}}\ndrain: 25\n")).unwrap_err();
    let expected = "\
w.yaml:4:21: upstreams[0].pool.maxIdle: `-2` is out of bounds; write -1 (unlimited), 0 (keep none \
                    idle) or up to 1000000
      pool: {maxIdle: -2}
                      ^
w.yaml:5:8: drain: `25` has no unit; write 25s or 25ms
  drain: 25
         ^";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn a_long_line_is_cut_around_the_caret_and_many_errors_are_counted() {
    let hosts = vec!["\"x:1\""; 30].join(", ");
    let shown = compile(&format!("{ONE}    hosts: [{hosts}]\n")).unwrap_err().to_string();
    assert!(shown.lines().all(|line| line.len() <= 130), "{shown}");
    assert!(shown.ends_with("\nw.yaml: and 10 more"), "{shown}");
}

#[test]
fn without_upstreams_the_error_shows_the_least_that_works() {
    let minimal = "no upstream is configured; write at least one, such as:\n  upstreams:\n    - \
                   name: payments\n      endpoints: [\"api.payments.example:443\"]";
    for (text, place) in
        [("", "1:1"), ("# nothing", "1:1"), ("threads: 1", "1:1"), ("upstreams: []", "1:12")]
    {
        assert_eq!(complaints(text), [format!("{place}: upstreams: {minimal}")], "{text}");
    }
    let (_, yaml) = minimal.split_once(":\n").unwrap();
    assert_eq!(accepted(yaml).upstreams[0].name, "payments");
}

#[test]
fn unknown_keys_are_named_with_what_was_meant() {
    table(&[
        (
            "    pool: {max_idle: 5}",
            &["4:12: upstreams[0].pool.max_idle: `max_idle` is not a key here; did you mean \
               `maxIdle`?"],
        ),
        (
            "    pool: {\n      maxConections: 5 }",
            &["5:7: upstreams[0].pool.maxConections: `maxConections` is not a key here; did you \
               mean `maxConnections`?"],
        ),
        (
            "lissteners: []",
            &["4:1: lissteners: `lissteners` is not a key here; did you mean `listeners`?"],
        ),
        (
            "    tls: {verify: none}",
            &[
                "4:11: upstreams[0].tls.verify: `verify` is not a key here: nothing turns verification off; put the CA, \
               or the server's own certificate, into `tls.trust`, and the name that the certificate carries into \
               `tls.verifyName`",
            ],
        ),
        (
            "    maxIdle: 5",
            &["4:5: upstreams[0].maxIdle: `maxIdle` is not a key here; it belongs at \
               upstreams[].pool.maxIdle"],
        ),
        (
            "    retries: {foo: 5}",
            &["4:15: upstreams[0].retries.foo: `foo` is not a key here; write one of budget, \
               idempotencyKey, max"],
        ),
        (
            "5: x",
            &[
                "4:1: 5: `5` is not a key here; write one of admin, drain, listeners, log, metrics, readiness, \
               threads, upstreams",
            ],
        ),
    ]);
}

#[test]
fn a_warm_floor_must_be_reachable_and_what_readiness_waits_for_must_have_one() {
    table(&[
        (
            "    pool: {reuse: sometimes}",
            &["4:19: upstreams[0].pool.reuse: `sometimes` is not known here; write always, \
               aggressive, safe or never"],
        ),
        (
            "    pool: {minIdle: 3, maxIdle: 2}",
            &[
                "4:21: upstreams[0].pool.minIdle: 3 are never idle within maxIdle, 2; write a lower \
               number, or raise that",
            ],
        ),
        (
            "    pool: {minIdle: 101}",
            &["4:21: upstreams[0].pool.minIdle: 101 are never idle within maxConnections, 100; \
               write a lower number, or raise that"],
        ),
        (
            "    pool: {minIdle: 1, purgeDelay: 0}",
            &[
                "4:21: upstreams[0].pool.minIdle: 1 are never idle within purgeDelay 0, which keeps \
               none idle; write a lower number, or raise that",
            ],
        ),
        (
            "readiness: {requireUpstreams: [b]}",
            &["4:32: readiness.requireUpstreams[0]: no upstream is called `b`; write one that is"],
        ),
        (
            "readiness: {requireUpstreams: [a]}",
            &["4:32: readiness.requireUpstreams[0]: `a` keeps no connection warm; set its \
               `pool.minIdle` to 1 or more, or take it out here"],
        ),
    ]);
    let plan = accepted(
        "upstreams: [{name: a, endpoints: [a.example:1], pool: {minIdle: 2, reuse: safe}}]\n\
         readiness: {requireUpstreams: [a]}\n",
    );
    assert_eq!(plan.required_upstreams, ["a"]);
    assert_eq!(plan.upstreams[0].pool.min_idle, 2);
}

#[test]
fn keys_and_values_of_other_versions_are_refused_saying_so() {
    table(&[
        (
            "    http2: true",
            &["4:5: upstreams[0].http2: `http2` is not in this version; remove it"],
        ),
        (
            "    tls: {crl: /x}",
            &["4:11: upstreams[0].tls.crl: `crl` is not in this version; remove it"],
        ),
    ]);
    for key in ["protocol", "upgrade", "passthrough", "affinity", "health", "balance"] {
        let found = complaints(&format!("{ONE}    {key}: 1\n"));
        assert_eq!(
            found,
            [format!("4:5: upstreams[0].{key}: `{key}` is not in this version; remove it")]
        );
    }
    assert_eq!(
        complaints("upstreams: [{name: a, endpoints: [\"a:1\", \"b:2\"]}]"),
        ["1:42: upstreams[0].endpoints[1]: a second endpoint is not in this version; write one \
          name that resolves to every address, or an upstream for each"]
    );
}

#[test]
fn duplicate_keys_are_refused_at_the_second() {
    table(&[
        (
            "drain: 5s\ndrain: 5s",
            &["5:1: drain: the key `drain` is written twice; keep one of them"],
        ),
        (
            "    name: b",
            &["4:5: upstreams[0].name: the key `name` is written twice; keep one of them"],
        ),
        (
            "    pool: {maxIdle: 1, \"maxIdle\": 1}",
            &["4:24: upstreams[0].pool.maxIdle: the key `maxIdle` is written twice; keep one of \
               them"],
        ),
    ]);
}

#[test]
fn wrong_types_say_what_is_there_and_what_is_wanted() {
    table(&[
        ("drain: [1]", &["4:8: drain: this is a list; write a single value"]),
        ("log:\n  level:\n    a: b", &["6:5: log.level: this is a mapping; write a single value"]),
        (
            "metrics: true",
            &["4:10: metrics: this is a single value; write a mapping: keys with values, such as \
               `key: value`"],
        ),
        (
            "    hosts: a.example",
            &["4:12: upstreams[0].hosts: this is a single value; write a list, such as `[a, b]`"],
        ),
        ("threads: two", &["4:10: threads: `two` is not a whole number; write one from 1 to 64"]),
        ("threads: 1.5", &["4:10: threads: `1.5` is not a whole number; write one from 1 to 64"]),
    ]);
    let mapping = "write a mapping: keys with values, such as `key: value`";
    assert_eq!(complaints("- a"), [format!("1:1: : this is a list; {mapping}")]);
    assert_eq!(complaints("hello"), [format!("1:1: : this is a single value; {mapping}")]);
    assert_eq!(
        complaints("upstreams: [5]"),
        [format!("1:13: upstreams[0]: this is a single value; {mapping}")]
    );
}

#[test]
fn a_key_with_nothing_behind_it_is_no_way_to_say_the_default() {
    let nothing = "nothing is written here; write a value, or remove the key";
    for (lines, place) in [
        ("drain:", "4:6: drain"),
        ("drain: ~", "4:8: drain"),
        ("    tls: {trust: null}", "4:18: upstreams[0].tls.trust"),
        ("    tls:\n      identity:", "5:15: upstreams[0].tls.identity"),
        ("    hosts: [a, ~]", "4:16: upstreams[0].hosts[1]"),
    ] {
        let found = complaints(&format!("{ONE}{lines}\n"));
        let (at, path) = place.split_once(": ").unwrap();
        assert!(
            found.iter().any(|complaint| complaint.ends_with(&format!(": {path}: {nothing}"))),
            "{found:?}"
        );
        assert_eq!(
            found[0].split_once(": ").unwrap().0.split_once(':').unwrap().0,
            at.split_once(':').unwrap().0
        );
    }
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_place() {
    let remedy = "check indentation, brackets and quotes (an address such as \"[::1]:13301\", and \
                  any value that begins with * & ! @ %, needs quotes)";
    for (lines, place, said) in [
        ("    hosts: [a", "4:12", "unclosed bracket '['"),
        ("metrics: {bind: [[::]:13320]}", "4:18", "a list or mapping is in the place of a key"),
        (
            "  drain: 5s",
            "4:3",
            "while parsing a block collection, did not find expected '-' indicator",
        ),
        ("drain: @x", "4:8", "unexpected character: `@'"),
    ] {
        let text = format!("{ONE}{lines}\n");
        assert_eq!(
            complaints(&text),
            [format!("{place}: : not valid YAML: {said}; {remedy}")],
            "{text}"
        );
    }
    table(&[
        (
            "\tdrain: 5s",
            &["4:2: : a tab indents this line, which YAML does not allow; write spaces"],
        ),
        ("drain: {{ .Values.drain }}", &[TEMPLATE]),
        ("---\na: b", &["5:1: : a second document begins here; write one, without `---`"]),
        (
            "    hosts: [*all]",
            &["4:13: : an unquoted * begins a YAML alias, and no anchor has this name; write \
               \"*\" for the asterisk"],
        ),
    ]);
}

const TEMPLATE: &str = "4:9: : this is a template that was not rendered; write what comes of it, such as by `helm template`";

#[test]
fn values_of_the_chart_and_objects_of_kubernetes_are_told_in_one_finding() {
    let values = format!("{ONE}config: {{drain: 5s}}\nconfigSource: mount\n");
    let [finding] = &complaints(&values)[..] else { panic!("{:?}", complaints(&values)) };
    assert!(finding.starts_with("4:1: config: this looks like values of the chart"), "{finding}");
    let object =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: warmline}\ndata: {config.yaml: ''}\n";
    let [finding] = &complaints(object)[..] else { panic!("{:?}", complaints(object)) };
    assert!(
        finding.starts_with("1:1: apiVersion: this looks like an object of Kubernetes"),
        "{finding}"
    );
}

#[test]
fn a_url_as_endpoint_is_answered_with_the_endpoint_that_it_means() {
    for (url, remedy) in [
        ("https://api.payments.example:443/v1", "write \"api.payments.example:443\""),
        ("https://API.example", "write \"api.example:443\""),
        ("api.example/v1?x", "write \"api.example:443\""),
        ("https://[::1]/", "write \"[::1]:443\""),
        (
            "http://api.example:80/",
            "write \"api.example:443\": upstreams speak TLS; plain HTTP is not in this version",
        ),
        ("https://", "write HOST:PORT, without scheme and path"),
    ] {
        let text = format!("upstreams: [{{name: a, endpoints: [\"{url}\"]}}]\n");
        let found = complaints(&text);
        assert!(found[0].ends_with(&format!("is a URL; {remedy}")), "{url}: {found:?}");
    }
}

#[test]
fn aliases_and_nesting_cannot_make_a_small_text_large() {
    let level = |n: usize| {
        let alias = format!("*a{}", n - 1);
        format!("a{n}: &a{n} [{}]\n", [alias.as_str(); 10].join(","))
    };
    let bomb = format!("a0: &a0 [x]\n{}", (1..12).map(level).collect::<String>());
    for text in
        [bomb, format!("drain: {}", "[".repeat(100_000)), format!("a: {}", "{b: ".repeat(50_000))]
    {
        let found = complaints(&text);
        assert!(
            found[0].contains("too large, too deep") || found[0].contains("not valid YAML"),
            "{found:?}"
        );
    }
}

#[test]
fn durations_need_a_unit_and_zero_needs_none() {
    let drain = |text: &str| compile(&format!("{ONE}drain: {text}\n")).map(|plan| plan.drain);
    for (text, milliseconds) in [
        ("200ms", 200),
        ("5s", 5_000),
        ("1m", 60_000),
        ("1h", 3_600_000),
        ("0", 0),
        ("0s", 0),
        ("\"5s\"", 5_000),
        ("8760h", 31_536_000_000),
    ] {
        assert_eq!(drain(text), Ok(Duration::from_millis(milliseconds)), "{text}");
    }
    let unit = "write one whole number with its unit: 200ms, 5s, 1m or 1h";
    for (text, message) in [
        ("25", "`25` has no unit; write 25s or 25ms".to_owned()),
        ("00", "`00` has no unit; write 0s or 0ms".to_owned()),
        ("-5s", format!("`-5s` is not a duration; {unit}")),
        ("1.5s", format!("`1.5s` is not a duration; {unit}")),
        ("1h30m", format!("`1h30m` is not a duration; {unit}")),
        ("5 s", format!("`5 s` is not a duration; {unit}")),
        ("1d", format!("`1d` is not a duration; {unit}")),
        ("s", format!("`s` is not a duration; {unit}")),
        ("8761h", "`8761h` is longer than a year; write at most 8760h".to_owned()),
        (
            "18446744073709551615h",
            "`18446744073709551615h` is longer than a year; write at most 8760h".to_owned(),
        ),
        ("99999999999999999999s", format!("`99999999999999999999s` is not a duration; {unit}")),
    ] {
        assert_eq!(drain(text).unwrap_err().findings()[0].message, message);
    }
}

#[test]
fn numbers_sizes_and_words_have_bounds_and_all_errors_come_at_once() {
    table(&[(
        "    pool: {maxConnections: 0, maxQueue: -1, queueTimeout: 0, maxRequests: x}
    timeouts: {connect: 0s, handshake: 5, response: 1d, idle: 0ms}
    retries: {max: 101, budget: 20, idempotencyKey: yes}
threads: 0
log: {format: xml, level: loud, access: some}
listeners:
  - allowNonLoopback: maybe
    limits: {headerBytes: 32KB, headerFields: 0, headerTimeout: 0, idleTimeout: 1.5m, connections: \
         -1}
  - bind: [\"127.0.0.1:1\"]
    limits: {headerBytes: 2MiB}",
        &[
            "4:28: upstreams[0].pool.maxConnections: `0` is out of bounds; write 1 to 1000000",
            "4:41: upstreams[0].pool.maxQueue: `-1` is out of bounds; write 0 to 1000000",
            "4:59: upstreams[0].pool.queueTimeout: `0` is zero; write a duration above \
             zero, such as 5s (there is no \"no limit\" here; 24h comes near it)",
            "4:75: upstreams[0].pool.maxRequests: `x` is not a whole number; write one from 0 to \
             1000000000",
            "5:25: upstreams[0].timeouts.connect: `0s` is zero; write a duration above \
             zero, such as 5s (there is no \"no limit\" here; 24h comes near it)",
            "5:40: upstreams[0].timeouts.handshake: `5` has no unit; write 5s or 5ms",
            "5:53: upstreams[0].timeouts.response: `1d` is not a duration; write one whole number \
             with its unit: 200ms, 5s, 1m or 1h",
            "5:63: upstreams[0].timeouts.idle: `0ms` is zero; write a duration above \
             zero, such as 5s (there is no \"no limit\" here; 24h comes near it)",
            "6:20: upstreams[0].retries.max: `101` is out of bounds; write 0 to 100",
            "6:33: upstreams[0].retries.budget: `20` is not a percentage; write 0% to 100%",
            "6:53: upstreams[0].retries.idempotencyKey: `yes` is not known here; write true or false",
            "7:10: threads: `0` is out of bounds; write 1 to 64",
            "8:15: log.format: `xml` is not known here; write json or text",
            "8:27: log.level: `loud` is not known here; write error, warn, info, debug or trace",
            "8:41: log.access: `some` is not known here; write off, errors or all",
            "10:23: listeners[0].allowNonLoopback: `maybe` is not known here; write true or false",
            "11:27: listeners[0].limits.headerBytes: `32KB` is not a size; write bytes, KiB or MiB: \
             32768, 32KiB or 1MiB",
            "11:47: listeners[0].limits.headerFields: `0` is out of bounds; write 1 to 10000",
            "11:65: listeners[0].limits.headerTimeout: `0` is zero; write a duration \
             above zero, such as 5s (there is no \"no limit\" here; 24h comes near it)",
            "11:81: listeners[0].limits.idleTimeout: `1.5m` is not a duration; write one whole \
             number with its unit: 200ms, 5s, 1m or 1h",
            "11:100: listeners[0].limits.connections: `-1` is out of bounds; write 1 to 1000000",
            "13:27: listeners[1].limits.headerBytes: `2MiB` is out of bounds; write 8KiB to \
             1024KiB",
        ],
    )]);
}

#[test]
fn pool_numbers_mean_what_haproxy_users_expect() {
    let pool = |lines: &str| {
        accepted(&format!("{ONE}    pool: {lines}\n")).upstreams.remove(0).pool.clone()
    };
    let unlimited = pool("{maxIdle: -1, maxRequests: 0, reuse: always}");
    assert_eq!((unlimited.max_idle, unlimited.max_requests), (None, None));
    let none =
        pool("{maxIdle: 0, purgeDelay: 0, idleTimeout: 0, maxAge: 0, maxRequests: 1, maxQueue: 0}");
    assert_eq!((none.max_idle, none.purge_delay, none.max_queue), (Some(0), Duration::ZERO, 0));
    assert_eq!((none.idle_timeout, none.max_age), (Duration::ZERO, Duration::ZERO));
    assert_eq!(none.max_requests.map(u64::from), Some(1));
    assert_eq!(
        pool("{maxConnections: 1, maxIdle: 5}").max_idle,
        Some(5),
        "more than the cap is no contradiction"
    );
}

#[test]
fn a_budget_is_a_share_with_its_sign() {
    let retries = |text: &str| {
        let text = format!("    retries: {{budget: {text}, idempotencyKey: true}}");
        compile(&format!("upstreams:\n  - name: a\n    endpoints: [\"a.example:443\"]\n{text}"))
    };
    for (text, percent) in [("20%", 20), ("0%", 0), ("100%", 100), ("\"7%\"", 7)] {
        let settings = &retries(text).expect("a share").upstreams[0].retries;
        assert_eq!((settings.budget, settings.idempotency_key, settings.max), (percent, true, 2));
    }
    for text in ["101%", "-1%", "0.2", "20 %", "\"%\"", "1e1%", "99999999999999999999%"] {
        let message = retries(text).expect_err(text).findings()[0].message.clone();
        assert!(message.ends_with("is not a percentage; write 0% to 100%"), "{text}: {message}");
    }
}

#[test]
fn off_and_false_are_one_and_a_terminal_changes_defaults_only() {
    let log =
        |lines: &str, terminal| compile_for(&format!("{ONE}{lines}\n"), terminal).unwrap().log;
    assert_eq!(log("log: {access: off}", true).access, Access::Off);
    assert_eq!(log("log: {access: false}", true).access, Access::Off);
    let machine = log("", false);
    assert_eq!(
        (machine.format, machine.level, machine.access),
        (Format::Json, Level::Info, Access::Errors)
    );
    let person = log("", true);
    assert_eq!(
        (person.format, person.level, person.access),
        (Format::Text, Level::Info, Access::All)
    );
    let written = log("log: {format: json, access: errors}", true);
    assert_eq!((written.format, written.access), (Format::Json, Access::Errors));
}

#[test]
fn names_hosts_and_endpoints_are_checked_with_the_remedy() {
    let text = "\
upstreams:
  - {}
  - name: Payments
    endpoints: [\"https://x.example/a\"]
  - name: \
                b
    endpoints: [a.example]
  - name: b
    endpoints: [\"::1\"]
    hosts: [\"API.example:80\", \
                \"*.x\", \"::1\", \"a..b\", \"münchen.de\", \"a.example.\", \"http://x\", \"\"]
  - name: c
    endpoints: [\"c:0\"]
    hosts: []
  - name: d
    endpoints: [\"a b:443\"]
  - name: e
    endpoints: []
  - name: f
    endpoints: [\"f:65536\"]
    port: 65536
";
    assert_eq!(
        complaints(text),
        [
            "2:5: upstreams[0]: `name` is missing; write one, such as `name: payments`",
            "2:5: upstreams[0]: no endpoint is written; write one, such as `endpoints: \
             [\"api.payments.example:443\"]`",
            "3:11: upstreams[1].name: `Payments` is not a name; write 1 to 63 of a-z, 0-9 and -",
            "4:17: upstreams[1].endpoints[0]: `https://x.example/a` is a URL; write \"x.example:443\"",
            "6:17: upstreams[2].endpoints[0]: `a.example` has no port; write \"a.example:443\"",
            "7:11: upstreams[3].name: `b` is the name of upstreams[2] already; write another: \
             metrics are told apart by it",
            "8:17: upstreams[3].endpoints[0]: `::1` has no port; write \"[::1]:443\"",
            "9:13: upstreams[3].hosts[0]: `API.example:80` holds a port, and the port of a \
             request's Host is not looked at; write \"API.example\"",
            "9:31: upstreams[3].hosts[1]: `*.x` is not a host; write each name in full, or \"*\" for \
             all others",
            "9:38: upstreams[3].hosts[2]: `::1` is an IPv6 address; write \"[::1]\"",
            "9:45: upstreams[3].hosts[3]: `a..b` is not a host; write a DNS name, an IPv4 address, \
             or an IPv6 address in brackets",
            "9:53: upstreams[3].hosts[4]: `münchen.de` is not in ASCII; write internationalised \
             names as DNS holds them (xn--...)",
            "9:67: upstreams[3].hosts[5]: `a.example.` ends in a dot; write it without",
            "9:81: upstreams[3].hosts[6]: `http://x` is a URL; write the host alone, without \
             scheme and path",
            "9:93: upstreams[3].hosts[7]: `` is not a host; write a DNS name, an IPv4 address, or an \
             IPv6 address in brackets",
            "11:17: upstreams[4].endpoints[0]: `c:0` has no usable port; write HOST:PORT with a \
             port from 1 to 65535",
            "12:12: upstreams[4].hosts: no host is listed; write one, \"*\" for all others, or \
             leave `hosts` out for the endpoint's host",
            "14:17: upstreams[5].endpoints[0]: `a b:443` has no usable host; write a DNS name, an \
             IPv4 address, or an IPv6 address in brackets",
            "16:16: upstreams[6]: no endpoint is written; write one, such as `endpoints: \
             [\"api.payments.example:443\"]`",
            "18:17: upstreams[7].endpoints[0]: `f:65536` has no usable port; write HOST:PORT with \
             a port from 1 to 65535",
            "19:11: upstreams[7].port: `65536` is out of bounds; write 0 to 65535",
        ]
    );
}

#[test]
fn hosts_are_case_folded_and_default_to_the_endpoints_host() {
    let upstream = |endpoint: &str, rest: &str| {
        accepted(&format!("upstreams:\n  - name: a\n    endpoints: [\"{endpoint}\"]\n{rest}"))
            .upstreams
            .remove(0)
    };
    assert_eq!(upstream("API.Example.:443", "").hosts, ["api.example"]);
    assert_eq!(
        upstream("API.Example.:443", "").endpoint.to_string(),
        "api.example.:443",
        "the resolver sees the dot"
    );
    assert_eq!(upstream("[2001:DB8::0:1]:443", "").hosts, ["[2001:db8::1]"]);
    assert_eq!(upstream("192.0.2.1:443", "").hosts, ["192.0.2.1"]);
    let written = upstream("a:443", "    hosts: [\"*\", API.example, \"[::0:1]\", my_service]\n");
    assert_eq!(written.hosts, ["*", "api.example", "[::1]", "my_service"]);
}

#[test]
fn two_upstreams_cannot_claim_one_host() {
    let text = "\
upstreams:
  - {name: a, endpoints: [\"x.example:443\"]}
  - {name: b, endpoints: [\"X.example.:8443\"]}
  - {name: c, endpoints: [\"c:443\"], hosts: [X.EXAMPLE, c, C]}
  - {name: d, endpoints: [\"d:443\"], hosts: [\"*\", c]}
  - {name: e, endpoints: [\"e:443\"], hosts: [\"*\"]}
";
    assert_eq!(
        complaints(text),
        [
            "3:27: upstreams[1].hosts: `x.example`, the endpoint's host, would route here by \
             default, and routes to upstreams[0] already; write `hosts` to name them apart, such \
             as `hosts: [b.internal]`",
            "4:45: upstreams[2].hosts[0]: `x.example` routes to upstreams[0] already, as its \
             endpoint's host; write `hosts` there too, to name them apart",
            "4:59: upstreams[2].hosts[2]: `c` is listed twice; write it once",
            "5:50: upstreams[3].hosts[1]: `c` routes to upstreams[2] already; a host has one \
             upstream: remove it from one of them",
            "6:45: upstreams[4].hosts[0]: `*` routes to upstreams[3] already; a host has one \
             upstream: remove it from one of them",
        ]
    );
}

#[test]
fn an_address_is_listened_on_once() {
    let upstreams = |ports: &str| {
        let entry = |(index, port): (usize, &str)| {
            format!("  - {{name: u{index}, endpoints: [\"h{index}:443\"], port: {port}}}\n")
        };
        format!("upstreams:\n{}", ports.split(' ').enumerate().map(entry).collect::<String>())
    };
    assert_eq!(
        complaints(&upstreams("13401 13401 13301 13320 13321")),
        [
            "3:45: upstreams[1].port: 127.0.0.1:13401 is taken by upstreams[0].port \
             (127.0.0.1:13401); choose another port",
            "4:45: upstreams[2].port: 127.0.0.1:13301 is taken by the default of \
             listeners[0].bind (127.0.0.1:13301); choose another port",
            "5:45: upstreams[3].port: 127.0.0.1:13320 is taken by the default of metrics.bind \
             ([::]:13320); choose another port",
            "6:45: upstreams[4].port: 127.0.0.1:13321 is taken by the default of admin.bind \
             (127.0.0.1:13321); choose another port",
        ]
    );
    table(&[
        (
            "metrics: {bind: [\"127.0.0.1:13321\"]}",
            &["4:18: metrics.bind[0]: 127.0.0.1:13321 is taken by the default of admin.bind \
               (127.0.0.1:13321); choose another port"],
        ),
        (
            "listeners: [{}, {}]",
            &[
                "4:17: listeners[1].bind: 127.0.0.1:13301 is taken by listeners[0].bind \
                 (127.0.0.1:13301); choose another port",
                "4:17: listeners[1].bind: [::1]:13301 is taken by listeners[0].bind \
                 ([::1]:13301); choose another port",
            ],
        ),
        (
            "metrics: {bind: [\"0.0.0.0:1\", \"[::]:1\"]}",
            &["4:31: metrics.bind[1]: [::]:1 is taken by metrics.bind[0] (0.0.0.0:1); choose \
               another port"],
        ),
    ]);
    let free = accepted(&format!(
        "{}metrics: {{bind: [\"127.0.0.1:0\", \"127.0.0.1:0\"]}}\n",
        upstreams("0 0")
    ));
    assert_eq!(free.upstreams[1].port, Some(0), "port 0 is any free one");
}

#[test]
fn an_address_beyond_loopback_must_be_asked_for_explicitly() {
    table(&[
        (
            "admin: {bind: [\"0.0.0.0:13321\"]}",
            &["4:16: admin.bind[0]: 0.0.0.0:13321 is not loopback; write \"127.0.0.1:13321\" or \
               \"[::1]:13321\": administration is for this pod alone"],
        ),
        (
            "listeners: [{bind: [\"10.0.0.1:80\"]}]",
            &["4:21: listeners[0].bind[0]: 10.0.0.1:80 is not loopback; write \"127.0.0.1:80\" \
               or \"[::1]:80\", or set `allowNonLoopback: true` on this listener, and everybody \
               who reaches the address calls the upstreams with your identity"],
        ),
        (
            "listeners: [{bind: [\"localhost:80\", \":80\"]}]",
            &[
                "4:21: listeners[0].bind[0]: `localhost:80` is not an IP address with a port; write one \
                 such as \"127.0.0.1:13301\" or \"[::1]:13301\"",
                "4:37: listeners[0].bind[1]: `:80` is not an IP address with a port; write one such as \
                 \"127.0.0.1:13301\" or \"[::1]:13301\"",
            ],
        ),
        (
            "listeners: []",
            &["4:12: listeners: no listener is configured; write one, or leave `listeners` out \
               for the default"],
        ),
        (
            "metrics: {bind: []}",
            &["4:17: metrics.bind: no address is listed; write one, or leave `bind` out for \
               [::]:13320"],
        ),
    ]);
    let plan = accepted(&format!(
        "{ONE}listeners: [{{bind: [\"0.0.0.0:80\"], allowNonLoopback: true}}]\n"
    ));
    assert_eq!(plan.listeners[0].binds[0].address.to_string(), "0.0.0.0:80");
    let mapped = accepted(&format!(
        "{ONE}listeners: [{{bind: [\"[::ffff:127.0.0.1]:80\", \"127.9.9.9:80\"]}}]\n"
    ));
    assert!(mapped.listeners[0].binds.iter().all(|bind| bind.written));
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_key_that_names_them() {
    let missing = "cannot be read: No such file or directory (os error 2); name a PEM file that \
                   this process may read";
    let (crt, key) = ("/etc/warmline/identity/tls.crt", "/etc/warmline/identity/tls.key");
    let pair = |certificate: &str, key: &str| {
        complaints(&format!(
            "{ONE}    tls:\n      identity:\n        certificate: {certificate}\n        key: \
             {key}\n"
        ))
    };
    let at = |line_column: &str, key: &str, rest: &str| {
        [format!("{line_column}: upstreams[0].tls.identity.{key}: {rest}")]
    };
    assert_eq!(pair("/nope", key), at("6:22", "certificate", &format!("/nope: {missing}")));
    let in_pod = "/etc/warmline/identity/client.key";
    let create = "the Secret warmline-identity is not there or has no key client.key, or the container that fills this \
                  volume instead has not written it yet; create it, or name another PEM file that this process may read";
    let reason = "cannot be read: No such file or directory (os error 2)";
    assert_eq!(pair(crt, in_pod), at("7:14", "key", &format!("{in_pod}: {reason}; {create}")));
    assert_eq!(
        pair(crt, "nope"),
        at("7:14", "key", &format!("nope (relative to the working directory): {missing}"))
    );
    assert_eq!(
        pair(crt, "/other.key"),
        at(
            "7:14",
            "key",
            &format!(
                "/other.key with {crt}: the private key does not belong to the certificate: their \
                 public keys differ (give the key that the certificate was issued for)"
            )
        )
    );
    assert_eq!(
        pair("/empty", key),
        at(
            "6:22",
            "certificate",
            "/empty: it holds no certificate (the client certificate first, then its chain, in \
             PEM, is wanted)"
        )
    );
    assert_eq!(
        pair(crt, "/empty"),
        at(
            "7:14",
            "key",
            "/empty: it holds no private key (PKCS#8, PKCS#1 or SEC1, in PEM, not encrypted, is \
             wanted)"
        )
    );
    assert_eq!(
        pair("/expired.crt", key),
        at(
            "6:22",
            "certificate",
            "/expired.crt: the client certificate expired: its notAfter is 2025-01-01 00:00:00 \
             UTC (renew it)"
        )
    );
    assert_eq!(
        pair("/future.crt", key),
        at(
            "6:22",
            "certificate",
            "/future.crt: the client certificate is not valid yet: its notBefore is 2027-01-01 \
             00:00:00 UTC (or this machine's clock is wrong)"
        )
    );
    assert!(
        pair(crt, "/encrypted.key")[0]
            .contains("/encrypted.key: line 1: the private key is encrypted")
    );
    table(&[
        ("    tls: {trust: /nope}", &[&format!("4:18: upstreams[0].tls.trust: /nope: {missing}")]),
        (
            "    tls: {trust: /empty}",
            &["4:18: upstreams[0].tls.trust: /empty: it holds no certificate (a PEM bundle of CA \
               certificates, or the server's own, is wanted)"],
        ),
        (
            "    tls: {identity: {bundle: /other.key}}",
            &["4:30: upstreams[0].tls.identity.bundle: /other.key: it holds no certificate (the \
               client certificate first, then its chain, in PEM, is wanted)"],
        ),
    ]);
}

#[test]
fn an_identity_is_a_pair_or_a_bundle() {
    let remedy = "write `certificate` and `key`, or `bundle` alone";
    for (identity, wrong) in [
        ("{certificate: /bundle}", "`key` is missing"),
        ("{key: /bundle}", "`certificate` is missing"),
        ("{}", "no file is named"),
        (
            "{bundle: /bundle, key: /bundle}",
            "`bundle` cannot be combined with `certificate` or `key`",
        ),
    ] {
        let found = complaints(&format!("{ONE}    tls: {{identity: {identity}}}\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with(&format!("upstreams[0].tls.identity: {wrong}; {remedy}")),
            "{found:?}"
        );
    }
    let bundle = accepted(&format!("{ONE}    tls: {{identity: {{bundle: /bundle}}}}\n"));
    assert_eq!(bundle.upstreams[0].tls.identity.as_ref().unwrap().chain().len(), 1);
    assert_eq!(accepted(ONE).upstreams[0].tls.identity, None, "one-way TLS");
}

#[test]
fn key_material_in_the_configuration_is_never_repeated() {
    let pem =
        "-----BEGIN PRIVATE KEY-----\n          c2VjcmV0\n          -----END PRIVATE KEY-----";
    for key in ["trust", "serverName", "minVersion"] {
        let errors = compile(&format!("{ONE}    tls:\n      {key}: |\n          {pem}\n"))
            .unwrap_err()
            .to_string();
        assert!(errors.contains(key) && !errors.contains("c2VjcmV0"), "{errors}");
    }
}

#[test]
fn fault_36_a_password_in_the_configuration_is_never_repeated() {
    let without = "a user or password stands before an @; write the host without them: a request carries them in its \
                   Authorization field";
    for (line, told) in [
        ("endpoints: [\"me:se/cret@a.example:443\"]", without),
        ("endpoints: [me:secret@a.example:443]", without),
        ("endpoints: [\"https://me:secret@a.example:443\"]", without),
        ("hosts: [\"me:secret@a.example\"]", without),
        ("proxy: \"http://me:secret@proxy.example:3128\"", "goes through no HTTP proxy"),
        ("proxi: http://me:se@cret@proxy.example", "`proxi` is not a key here"),
        ("tls: {verifyName: \"https://me:secret@a.example\"}", "is not a DNS name"),
        ("port: \"me:secret@1\"", "is not a whole number"),
    ] {
        let text = format!("upstreams:\n  - name: a\n    {line}\n");
        let errors = compile(&text).unwrap_err().to_string();
        assert!(errors.contains(told) && !errors.contains("cret"), "{errors}");
    }
    let errors =
        compile("upstreams:\n  - naem: http://me:secret@a  # b@c\n").unwrap_err().to_string();
    assert!(errors.contains("\n    - naem: http:...........@a  # b@c\n      ^"), "{errors}");
}

#[test]
fn an_endpoint_that_is_a_port_alone_lacks_its_host() {
    let complaints = complaints("upstreams: [{name: a, endpoints: [443]}]");
    assert_eq!(complaints, ["1:35: upstreams[0].endpoints[0]: `443` has no host; write HOST:PORT"]);
}

#[test]
fn there_is_always_a_name_to_verify() {
    let name = |name: &str| Some(DnsName::try_from(name.to_owned()).unwrap());
    let verify = |name: &str| ServerName::try_from(name.to_owned()).unwrap();
    for (endpoint, tls, sni, verified) in [
        ("API.example.:443", "{}", name("api.example"), "api.example"),
        ("api.example:443", "{serverName: S.example}", name("s.example"), "s.example"),
        (
            "api.example:443",
            "{serverName: s.example, verifyName: v.example}",
            name("s.example"),
            "v.example",
        ),
        ("api.example:443", "{serverName: none}", None, "api.example"),
        ("api.example:443", "{serverName: none, verifyName: 192.0.2.1}", None, "192.0.2.1"),
        ("192.0.2.1:443", "{}", None, "192.0.2.1"),
        ("[2001:db8::1]:443", "{verifyName: \"[2001:db8::1]\"}", None, "2001:db8::1"),
        ("192.0.2.1:443", "{serverName: s.example}", name("s.example"), "s.example"),
    ] {
        let plan = accepted(&format!(
            "upstreams:\n  - name: a\n    endpoints: [\"{endpoint}\"]\n    tls: {tls}\n"
        ));
        let settings = &plan.upstreams[0].tls;
        assert_eq!(
            (&settings.server_name, &settings.verify_name),
            (&sni, &verify(verified)),
            "{endpoint} {tls}"
        );
    }
    table(&[
        (
            "    tls: {serverName: 10.0.0.1}",
            &["4:23: upstreams[0].tls.serverName: `10.0.0.1` is an address, and SNI carries \
               names only (RFC 6066); write none here, and the address as `verifyName`"],
        ),
        (
            "    tls: {serverName: \"*.x\"}",
            &[
                "4:23: upstreams[0].tls.serverName: `*.x` is not a DNS name; write the name to send \
               as SNI, or none to send none",
            ],
        ),
        (
            "    tls: {verifyName: off}",
            &["4:23: upstreams[0].tls.verifyName: `off` would turn verification off, and nothing \
               does; write the name that the certificate carries"],
        ),
        (
            "    tls: {verifyName: a/b}",
            &[
                "4:23: upstreams[0].tls.verifyName: `a/b` is not a DNS name or IP address; write one \
               that the certificate carries",
            ],
        ),
        (
            "    tls: {minVersion: 1.1}",
            &[
                "4:23: upstreams[0].tls.minVersion: `1.1` is not a TLS version that Warmline speaks; \
               write \"1.2\" or \"1.3\"",
            ],
        ),
    ]);
    let version = |text: &str| {
        accepted(&format!("{ONE}    tls: {{minVersion: {text}}}\n")).upstreams[0].tls.min_version
    };
    assert_eq!(
        [version("1.2"), version("\"1.3\""), version("1.3")],
        [MinVersion::Tls12, MinVersion::Tls13, MinVersion::Tls13]
    );
}

#[test]
fn trust_is_read_once_for_all_upstreams_that_name_it() {
    let text = "\
upstreams:
  - {name: a, endpoints: [\"a:443\"]}
  - {name: b, endpoints: [\"b:443\"]}
  - {name: c, endpoints: [\"c:443\"], tls: {trust: /bundle}}
";
    let plan = accepted(text);
    let trust = |index: usize| &plan.upstreams[index].tls.trust;
    assert!(Arc::ptr_eq(trust(0), trust(1)));
    assert_eq!(**trust(0), WORLD.roots, "the system's roots are the default");
    assert_eq!(trust(2).certificates().len(), 1);
}

#[test]
fn anchors_aliases_and_merge_keys_work_and_errors_point_at_their_use() {
    let text = "\
upstreams:
  - {name: a, endpoints: [\"a:443\"], pool: &pool {maxIdle: 5}}
  - {name: b, endpoints: [\"b:443\"], pool: *pool}
  - {name: c, endpoints: [\"c:443\"], pool: {<<: *pool, maxQueue: 1}}
";
    let plan = accepted(text);
    assert!(plan.upstreams.iter().all(|upstream| upstream.pool.max_idle == Some(5)));
    let found = complaints(&text.replace("maxIdle: 5", "maxIdle: x"));
    let places: Vec<_> =
        found.iter().map(|complaint| complaint.split(": ").take(2).collect::<Vec<_>>()).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(places[0], ["2:59", "upstreams[0].pool.maxIdle"]);
    assert_eq!(places.iter().map(|place| place[1]).collect::<BTreeSet<_>>().len(), 3, "{found:?}");
}

#[test]
fn the_example_is_accepted_and_writes_out_every_default() {
    let example = accepted(config::example());
    let minimal = accepted(
        "upstreams:
  - name: payments
    endpoints: [\"api.payments.example:443\"]
    port: 13401
    tls:
      trust: /etc/warmline/trust/ca.crt
      identity: {certificate: /etc/warmline/identity/tls.crt, key: /etc/warmline/identity/tls.key}
",
    );
    assert!(example.metrics[0].written && !minimal.metrics[0].written);
    assert_eq!(all_binds_by_default(example), minimal);
}

fn all_binds_by_default(mut plan: Plan) -> Plan {
    let listeners = plan.listeners.iter_mut().flat_map(|listener| &mut listener.binds);
    listeners.chain(&mut plan.metrics).chain(&mut plan.admin).for_each(|bind| bind.written = false);
    plan
}

#[test]
fn schema_and_example_know_the_same_keys() {
    fn of_schema(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
        for (key, below) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            keys.insert(format!("{path}.{key}"));
            of_schema(below, &format!("{path}.{key}"), keys);
        }
        if let Some(items) = schema.get("items") {
            of_schema(items, path, keys);
        }
        let closed = schema.get("properties").is_none() || schema["additionalProperties"] == false;
        assert!(closed, "{path} takes unknown keys");
        assert!(!schema.to_string().contains("\"null\""), "{path} takes null: {schema}");
    }
    fn of_document(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
        for (key, below) in value.as_object().into_iter().flatten() {
            keys.insert(format!("{path}.{key}"));
            of_document(below, &format!("{path}.{key}"), keys);
        }
        for element in value.as_array().into_iter().flatten() {
            of_document(element, path, keys);
        }
    }
    let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
    of_schema(&config::schema(), "", &mut known);
    of_document(&serde_yaml::from_str(config::example()).unwrap(), "", &mut written);
    assert!(
        known.remove(".upstreams.tls.identity.bundle"),
        "the example has the pair in its place"
    );
    assert_eq!(known, written);
}

#[test]
fn the_hash_is_the_beginning_of_sha_256() {
    assert_eq!(config::hash("abc"), "ba7816bf8f01cfea");
}

/// A command line with `warmline check` as its only subcommand.
#[derive(Parser)]
struct Check {
    #[command(flatten)]
    arguments: check::Arguments,
}

fn check(arguments: &[&str]) -> Result<String, String> {
    let parsed = Check::try_parse_from(["check"].iter().chain(arguments));
    let check = parsed.map_err(|error| error.to_string())?;
    check::answer(&check.arguments).map_err(|errors| errors.to_string())
}

/// Writes the example and all files that it names into a directory of their own; returns the directory and the
/// example's text.
fn example_on_disk() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let key = KeyPair::generate().unwrap();
    for (file, content) in [
        ("trust/ca.crt", certificate(&key, (2020, 2999))),
        ("identity/tls.crt", certificate(&key, (2020, 2999))),
        ("identity/tls.key", key.serialize_pem()),
        ("warmline.yaml", config::example().replace("/etc/warmline", root)),
    ] {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let file = format!("{root}/warmline.yaml");
    (directory, file)
}

#[test]
fn check_says_in_its_first_line_what_was_accepted() {
    let (_directory, file) = example_on_disk();
    let said = check(&[&file]).unwrap();
    assert_eq!(
        said.lines().next().map(|line| format!("{line}\n")),
        Some(format!(
            "{file}: accepted: 1 upstream on 127.0.0.1:13301, [::1]:13301; payments (host \
             api.payments.example, port 13401) to api.payments.example:443\n"
        ))
    );
}

#[test]
fn check_ends_with_status_2_where_run_would_not_start() {
    let (directory, file) = example_on_disk();
    let run = |file: &str| check::run(&Check::try_parse_from(["check", file]).unwrap().arguments);
    assert_eq!(run(&file), ExitCode::SUCCESS);
    fs::remove_file(directory.path().join("identity/tls.key")).unwrap();
    assert_eq!(run(&file), ExitCode::from(2));
    assert_eq!(run("/nowhere.yaml"), ExitCode::from(2));
}

#[test]
fn check_prints_the_example_or_the_schema_and_wants_exactly_one_argument() {
    assert_eq!(check(&["--example"]).as_deref(), Ok(config::example()));
    assert_eq!(
        serde_json::from_str::<Value>(&check(&["--schema"]).unwrap()).unwrap(),
        config::schema()
    );
    assert!(check(&[]).is_err());
    assert!(check(&["--schema", "--example"]).is_err());
}

#[test]
fn a_file_is_loaded_with_the_hash_of_its_text() {
    let (_directory, file) = example_on_disk();
    let loaded = config::Source::file(Path::new(&file)).load(None).unwrap();
    assert_eq!(loaded.plan.upstreams[0].name, "payments");
    assert_eq!(loaded.text, fs::read_to_string(&file).unwrap());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.yaml");
    let error = || {
        config::Source::file(&path)
            .load(None)
            .unwrap_err()
            .errors
            .to_string()
            .replace(path.to_str().unwrap(), "FILE")
    };
    let remedy = "name a YAML file that this process may read";
    assert_eq!(
        error(),
        format!("FILE: cannot be read: No such file or directory (os error 2); {remedy}")
    );
    fs::write(&path, [0xff]).unwrap();
    assert_eq!(error(), "FILE: cannot be read: it is not UTF-8; save it as UTF-8");
    fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(error(), "FILE: cannot be read: it is larger than 1 MiB; make it smaller");
}

/// Compiles the text; if that fails, the errors have to be presentable.
fn compile_and_show(text: &str) {
    if let Err(errors) = compile(text) {
        assert!(!errors.to_string().is_empty());
        assert!(!errors.findings().is_empty());
    }
}

proptest! {
    #[test]
    fn any_text_ends_in_a_plan_or_in_errors(text in any::<String>()) {
        compile_and_show(&text);
    }

    #[test]
    fn any_value_anywhere_ends_in_a_plan_or_in_errors(
        line in 0_usize..70, value in "[\\PC\n]{0,20}",
    ) {
        let mut lines: Vec<_> = config::example().lines().map(ToOwned::to_owned).collect();
        let index = line % lines.len();
        let key = lines[index].split_inclusive(": ").next().unwrap_or_default().to_owned();
        lines[index] = format!("{key}{value}");
        compile_and_show(&lines.join("\n"));
    }

    #[test]
    fn any_damage_to_the_example_ends_in_a_plan_or_in_errors(
        from in 0_usize..4096,
        length in 0_usize..40,
        with in "[-\\[\\]{}:,&*!|>'\"%@`#?~ \ta0\n]{0,6}",
    ) {
        let characters: Vec<char> = config::example().chars().collect();
        let from = from % characters.len();
        let to = (from + length).min(characters.len());
        let [before, after] = [&characters[..from], &characters[to..]].map(String::from_iter);
        compile_and_show(&format!("{before}{with}{after}"));
    }
}

#[test]
fn an_ipv6_endpoint_without_brackets_is_told_with_its_port_taken_apart() {
    for (written, meant) in [
        ("::1:443", "needs brackets around its address; write \"[::1]:443\", or \"[::1:443]:443\""),
        ("2001:db8::5:8443", "write \"[2001:db8::5]:8443\", or \"[2001:db8::5:8443]:443\""),
        ("2001:db8::5:abc", "has no port; write \"[2001:db8::5:abc]:443\""),
    ] {
        let text = format!("upstreams: [{{ name: a, endpoints: [\"{written}\"] }}]\n");
        let complaints = complaints(&text);
        assert!(complaints[0].contains(meant), "{complaints:?}");
    }
}

#[test]
fn a_port_is_suggested_for_an_endpoint_only_if_the_rest_is_a_host() {
    for (written, told) in [
        ("a.example", "has no port; write \"a.example:443\""),
        ("[::1]", "has no port; write \"[::1]:443\""),
        ("a b", "`a b` has no usable host and no port; write a DNS name"),
        ("a!", "`a!` has no usable host and no port; write a DNS name"),
    ] {
        let text = format!("upstreams: [{{ name: a, endpoints: [\"{written}\"] }}]\n");
        let complaints = complaints(&text);
        assert!(complaints[0].contains(told), "{complaints:?}");
    }
}

#[test]
fn a_confined_configuration_neither_opens_the_process_nor_reads_what_is_not_its_own() {
    let confined = |text: &str| config::compile(text, &Context { confined: true, ..context() });
    confined(config::example()).expect("the example asks for nothing of the kind");
    let text = "\
metrics: {bind: [\"127.0.0.1:9100\"]}
admin: {bind: [\"127.0.0.1:9101\"]}
listeners: [{bind: [\"0.0.0.0:13301\"], allowNonLoopback: true}]
upstreams:
  - name: a
    endpoints: [\"a.example:443\"]
    tls:
      trust: /etc/warmline/../shadow
      identity: {certificate: /etc/warmline/identity/tls.crt, key: /other.key}
  - name: b
    endpoints: [\"b.example:443\"]
    tls: {trust: trust/ca.crt, identity: {bundle: /bundle}}
";
    let remedy = "is not under /etc/warmline/, and this process reads nothing else (`--confined`); mount the file there \
                  and write its path without `..`";
    let not_here = "not with `--confined`, under which this process runs";
    assert_eq!(
        listed(&confined(text).expect_err("it asks for too much")),
        [
            format!("1:18: metrics.bind[0]: {not_here}; take it out, for [::]:13320"),
            format!("2:16: admin.bind[0]: {not_here}; take it out, for 127.0.0.1:13321"),
            format!(
                "3:57: listeners[0].allowNonLoopback: {not_here}: traffic comes from this pod alone; take it out"
            ),
            format!("8:14: upstreams[0].tls.trust: /etc/warmline/../shadow {remedy}"),
            format!("9:68: upstreams[0].tls.identity.key: /other.key {remedy}"),
            format!("12:18: upstreams[1].tls.trust: trust/ca.crt {remedy}"),
            format!("12:51: upstreams[1].tls.identity.bundle: /bundle {remedy}"),
        ]
    );
}

#[test]
fn errors_of_files_alone_are_told_apart_from_those_of_the_text() {
    let with = |tls: &str, more: &str| {
        let text = format!(
            "upstreams: [{{ name: a, endpoints: [\"a.example:443\"], tls: {tls}{more} }}]\n"
        );
        compile(&text).expect_err(&text).only_files()
    };
    let missing =
        "{ trust: /not/there, identity: { certificate: /not/there.crt, key: /not/there.key } }";
    assert!(with(missing, ""));
    assert!(with("{ identity: { certificate: /expired.crt, key: /other.key } }", ""));
    assert!(!with(missing, ", pool: { maxIdle: many }"));
    assert!(!with("{ identity: { certificate: /not/there.crt } }", ""), "a key is left out");
    assert!(!with("7", ""), "an error of structure");
}

/// Writes a file beside the example of [`example_on_disk`] and returns its path.
fn put(directory: &tempfile::TempDir, name: &str, content: &str) -> String {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn fault_05_check_prints_how_many_certificates_it_read_and_which_key() {
    let (directory, file) = example_on_disk();
    let root = directory.path().to_str().unwrap();
    let said = check(&[&file]).unwrap();
    let lines: Vec<_> = said.lines().skip(1).collect();
    assert_eq!(lines[0], format!("{root}/trust/ca.crt: 1 trusted certificate"));
    assert_eq!(
        lines[1],
        format!(
            "{root}/identity/tls.crt: 1 certificate: CN=rcgen self signed cert, until 2999-01-01 00:00:00 UTC; \
             {root}/identity/tls.key: ECDSA P-256"
        )
    );
    assert_eq!(lines.len(), 2, "{said}");
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (short, long) = (certificate(&key, (2020, 2998)), certificate(&key, (2020, 2999)));
    put(
        &directory,
        "identity/tls.crt",
        &format!("{short}{}{long}", certificate(&other, (2020, 2999))),
    );
    put(&directory, "identity/tls.key", &key.serialize_pem());
    put(&directory, "trust/ca.crt", &format!("{}{short}{}", long.trim_end(), key.serialize_pem()));
    let said = check(&[&file]).unwrap();
    assert!(said.contains("trust/ca.crt: 2 trusted certificates\n"), "{said}");
    assert!(said.contains("tls.crt: 3 certificates, 1 of them sent: "), "{said}");
    assert!(said.contains("until 2999-01-01"), "{said}");
    let line = format!("{long}{short}").lines().count();
    assert!(
        said.contains(&format!("warning: {root}/trust/ca.crt: line {line}: a private key")),
        "{said}"
    );
}

#[test]
fn fault_05_a_part_that_would_be_lost_is_refused_at_the_key_that_names_the_file() {
    let key = KeyPair::generate().unwrap();
    let world = |content: &str| World {
        files: BTreeMap::from([("/file", content.to_owned())]),
        roots: WORLD.roots.clone(),
    };
    let found = |key: &str, content: &str| {
        let world = world(content);
        let text = format!("{ONE}    tls: {{{key}}}\n");
        let errors = config::compile(&text, &Context { files: &world, ..context() }).unwrap_err();
        listed(&errors).remove(0)
    };
    let whole = certificate(&key, (2020, 2030));
    let damaged = format!("{whole}{}", whole.replace("-----BEGIN", "----BEGIN"));
    let line = whole.lines().count() + 1;
    for (key, path) in [("trust: /file", "trust"), ("identity: {bundle: /file}", "identity.bundle")]
    {
        let found = found(key, &damaged);
        let says = format!(
            "upstreams[0].tls.{path}: /file: line {line}: this looks like a BEGIN or END line"
        );
        assert!(found.contains(&says), "{found}");
    }
}

#[test]
fn fault_14_an_expired_certificate_in_trust_is_a_warning_of_check() {
    let (directory, file) = example_on_disk();
    let (old, new) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let trust = format!("{}{}", certificate(&new, (2020, 2999)), certificate(&old, (2019, 2020)));
    let path = put(&directory, "trust/ca.crt", &trust);
    let said = check(&[&file]).unwrap();
    let warning = format!(
        "warning: {path}: certificate 2 (CN=rcgen self signed cert) expired on 2020-01-01 00:00:00 UTC; a server that \
         shows it is refused: put the server's new certificate in its place\n"
    );
    assert!(said.ends_with(&warning), "{said}");
}

#[test]
fn a_client_certificate_near_its_end_is_a_warning_of_check() {
    let (_directory, file) = example_on_disk();
    let loaded = config::Source::file(Path::new(&file)).load(None).unwrap();
    let warned = |now| config::warnings(&loaded, &file, now);
    let end = loaded.plan.credentials.identities.values().next().unwrap().not_after();
    let day = Duration::from_hours(24);
    assert_eq!(warned(end - 15 * day), Vec::<String>::new());
    let near = warned(end - 13 * day);
    let told = "tls.crt: the client certificate ends on 2999-01-01 00:00:00 UTC; renew it before";
    assert!(near.len() == 1 && near[0].ends_with(told), "{near:?}");
}

/// Returns the warnings of `check` about a configuration whose one upstream has these keys, without their places.
fn warned(upstream: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("upstreams:\n  - {{name: a, {upstream}}}\n");
    let file = put(&directory, "w.yaml", &text);
    let said = check(&[&file, "--without-files"]).unwrap_or_else(|errors| panic!("{errors}"));
    warnings_in(&said).into_iter().map(|(_, warning)| warning).collect()
}

/// Returns each warning about a key: its line and column in a file `w.yaml`, and the rest of its text.
fn warnings_in(said: &str) -> Vec<(String, String)> {
    let warnings = said.lines().filter_map(|line| line.strip_prefix("warning: "));
    let placed = warnings.map(|line| {
        let (_, placed) = line.split_once("w.yaml:").expect("a place");
        let (place, warning) = placed.split_once(": ").expect("a warning behind its place");
        (place.into(), warning.into())
    });
    placed.collect()
}

#[test]
fn fault_20_a_warning_has_the_place_of_its_key_or_of_the_nearest_one_around_it() {
    let directory = tempfile::tempdir().unwrap();
    let text = "# A comment\nupstreams:\n  - name: a\n    hosts:\n      - payments\n    endpoints: [\"a.example:1\"]\n  \
                - name: b\n    endpoints: [\"192.0.2.1:1\"]\n    tls: {verifyName: b.example}\n  - endpoints: [\"192.0.2.2:1\"]\n    name: c\n";
    let file = put(&directory, "w.yaml", text);
    let said = check(&[&file, "--without-files"]).unwrap();
    let begin = |(place, warning): (String, String)| {
        format!("{place}: {}", warning.split_once(':').expect("a path").0)
    };
    let found: Vec<_> = warnings_in(&said).into_iter().map(begin).collect();
    assert_eq!(
        found,
        [
            "5:7: upstreams[0].hosts",
            "9:10: upstreams[1].tls.serverName",
            "10:5: upstreams[2].tls.serverName"
        ]
    );
    assert!(said.contains(&format!("warning: {file}:5:7: upstreams[0].hosts: ")), "{said}");
}

#[test]
fn fault_20_check_warns_where_hosts_differ_from_the_server_name() {
    let endpoint = "endpoints: [\"api.example:443\"]";
    for fine in [
        "",
        ", hosts: [API.example]",
        ", hosts: [x, api.example]",
        ", hosts: [\"*\"]",
        ", tls: {serverName: none}",
    ] {
        assert_eq!(warned(&format!("{endpoint}{fine}")), [""; 0], "{fine}");
    }
    for wrong in [", hosts: [payments, other]", ", hosts: [\"*\", payments]"] {
        let warned = warned(&format!("{endpoint}{wrong}"));
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(
            warned[0]
                .starts_with("upstreams[0].hosts: requests go up with the Host `payments` and"),
            "{warned:?}"
        );
        assert!(warned[0].contains("add `api.example` to `hosts`"), "{warned:?}");
    }
    let warned = warned(&format!("{endpoint}, tls: {{serverName: inner.example}}"));
    assert!(warned[0].contains("`tls.serverName: api.example`"), "{warned:?}");
}

#[test]
fn fault_20_a_warning_offers_only_what_check_accepts_without_it() {
    for address in ["192.0.2.1", "[2001:db8::1]"] {
        let endpoint = format!("endpoints: [\"{address}:443\"]");
        let found = warned(&format!("{endpoint}, tls: {{serverName: b.example}}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].ends_with("add `b.example` to `hosts`, as the first, unless it takes both"),
            "no address is offered as a server name: {found:?}"
        );
        let hosts = format!("hosts: [b.example, \"{address}\"]");
        assert_eq!(
            warned(&format!("{endpoint}, {hosts}, tls: {{serverName: b.example}}")),
            [""; 0]
        );
    }
    let taken = "endpoints: [\"b.example:443\"]}\n  - {name: b, endpoints: [\"";
    let found = warned(&format!("{taken}c.example:443\"], tls: {{serverName: b.example}}"));
    assert!(
        found.len() == 1
            && found[0].ends_with(": write `tls.serverName: c.example`, unless it takes both"),
        "a host of another upstream is not offered: {found:?}"
    );
    let found = warned(&format!("{taken}192.0.2.1:443\"], tls: {{serverName: b.example}}"));
    assert!(found[0].ends_with("ask its operator whether it takes both"), "{found:?}");
}

#[test]
fn check_warns_of_settings_that_contradict_each_other() {
    let name = "endpoints: [\"api.example:443\"]";
    for fine in [
        "pool: {minIdle: 2}",
        "pool: {reuse: never}",
        "pool: {priority: Priority}",
        "hosts: [\"*\"]",
    ] {
        assert_eq!(warned(&format!("{name}, {fine}")), [""; 0], "{fine}");
    }
    let address = "endpoints: [\"192.0.2.1:443\"], tls: {serverName: none}";
    assert_eq!(warned(&format!("{address}, hosts: [a.example, \"*\"]")), [""; 0]);
    for (upstream, begins, says) in [
        (
            format!("{name}, pool: {{minIdle: 2, reuse: never}}"),
            "upstreams[0].pool.minIdle: 2 idle connections",
            "leave one of the two out",
        ),
        (
            format!("{name}, pool: {{priority: High}}"),
            "upstreams[0].pool.priority: requests are ordered by a field of the name `high`",
            "such as Priority, or off",
        ),
        (
            format!("{address}, hosts: [\"*\"]"),
            "upstreams[0].hosts: requests to the upstream's own port go up with the Host `192.0.2.1`",
            "add the name that the server serves",
        ),
    ] {
        let found = warned(&upstream);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(begins) && found[0].contains(says), "{found:?}");
    }
}

#[test]
fn check_warns_of_a_trusted_leaf_that_a_ca_issued_and_not_of_a_server_that_signs_itself() {
    let (directory, file) = example_on_disk();
    let mut params = CertificateParams::new(["ca.example".into()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the CA");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["a.example".into()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap().pem();
    let own = certificate(&KeyPair::generate().unwrap(), (2020, 2999));
    put(&directory, "trust/ca.crt", &format!("{ca}{own}"));
    assert!(!check(&[&file]).unwrap().contains("warning: "));
    let path = put(&directory, "trust/ca.crt", &format!("{ca}{own}{leaf}"));
    let said = check(&[&file]).unwrap();
    let told = format!("warning: {path}: certificate 3 (");
    assert!(said.contains(&told) && said.contains("a CA issued it"), "{said}");
}

#[test]
fn fault_20_check_warns_where_an_address_has_no_server_name() {
    for (host, endpoint) in [("192.0.2.1", "192.0.2.1:443"), ("2001:db8::1", "[2001:db8::1]:443")] {
        let endpoint = format!("endpoints: [\"{endpoint}\"]");
        let warned = |more: &str| warned(&format!("{endpoint}{more}"));
        let found = warned("");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("upstreams[0].tls.serverName: the endpoint is an address"),
            "{found:?}"
        );
        assert!(found[0].contains(&format!("the certificate must carry {host};")), "{found:?}");
        for verify in ["192.0.2.2", "2001:db8::2", "a.example"] {
            let found = warned(&format!(", tls: {{verifyName: \"{verify}\"}}"));
            assert_eq!(found.len(), 1, "{verify}: {found:?}");
            let says = format!("the certificate must carry {verify};");
            assert!(found[0].contains(&says), "{found:?}");
            let none = format!(", tls: {{serverName: none, verifyName: \"{verify}\"}}");
            assert_eq!(warned(&none), [""; 0]);
        }
        assert_eq!(warned(", hosts: [a.example], tls: {serverName: a.example}"), [""; 0]);
        assert_eq!(warned(", tls: {serverName: none}"), [""; 0]);
    }
}

#[test]
fn fault_20_keys_of_http_proxies_are_told_what_this_version_does() {
    for key in ["proxy", "httpProxy", "https_proxy", "via", "noProxy"] {
        let found = complaints(&format!("{ONE}    {key}: \"http://proxy.example:3128\"\n"));
        assert!(found[0].contains("goes through no HTTP proxy"), "{found:?}");
    }
}

#[test]
fn fault_20_check_reads_no_files_where_they_are_elsewhere() {
    let (directory, file) = example_on_disk();
    fs::remove_dir_all(directory.path().join("identity")).unwrap();
    fs::remove_dir_all(directory.path().join("trust")).unwrap();
    assert!(check(&[&file]).unwrap_err().contains("cannot be read"));
    let said = check(&[&file, "--without-files"]).unwrap();
    assert!(said.contains("accepted: 1 upstream"), "{said}");
    assert!(said.contains("certificates and keys were not read (--without-files)\n"), "{said}");
    assert!(!said.contains("trusted certificate"), "{said}");
    let text = format!("{}\ndrian: 5s\n", fs::read_to_string(&file).unwrap());
    let wrong = put(&directory, "wrong.yaml", &text);
    assert!(check(&[&wrong, "--without-files"]).is_err(), "values are judged all the same");
    assert!(check(&["--without-files"]).is_err(), "a file is needed");
    assert!(check(&["--schema", "--without-files"]).is_err());
}

#[test]
fn fault_20_wrong_keys_and_wrong_values_come_together() {
    table(&[(
        "    pool: {maxIdl: 5, maxQueue: x}
    portt: {a: 1}
threads: many
driain: 5s",
        &[
            "4:12: upstreams[0].pool.maxIdl: `maxIdl` is not a key here; did you mean `maxIdle`?",
            "4:33: upstreams[0].pool.maxQueue: `x` is not a whole number; write one from 0 to 1000000",
            "5:5: upstreams[0].portt: `portt` is not a key here; did you mean `port`?",
            "6:10: threads: `many` is not a whole number; write one from 1 to 64",
            "7:1: driain: `driain` is not a key here; did you mean `drain`?",
        ],
    )]);
    let both = complaints(&format!("{ONE}    foo: 1\n    pool: [1]\n"));
    assert_eq!(both.len(), 2, "an error of structure comes beside them: {both:?}");
}

#[test]
fn fault_39_tags_are_refused() {
    for (lines, at, tag) in [
        ("drain: !!python/object/apply:os.system 5s", "4:8", "!!python/object/apply:os.system"),
        ("drain: !mine 5s", "4:8", "!mine"),
        ("drain: ! 5s", "4:8", "!"),
        ("drain: !!str 5s", "4:8", "!!str"),
        ("drain: !!binary NXM=", "4:8", "!!binary"),
        ("drain: !!binary x", "4:8", "!!binary"),
        ("drain: &a !!str 5s", "4:11", "!!str"),
        ("drain: !<tag:yaml.org,2002:str> 5s", "4:8", "!<tag:yaml.org,2002:str>"),
        ("threads: !!int 5", "4:10", "!!int"),
        ("threads: !!int x", "4:10", "!!int"),
        ("threads: !!float 5", "4:10", "!!float"),
        ("threads: !!null", "4:10", "!!null"),
        ("listeners: [{explain: !!bool true}]", "4:23", "!!bool"),
        ("log: !!map {level: info}", "4:6", "!!map"),
        ("log: !!map\n  level: info", "4:6", "!!map"),
        ("log: !!map x", "4:6", "!!map"),
        ("    hosts: !!seq [a]", "4:12", "!!seq"),
        ("    hosts: [a, !!str b]", "4:16", "!!str"),
        ("!!str drain: 5s", "4:1", "!!str"),
        ("    pool: !mine {maxIdle: 1}", "4:11", "!mine"),
        ("    pool: {!!str maxIdle: 1}", "4:12", "!!str"),
        ("    hosts: !!set [a]", "4:12", "!!set"),
        ("    tls: {trust: !include /bundle}", "4:18", "!include"),
        ("    tls: {trust: !!binary L2V0Yy9ob3N0bmFtZQ==}", "4:18", "!!binary"),
        ("log: !<tag:example.com,2000:x> {}", "4:6", "!<tag:example.com,2000:x>"),
        ("!mine drain: 5s", "4:1", "!mine"),
    ] {
        let said = format!(
            "{at}: : the tag `{tag}` is not read here; write the key or value alone, without a tag (text that begins with ! \
             needs quotes)"
        );
        assert_eq!(complaints(&format!("{ONE}{lines}\n")), [said], "{lines}");
    }
    let whole = complaints(&format!("--- !!map\n{ONE}"));
    assert!(whole[0].starts_with("1:5: : the tag `!!map`"), "{whole:?}");
    let renamed = complaints(&format!("%TAG !y! tag:yaml.org,2002:\n---\n{ONE}drain: !y!str 5s\n"));
    assert!(renamed[0].starts_with("6:8: : the tag `!y!str`"), "{renamed:?}");
    for fine in ["drain: '5s' # !!str", "log: {level: \"info\"}"] {
        accepted(&format!("{ONE}{fine}\n"));
    }
}

#[test]
fn fault_39_a_number_with_a_leading_zero_is_told_what_it_is() {
    let octal = |written: &str, octal: &str, right: &str| {
        format!(
            "`{written}` has a leading zero, which older YAML readers take for octal, {octal} in decimal; write {right}"
        )
    };
    for (lines, message) in [
        ("threads: 010", octal("010", "8", "10")),
        ("    pool: {maxIdle: 0012}", octal("0012", "10", "12")),
        ("    pool: {maxIdle: -01}", "`-01` has a leading zero; write -1".into()),
        ("    port: 013401", octal("013401", "5889", "13401")),
        ("threads: 08", "`08` has a leading zero; write 8".into()),
        (
            "listeners: [{limits: {headerBytes: 032768}}]",
            "`032768` has a leading zero; write 32768".into(),
        ),
        (
            "listeners: [{limits: {headerBytes: 032KiB}}]",
            "`032KiB` has a leading zero; write 32KiB".into(),
        ),
        ("drain: 05s", "`05s` has a leading zero; write 5s".into()),
        ("drain: '0030m'", "`0030m` has a leading zero; write 30m".into()),
        ("    timeouts: {connect: 010ms}", "`010ms` has a leading zero; write 10ms".into()),
        ("    retries: {budget: 010%}", "`010%` has a leading zero; write 10%".into()),
    ] {
        let found = complaints(&format!("{ONE}{lines}\n"));
        assert!(found.len() == 1 && found[0].ends_with(&message), "{found:?}");
    }
    for lines in ["metrics: {bind: [\"127.0.0.1:013320\"]}", "    endpoints: [\"a:0443\"]"] {
        let lines = lines.replace("    endpoints", "  - name: b\n    endpoints");
        assert_eq!(complaints(&format!("{ONE}{lines}\n")).len(), 1, "{lines}");
    }
    for fine in ["drain: 0", "drain: 0s", "    pool: {maxIdle: 0}", "    retries: {budget: 0%}"] {
        accepted(&format!("{ONE}{fine}\n"));
    }
}

#[test]
fn fault_39_an_ipv4_address_and_its_ipv6_spelling_are_one_address() {
    let binds = |a: &str, b: &str| format!("metrics: {{bind: [\"{a}:1\", \"{b}:1\"]}}");
    for (a, b) in [
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ("[::ffff:7f00:1]", "[::ffff:127.0.0.1]"),
        ("0.0.0.0", "[::ffff:127.0.0.1]"),
        ("[::ffff:0.0.0.0]", "127.0.0.1"),
        ("[::]", "[::ffff:127.0.0.1]"),
        ("[::ffff:0.0.0.0]", "[::]"),
    ] {
        let found = complaints(&format!("{ONE}{}\n", binds(a, b)));
        assert!(
            found.len() == 1 && found[0].contains("is taken by metrics.bind[0]"),
            "{a} {b}: {found:?}"
        );
    }
    accepted(&format!("{ONE}{}\n", binds("[::1]", "[::ffff:127.0.0.1]")));
    let port = "listeners: [{bind: [\"[::ffff:127.0.0.1]:13401\"]}]\n    port: 13401";
    let (listeners, port) = port.split_once('\n').unwrap();
    let found = complaints(&format!("{ONE}{port}\n{listeners}\n"));
    assert!(found[0].contains("127.0.0.1:13401 is taken by"), "{found:?}");
}
