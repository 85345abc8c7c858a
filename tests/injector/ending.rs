//! The injector's start where it cannot work, and its end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::Command,
    thread,
};

use crate::program::{Injector, asking, creation, eventually, post, read};

#[test]
fn after_sigterm_it_is_unready_at_once_and_reviews_in_flight_and_late_ones_are_answered() {
    let mut injector = Injector::start();
    let (mut in_flight, mut late) = (injector.connect(), injector.connect());
    let review = creation(&asking()).to_string();
    let (first, rest) = review.as_bytes().split_at(100);
    write!(
        in_flight,
        "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        review.len()
    )
    .unwrap();
    in_flight.write_all(first).unwrap();
    in_flight.flush().unwrap();
    injector.terminate();
    let unready = eventually("unready", || {
        let ready = injector.health("/readyz");
        (ready.status == 503).then_some(ready.body)
    });
    assert!(unready.contains("[-] serving: it is ending"), "{unready}");
    assert_eq!(injector.health("/livez").status, 200);
    // API servers may not know yet that the injector is ending.
    assert_eq!(post(&mut injector.connect(), review.as_bytes()).status, 200);
    let answer = post(&mut late, review.as_bytes());
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    in_flight.write_all(rest).unwrap();
    in_flight.flush().unwrap();
    assert_eq!(read(&mut in_flight).status, 200);
    assert_eq!(injector.wait().code(), Some(0));
}

#[test]
fn a_demo_that_cannot_start_says_why_with_exit_status_2() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, words) in [
        (vec!["--image", "x", "--cpu-request", "much"], "write a quantity such as 50m or 0.5"),
        (vec!["--image", "x", "--memory-limit", "64m"], "write a quantity such as 64Mi"),
        (vec!["--image", "x", "--platform", "windows"], "kubernetes, openshift"),
        (vec![], "--image <IMAGE>"),
        (
            vec!["--image", "x", "--memory-limit", "16Mi"],
            "--memory-request is above --memory-limit",
        ),
        (vec!["--image", "x", "--ca-lifetime", "1y"], "write one whole number with its unit"),
        (vec!["--image", "x", "--certificate-lifetime", "2s"], "from 3s to 87600h"),
        (
            vec!["--image", "x", "--bind", &address, "--health-bind", "127.0.0.1:0"],
            "cannot be bound: Address already in use",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_warmline"))
            .args(["injector", "--certificate-files", "/nowhere"])
            .args(&arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {stderr}");
        assert!(stderr.contains(words), "{arguments:?} {stderr}");
    }
}

/// Starts a stand-in for an API server of this minor version, which answers only the question for the version; returns
/// its URL.
fn says_that_it_is(minor: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            assert!(request.next().unwrap().unwrap().starts_with("GET /version "));
            let info = format!(
                r#"{{"major":"1","minor":"{minor}","gitVersion":"v1.{minor}.0","gitCommit":"","gitTreeState":"",
                "buildDate":"","goVersion":"","compiler":"","platform":""}}"#
            );
            let length = info.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{info}").unwrap();
        }
    });
    server
}

#[test]
fn on_a_cluster_without_native_sidecars_it_does_not_start_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kubeconfig");
    let server = says_that_it_is("28");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: a, contexts: [{{name: a, context: {{cluster: a, user: a}}}}], \
         clusters: [{{name: a, cluster: {{server: '{server}'}}}}], users: [{{name: a, user: {{}}}}]}}"
    );
    std::fs::write(&config, text).unwrap();
    for mode in [&[][..], &["--certificate-files", "/nowhere"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_warmline"))
            .args([
                "injector",
                "--image",
                "x",
                "--bind",
                "127.0.0.1:0",
                "--health-bind",
                "127.0.0.1:0",
            ])
            .args(mode)
            .env("KUBECONFIG", &config)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let why =
            "this cluster is Kubernetes 1.28, and 1.29 is the first that runs native sidecars";
        assert!(stderr.contains(why), "{stderr}");
    }
}

#[test]
fn without_a_cluster_and_without_files_it_says_what_is_wanted() {
    let output = Command::new(env!("CARGO_BIN_EXE_warmline"))
        .args(["injector", "--image", "x", "--bind", "127.0.0.1:0", "--health-bind", "127.0.0.1:0"])
        .env("KUBECONFIG", "/nowhere")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("or give --certificate-files"), "{stderr}");
    assert!(!stderr.contains("is serving"), "{stderr}");
}
