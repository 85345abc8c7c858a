//! Requests that nobody should send: the injector refuses them in words, and answers the next review.

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::program::{Injector, asking, creation, post, read};

/// Asserts that the next review is answered as usual.
fn assert_well(injector: &Injector) {
    assert_eq!(injector.review(&creation(&asking()))["allowed"], true);
}

#[test]
fn case_54_junk_is_refused_saying_what_is_wrong() {
    let injector = Injector::start();
    let with = |path: &str, value: Value| {
        let mut review = creation(&asking());
        *review.pointer_mut(path).unwrap() = value;
        review.to_string()
    };
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = format!("[{}0]", "0,".repeat(300_000));
    for (body, words) in [
        (String::new(), "the body is not an AdmissionReview in JSON: EOF"),
        ("{".into(), "the body is not an AdmissionReview in JSON: EOF"),
        ("\u{0}\u{1}".into(), "the body is not an AdmissionReview in JSON: expected value"),
        ("[]".into(), "the body is not an AdmissionReview in JSON: invalid length"),
        ("null".into(), "the body is not an AdmissionReview in JSON: invalid type: null"),
        ("{}".into(), "an AdmissionReview of admission.k8s.io/v1 is wanted"),
        (with("/kind", json!("Pod")), "the body is of another kind"),
        (with("/apiVersion", json!("admission.k8s.io/v1beta1")), "only admission.k8s.io/v1 "),
        (with("/apiVersion", json!("admission.k8s.io/v2")), "only admission.k8s.io/v1 "),
        (with("/request", Value::Null), "no request with a uid"),
        (with("/request/uid", json!("")), "no request with a uid"),
        (with("/request/uid", json!(7)), "invalid type: integer `7`, expected a string"),
        (
            with("/request/object", json!({"a": {}})).replace("{\"a\":{}}", &nested),
            "recursion limit",
        ),
        (
            with("/request/object", json!({"a": {}})).replace("{\"a\":{}}", &many),
            "more than 200000 elements",
        ),
    ] {
        let answer = injector.post(body.as_bytes());
        let start = &body[..body.len().min(100)];
        assert_eq!(answer.status, 400, "{start} {answer:?}");
        assert!(answer.body.contains(words), "{start}: {}", answer.body);
    }
    assert_eq!(injector.metric("warmline_injector_reviews_total{result=\"invalid\"}"), "14");
    assert_well(&injector);
}

#[test]
fn an_object_that_is_no_pod_is_refused_under_its_uid() {
    let injector = Injector::start();
    for object in [json!(null), json!("pod"), json!({"metadata": {}}), json!([1])] {
        let response = injector.review(&creation(&object));
        assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!(response["allowed"], false);
        assert_eq!(response["status"]["message"], "the object in the review is not a pod");
    }
}

#[test]
fn case_54_a_review_of_5_mb_is_refused_as_too_large_with_and_without_its_length() {
    let injector = Injector::start();
    let body = vec![b' '; 5_000_000];
    let answer = injector.post(&body);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(answer.body, "warmline injector: a review of more than 4 MiB is not read\n");
    let mut connection = injector.connect();
    connection
        .write_all(
            b"POST /mutate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4c4b40\r\n",
        )
        .unwrap();
    // The injector may stop reading before everything is written.
    let _ = connection.write_all(&body).and_then(|()| connection.flush());
    assert_eq!(read(&mut connection).status, 413);
    assert_well(&injector);
}

#[test]
fn case_54_the_largest_pod_that_an_api_server_takes_is_reviewed_within_a_second() {
    let injector = Injector::start();
    let mut pod = asking();
    let env: Vec<_> = (0..20_000)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(120)}))
        .collect();
    pod["spec"]["containers"][0]["env"] = env.into();
    let review = creation(&pod).to_string();
    assert!(review.len() > 3_000_000 && review.len() < 4 * 1024 * 1024, "{}", review.len());
    let mut connection = injector.connect();
    // Processor time, as the clock of a busy machine counts the work of others.
    let before = injector.ticks();
    let answer = post(&mut connection, review.as_bytes());
    let ticks = injector.ticks() - before;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("patch") && answer.body.len() < 10_000, "only what is added");
    assert!(ticks < 100, "{ticks} ticks of 10 ms");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let injector = Injector::start();
    for (request, status) in [("GET /mutate", 405), ("POST /", 404), ("PUT /metrics", 404)] {
        let mut connection = injector.connect();
        write!(connection, "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(read(&mut connection).status, status, "{request}");
    }
}

#[test]
fn a_body_that_does_not_come_ends_in_408_and_holds_nobody_up() {
    let injector = Injector::start();
    let mut slow: Vec<_> = (0..16).map(|_| injector.connect()).collect();
    for connection in &mut slow {
        connection
            .write_all(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n{")
            .unwrap();
        connection.flush().unwrap();
    }
    assert_well(&injector);
    for mut connection in slow {
        assert_eq!(read(&mut connection).status, 408);
    }
}

#[test]
fn silent_clients_and_clients_without_tls_are_disconnected() {
    let injector = Injector::start();
    let mut silent = injector.connect();
    let mut plain = std::net::TcpStream::connect(injector.webhook).unwrap();
    plain.write_all(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    // The bytes may be a TLS alert, or nothing.
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    // An end without close_notify is an end too, but the end of the test's patience is none.
    let end = silent.read_to_end(&mut Vec::new());
    let is_late = end.is_err_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    });
    assert!(!is_late, "let go after 5 s");
    assert_well(&injector);
}

#[test]
fn a_crowd_that_sits_on_its_connections_keeps_neither_reviews_nor_probes_away() {
    let injector = Injector::start();
    let ask = |stream: &mut dyn ReadWrite| {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 16]).unwrap() > 0);
    };
    let mut sitting = Vec::new();
    for _ in 0..300 {
        let mut one = injector.connect();
        ask(&mut one);
        sitting.push(one);
    }
    assert_well(&injector);
    let mut probing = Vec::new();
    for _ in 0..300 {
        let mut one = std::net::TcpStream::connect(injector.health).unwrap();
        one.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        ask(&mut one);
        probing.push(one);
    }
}

#[test]
fn a_crowd_whose_bodies_come_slowly_and_that_then_sits_keeps_no_review_away() {
    let injector = Injector::start();
    let mut crowd: Vec<_> = (0..256).map(|_| injector.connect()).collect();
    for one in &mut crowd {
        one.write_all(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabcde")
            .unwrap();
    }
    thread::scope(|scope| {
        // The honest review waits while the whole crowd is being answered.
        let honest = scope.spawn(|| assert_well(&injector));
        for one in &mut crowd {
            // Some were closed already to make room for the honest one.
            let _ = one.write_all(b"fghij");
        }
        for one in &mut crowd {
            let _ = one.read(&mut [0; 16]);
        }
        honest.join().unwrap();
    });
}

#[test]
fn more_reviews_at_once_than_there_is_room_for_are_all_answered() {
    let injector = Injector::start();
    let connecting = (0..400).map(|_| std::net::TcpStream::connect(injector.webhook).unwrap());
    let arrived: Vec<_> = connecting.collect();
    thread::scope(|scope| {
        for stream in arrived {
            let injector = &injector;
            scope.spawn(move || {
                let mut connection = injector.handshake(stream).unwrap();
                let answer = post(&mut connection, creation(&asking()).to_string().as_bytes());
                assert_eq!(answer.status, 200);
            });
        }
    });
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_crowd_is_answered_each_with_its_own_uid() {
    let injector = Injector::start();
    thread::scope(|scope| {
        for client in 0..64 {
            let injector = &injector;
            scope.spawn(move || {
                let mut connection = injector.connect();
                for number in 0..5 {
                    let uid = format!("{client}-{number}");
                    let mut review = creation(&asking());
                    review["request"]["uid"] = json!(uid);
                    let answer = post(&mut connection, review.to_string().as_bytes());
                    let answer: Value = serde_json::from_str(&answer.body).unwrap();
                    assert_eq!(answer["response"]["uid"], uid);
                }
            });
        }
    });
}

#[test]
fn the_worst_bodies_leave_it_within_the_memory_that_its_pod_has() {
    let injector = Injector::start();
    let with = |object: &str| {
        let review = creation(&json!({"OBJECT": 0})).to_string();
        review.replace("{\"OBJECT\":0}", object)
    };
    // Large reviews that never become complete, up to the bound on all that is held of them.
    let mut stalled: Vec<_> = (0..3).map(|_| injector.connect()).collect();
    for connection in &mut stalled {
        let head = "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n";
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&vec![b' '; 4_194_303]).unwrap();
        connection.flush().unwrap();
    }
    // Each element of these takes as much memory as is possible in JSON.
    for (element, count) in
        [("{\"\":0}", 99_000), ("[[]]", 66_000), ("\"a\"", 199_000), ("0", 199_000)]
    {
        let answer =
            injector.post(with(&format!("[{}]", vec![element; count].join(","))).as_bytes());
        assert_eq!(answer.status, 200, "{element} {answer:?}");
    }
    let keys: Vec<_> = (0..190_000).map(|n| format!("\"{n}\":0")).collect();
    assert_eq!(injector.post(with(&format!("{{{}}}", keys.join(","))).as_bytes()).status, 200);
    let most = injector.peak_memory();
    println!("{} MiB at most", most / 1024 / 1024);
    assert!(most < 128 * 1024 * 1024, "{most}");
}
