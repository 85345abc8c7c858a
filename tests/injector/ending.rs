//! How it starts where it cannot, and how it ends.

use std::{io::Write as _, process::Command};

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
    // API servers may not know yet.
    assert_eq!(post(&mut injector.connect(), review.as_bytes()).status, 200);
    let answer = post(&mut late, review.as_bytes());
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    in_flight.write_all(rest).unwrap();
    in_flight.flush().unwrap();
    assert_eq!(read(&mut in_flight).status, 200);
    assert_eq!(injector.wait().code(), Some(0));
}

#[test]
fn what_it_cannot_start_with_is_told_with_exit_status_2() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, words) in [
        (vec!["--image", "x", "--cpu-request", "much"], "write a quantity such as 50m or 0.5"),
        (vec!["--image", "x", "--memory-limit", "64m"], "write a quantity such as 64Mi"),
        (vec!["--image", "x", "--platform", "windows"], "kubernetes, openshift"),
        (vec![], "--image <IMAGE>"),
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
