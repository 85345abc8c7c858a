//! Upgrades, which this version does not support: the field is not passed on, and no response makes a tunnel (RFC 9110
//! section 7.8).

use super::{Case, Then};

const ASKS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const OFFERS: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

fn answered(status: &str, rest: &str) -> Case {
    Case::answered(format!("HTTP/1.1 {status}\r\n{OFFERS}{rest}")).asking(ASKS)
}

#[test]
fn case_23_an_upgrade_that_the_upstream_refuses_is_an_answer_like_any_other() {
    for status in ["200 OK", "426 Upgrade Required"] {
        for rest in [
            "content-length: 2\r\n\r\nok",
            "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ] {
            let answer = answered(status, rest).keeps().expect("a whole one");
            assert_eq!((&status[..3], answer.text().as_str()), (&*answer.status.to_string(), "ok"));
            assert_eq!(answer.head.field("upgrade"), None, "{status}");
        }
    }
}

#[test]
fn case_23_the_upstream_is_not_asked_for_an_upgrade() {
    let scene = answered("200 OK", "content-length: 2\r\n\r\nok").then(Then::Serves).scene();
    assert_eq!(scene.evil().expect("a whole one").status, 200);
    let head = scene.origin.read(|record| record.last_request().head.clone());
    assert_eq!((head.field("upgrade"), head.field("connection")), (None, None));
    scene.end();
}

#[test]
fn case_23_without_complete_framing_a_refused_upgrade_costs_the_connection() {
    for status in ["200 OK", "426 Upgrade Required"] {
        let answer = answered(status, "\r\nto the end").then(Then::Closes).destroys();
        assert_eq!(answer.expect("its end is the connection's").text(), "to the end");
        let stray = "content-length: 2\r\n\r\nok\x01\x02 bytes of another protocol";
        assert_eq!(answered(status, stray).destroys().expect("a whole one").text(), "ok");
        answered(status, "content-length: 9\r\n\r\nok").then(Then::Closes).breaks(status);
    }
}

#[test]
fn case_23_an_upgrade_that_the_upstream_takes_unasked_is_502_and_no_tunnel() {
    for rest in ["\r\n", "\r\nbytes of another protocol", "content-length: 2\r\n\r\nok"] {
        answered("101 Switching Protocols", rest).gives_bad_gateway(rest);
    }
}
