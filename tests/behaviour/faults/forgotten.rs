//! Connections that the path forgot (NAT, load balancer, failover): packets vanish in both directions without notice.
//!
//! nftables drops the packets of chosen connections, in a network namespace that each test enters by running itself
//! again. That takes root or user namespaces, and the programs `unshare`, `ip` and `nft`.

use std::{
    env, fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{
    client::Client,
    origin::{NAME, Origin},
    running::Running,
    setup::Setup,
};

const INSIDE: &str = "WARMLINE_TEST_NAMESPACE";

/// Runs a test of this module, by its name, in a network namespace of its own.
fn in_a_network_of_its_own(name: &str, test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"], "");
        return test();
    }
    let user: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    let path = module_path!().split_once("::").expect("a module of the test program").1;
    let program = env::current_exe().expect("the test program has a path");
    let again = Command::new("unshare")
        .args(user)
        .arg("--net")
        .arg(program)
        .args([&format!("{path}::{name}"), "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (Debian: util-linux) is installed");
    let told = String::from_utf8_lossy(&again.stdout);
    let errors = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() && told.contains("1 passed"), "{told}\n{errors}");
}

fn is_root() -> bool {
    let id = Command::new("id").arg("--user").output().expect("id is installed");
    id.stdout == b"0\n"
}

fn run(program: &str, arguments: &[&str], input: &str) {
    // Not every user's PATH has the folders of administrators' programs.
    let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
    let mut child = Command::new(program)
        .env("PATH", path)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success(), "{program} {arguments:?}\n{input}");
}

/// Drops every packet of these connections from now on; the numbers are the origin's.
fn forget(origin: &Origin, numbers: &[usize]) {
    let record = origin.record();
    let ports = numbers.iter().map(|number| record.connections[*number].peer.port().to_string());
    let ports = ports.collect::<Vec<_>>().join(", ");
    let port = origin.port();
    let rules = format!(
        "add table inet path
         add chain inet path packets {{ type filter hook input priority 0 ; }}
         add rule inet path packets tcp dport {port} tcp sport {{ {ports} }} drop
         add rule inet path packets tcp sport {port} tcp dport {{ {ports} }} drop
        "
    );
    run("nft", &["-f", "-"], &rules);
}

/// Sends a POST without its body of three bytes; [`finish`] sends the body.
fn ask_unfinished(warmline: &Running) -> Client {
    let mut client = warmline.connect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 3\r\n\r\n"));
    client
}

fn finish(client: &mut Client) {
    client.send("abc");
    assert_eq!(client.response().text(), "abc");
}

/// Makes `count` idle connections; the origin's numbers give the order in which they became idle.
fn idle(origin: &Origin, warmline: &Running, count: usize) {
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..count {
        clients.push(ask_unfinished(warmline));
        origin.wait_for("its request", |record| record.request_count == number + 1);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        finish(client);
        warmline.wait_for_pool("it is idle", |pool| pool.census.idle == number + 1);
    }
}

/// Starts Warmline with a limit of one second on unacknowledged bytes.
fn before(origin: &Origin) -> Running {
    Setup::before(origin).set("timeouts.connect", "1s").set_global("log.level", "error").start()
}

#[test]
fn fault_08_a_request_on_a_forgotten_connection_is_sent_again_instead_of_a_504() {
    in_a_network_of_its_own(
        "fault_08_a_request_on_a_forgotten_connection_is_sent_again_instead_of_a_504",
        || {
            let origin = Origin::serving().start();
            let warmline = before(&origin);
            idle(&origin, &warmline, 1);
            forget(&origin, &[0]);
            let response = warmline.one_shot("/any");
            assert_eq!((response.status, response.head.field("x-connection")), (200, Some("1")));
            assert_eq!(origin.record().request_count, 2);
            warmline.wait_for_closed("stale", 1);
            let retried = [("reason", "unanswered")];
            assert_eq!(warmline.metric("warmline_retries_total", &retried), 1);
        },
    );
}

#[test]
fn fault_08_after_one_was_forgotten_the_dead_ones_close_unused_and_the_living_ones_are_lent_again()
{
    in_a_network_of_its_own(
        "fault_08_after_one_was_forgotten_the_dead_ones_close_unused_and_the_living_ones_are_lent_again",
        || {
            let origin = Origin::serving().start();
            let warmline = before(&origin);
            idle(&origin, &warmline, 4);
            forget(&origin, &[1, 2, 3]);
            assert_eq!(warmline.one_shot("/any").head.field("x-connection"), Some("4"));
            warmline.wait_for_closed("stale", 3);
            warmline.wait_for_pool("the living one is trusted", |pool| {
                (pool.census.idle, pool.doubted) == (2, 0)
            });
            // Connection 0 is the older of the two idle ones, so that a request gets it only while another has the
            // newer one.
            let mut taker = ask_unfinished(&warmline);
            warmline.wait_for_pool("it has one", |pool| pool.census.active == 1);
            assert_eq!(warmline.one_shot("/any").head.field("x-connection"), Some("0"));
            finish(&mut taker);
            assert_eq!(warmline.closed("peer-closed"), 0);
        },
    );
}

#[test]
fn fault_08_a_request_that_cannot_be_sent_again_fails_soon_and_with_the_reason() {
    in_a_network_of_its_own(
        "fault_08_a_request_that_cannot_be_sent_again_fails_soon_and_with_the_reason",
        || {
            let origin = Origin::serving().start();
            let warmline = before(&origin);
            idle(&origin, &warmline, 1);
            forget(&origin, &[0]);
            let answer = warmline.connect().post(NAME, "/echo", "body");
            assert_eq!(answer.status, 502);
            let text = answer.text();
            assert!(text.contains("nothing of the request was acknowledged within 1s"), "{text}");
            assert_eq!(origin.record().request_count, 1);
        },
    );
}

#[test]
fn fault_08_an_idle_connection_that_the_path_forgot_serves_no_request_even_where_it_is_the_newest()
{
    in_a_network_of_its_own(
        "fault_08_an_idle_connection_that_the_path_forgot_serves_no_request_even_where_it_is_the_newest",
        || {
            let origin = Origin::serving().start();
            let warmline = before(&origin);
            idle(&origin, &warmline, 2);
            forget(&origin, &[0, 1]);
            let mut clients = ["/any"; 6].map(|target| warmline.ask(target));
            for client in &mut clients {
                assert_eq!(client.response().status, 200);
            }
            warmline.wait_for_closed("stale", 2);
            assert!(warmline.metric("warmline_retries_total", &[("reason", "unanswered")]) <= 2);
        },
    );
}

#[test]
fn fault_08_an_upstream_that_has_no_room_for_more_of_a_body_is_waited_for() {
    let origin = Origin::scripted(|mut peer| async move {
        let Some(head) = peer.head().await else { return };
        // Longer than bytes may stay unacknowledged: meanwhile the peer's receive window is full, and it acknowledges
        // only probes.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let mut bytes = 0;
        if peer.body(&head, &mut |piece| bytes += piece.len()).await.is_ok() {
            peer.answer(&bytes.to_string()).await;
        }
    })
    .start();
    let warmline = before(&origin);
    // The first body fits the kernel's send buffer at once; the second does not.
    for length in [300_000, 20_000_000] {
        let body = vec![b'x'; length];
        assert_eq!(warmline.connect().post(NAME, "/any", &body).text(), length.to_string());
    }
}

#[test]
fn fault_08_an_upstream_with_a_small_window_that_has_no_room_for_a_short_request_is_waited_for() {
    in_a_network_of_its_own(
        "fault_08_an_upstream_with_a_small_window_that_has_no_room_for_a_short_request_is_waited_for",
        || {
            fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 4096 4096").expect("root may do so");
            let origin = Origin::scripted(|mut peer| async move {
                // Longer than bytes may stay unacknowledged; nothing is read meanwhile.
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                while let Some(head) = peer.head().await {
                    let mut bytes = 0;
                    peer.body(&head, &mut |piece| bytes += piece.len()).await.expect("a body");
                    peer.answer(&bytes.to_string()).await;
                }
            })
            .start();
            let warmline = before(&origin);
            let body = vec![b'x'; 16_000];
            assert_eq!(warmline.connect().post(NAME, "/any", &body).text(), "16000");
        },
    );
}

#[test]
fn fault_08_a_long_body_or_one_of_unknown_length_ends_a_forgotten_connection_as_soon_as_a_short_one()
 {
    in_a_network_of_its_own(
        "fault_08_a_long_body_or_one_of_unknown_length_ends_a_forgotten_connection_as_soon_as_a_short_one",
        || {
            let long = "x".repeat(60_000);
            let chunks = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
            let (known, unknown) = ("Content-Length: 60000", "Transfer-Encoding: chunked");
            for (method, framing, body) in [
                ("PUT", known, &long),
                ("PUT", unknown, &chunks),
                ("POST", known, &long),
                ("POST", unknown, &chunks),
            ] {
                let origin = Origin::serving().start();
                let warmline = before(&origin);
                idle(&origin, &warmline, 2);
                forget(&origin, &[0, 1]);
                let mut client = warmline.connect();
                client.send(format!(
                    "{method} /echo HTTP/1.1\r\nHost: {NAME}\r\n{framing}\r\n\r\n{body}"
                ));
                let (answer, case) = (client.response(), format!("{method} {framing}"));
                warmline.wait_for_closed("stale", 2);
                let (status, requests) = (answer.status, origin.record().request_count);
                if method == "PUT" {
                    assert_eq!((status, requests), (200, 3), "{case}");
                    assert!(answer.text() == long, "{case}");
                } else {
                    assert_eq!((status, requests), (502, 2), "{case}");
                    let text = answer.text();
                    assert!(text.contains("nothing of the request was acknowledged"), "{text}");
                }
            }
        },
    );
}

#[test]
fn fault_08_a_body_without_end_ends_a_forgotten_connection_too() {
    in_a_network_of_its_own("fault_08_a_body_without_end_ends_a_forgotten_connection_too", || {
        let origin = Origin::serving().start();
        let warmline = before(&origin);
        idle(&origin, &warmline, 1);
        forget(&origin, &[0]);
        let mut client = warmline.connect();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000000000\r\n\r\n"
        ));
        client.send_until_answered(1_000_000_000);
        let answer = client.response();
        assert_eq!((answer.status, origin.record().request_count), (502, 1));
        assert!(answer.text().contains("nothing of the request was acknowledged"));
    });
}
