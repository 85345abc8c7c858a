//! Tests of the escapes: exactly the bytes that hyper refuses are escaped, however a client's bytes are cut.

mod way;

use http::Uri;
use way::{Hyper, Way};

use super::*;

/// The lengths of the bodies, in the order of the requests; `None` for a body in chunks.
struct Bodies<'a>(&'a [Option<u64>]);

impl Hyper for Bodies<'_> {
    fn read(&mut self, came: &[u8], mut judged: NewestRequest) -> NewestRequest {
        let mut rest = came;
        for (body, count) in self.0.iter().zip(1..) {
            let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
                return judged;
            };
            if count > judged.count {
                judged = NewestRequest { count, body: *body, done: false };
            }
            rest = &rest[end + 4..];
            let body = match body {
                Some(length) => *length as usize,
                None => {
                    rest.windows(5).position(|w| w == b"0\r\n\r\n").map_or(usize::MAX, |at| at + 5)
                }
            };
            let Some(behind) = rest.get(body..) else { return judged };
            judged.done = count == judged.count && !behind.windows(4).any(|w| w == b"\r\n\r\n");
            rest = behind;
        }
        judged
    }
}

fn way(bodies: &[Option<u64>]) -> Way<Bodies<'_>> {
    Way::new(Bodies(bodies))
}

/// Sends the bytes whole, one by one, and cut once at each place; the same must reach hyper each time, and is returned.
fn sent(bytes: &[u8], bodies: &[Option<u64>]) -> Vec<u8> {
    let whole = through(&[bytes], bodies);
    let single: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(
        through(&single, bodies).escape_ascii().to_string(),
        whole.escape_ascii().to_string()
    );
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let came = through(&[first, second], bodies).escape_ascii().to_string();
        assert_eq!(came, whole.escape_ascii().to_string(), "cut at {cut}");
    }
    whole
}

fn through(segments: &[&[u8]], bodies: &[Option<u64>]) -> Vec<u8> {
    let mut way = way(bodies);
    for segment in segments {
        way.send(segment);
    }
    way.came
}

fn target(target: &[u8]) -> String {
    let bytes = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let came = sent(&bytes, &[Some(0)]);
    let end = came.len() - b" HTTP/1.1\r\nHost: a\r\n\r\n".len();
    String::from_utf8_lossy(&came[4..end]).into_owned()
}

#[test]
fn fault_11_json_angle_brackets_and_latin_1_in_a_target_are_escaped() {
    for (before, after) in [
        (&b"/items?filter={\"a\":1}"[..], "/items?filter={%22a%22:1}"),
        (b"/a<b>c`d?e<f>g`h\"i", "/a%3Cb%3Ec%60d?e%3Cf%3Eg`h%22i"),
        (b"/caf\xe9?q=\xfc\xdf", "/caf%E9?q=%FC%DF"),
        (b"http://a.example/x?y=\"z\"", "http://a.example/x?y=%22z%22"),
        (b"http://a.example?y=\"z\"", "http://a.example?y=%22z%22"),
        (b"/a%22%zz|\\^[]{}\"~", "/a%22%zz|\\^[]{}\"~"),
        ("/caf\u{e9}/\u{20ac}\u{1f600}".as_bytes(), "/caf\u{e9}/\u{20ac}\u{1f600}"),
        (b"/\xe2\x82x\xe2\x82\xac\xff\xc3", "/%E2%82x\u{20ac}%FF%C3"),
        (b"*", "*"),
        (b"any<thing", "any<thing"),
        (b"/a#<\"", "/a#<\""),
    ] {
        assert_eq!(target(before), after);
    }
}

#[test]
fn fault_11_exactly_the_bytes_are_escaped_that_the_uri_type_refuses() {
    for byte in (0x21..=0x7e).filter(|byte| !b"#?".contains(byte)) {
        for (prefix, part) in [("/a", "path"), ("/a?b", "query")] {
            let text = [prefix.as_bytes(), &[byte], b"c"].concat();
            let taken = Uri::try_from(&text[..]).is_ok();
            let came = target(&text);
            assert_eq!(came.as_bytes() == text, taken, "{} in a {part}", char::from(byte));
            assert!(Uri::try_from(came.as_bytes()).is_ok(), "{came}");
        }
        let host = [b"http://a", &[byte][..], b"b"].concat();
        let taken = Uri::try_from(&host[..]).is_ok();
        let mut way = way(&[]);
        way.send(&[b"GET ", &host[..], b" HTTP/1.1\r\n\r\n"].concat());
        let refused = way.noted.first().is_some_and(|noted| noted.refused == Some((byte, 13)));
        assert!(!(refused && taken), "{}", char::from(byte));
        assert!(taken || refused || b"/%@[]:".contains(&byte), "{}", char::from(byte));
    }
}

#[test]
fn fault_11_no_byte_behind_a_request_line_is_changed() {
    let line = b"GET /\"<\xff HTTP/1.1\r\n";
    let dirty = b"x: GET /\"< HTTP/1.1\r\n\r\n";
    let body = b"GET /\"<>\xff HTTP/1.1\r\n\r\nPOST /< HTTP/1.1\n\n<";
    let length = format!("Content-Length: {}\r\n", body.len());
    let escaped = b"GET /\"%3C%FF HTTP/1.1\r\n";
    let once = [length.as_bytes(), dirty, body].concat();
    let request = [&line[..], &once].concat();
    let came = sent(&request.repeat(2), &[Some(body.len() as u64); 2]);
    assert_eq!(came, [&escaped[..], &once].concat().repeat(2));
}

#[test]
fn fault_11_each_of_several_requests_in_one_segment_is_escaped() {
    let request = b"GET /?\"\" HTTP/1.1\r\nHost: a\r\n\r\n";
    let came = sent(&request.repeat(4), &[Some(0); 4]);
    assert_eq!(came, b"GET /?%22%22 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4));
}

#[test]
fn fault_11_behind_chunks_nothing_is_changed_until_hyper_waits_for_a_request() {
    let chunked = b"POST /?\" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut way = way(&[None, Some(0)]);
    way.send(chunked);
    way.send(b"14\r\nGET /\"< HTTP/1.1\r\n\r\n\r\n0\r\n\r\n");
    way.send(b"GET /?\" HTTP/1.1\r\n\r\n");
    let came = String::from_utf8_lossy(&way.came).into_owned();
    assert!(came.starts_with("POST /?%22 HTTP/1.1"), "{came}");
    assert!(came.contains("\r\nGET /\"< HTTP/1.1\r\n\r\n\r\n0\r\n"), "{came}");
    assert!(came.ends_with("GET /?%22 HTTP/1.1\r\n\r\n"), "{came}");
}

#[test]
fn fault_11_chunks_in_the_heads_own_segment_are_followed_to_their_end() {
    let mut way = way(&[None, Some(0)]);
    way.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\"\r\n0\r\n\r\n");
    way.send(b"GET /?\" HTTP/1.1\r\n\r\n");
    assert!(way.came.ends_with(b"\r\n\"\r\n0\r\n\r\nGET /?%22 HTTP/1.1\r\n\r\n"));
}

#[test]
fn fault_11_a_body_that_hyper_frames_in_another_way_is_left_alone() {
    let mut way = way(&[None]);
    way.send(b"POST / HTTP/1.1\r\nContent-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n");
    way.send(b"GET /\"<\" HTTP/1.1\r\n\r\n");
    assert!(way.came.ends_with(b"GET /\"<\" HTTP/1.1\r\n\r\n"));
}

#[test]
fn fault_11_a_fragment_and_the_number_of_escapes_are_noted_with_their_place() {
    let mut way = way(&[Some(0)]);
    way.send(b"\r\nGET /a?b<>c#d<e HTTP/1.1\r\n\r\n");
    assert_eq!(way.noted, [LineFindings { escaped: 2, fragment: 12, ..LineFindings::default() }]);
}

#[test]
fn fault_36_only_options_of_a_url_without_a_path_asks_about_the_whole_server() {
    for (line, whole_server) in [
        ("OPTIONS http://a.example", true),
        ("OPTIONS http://a.example/", false),
        ("OPTIONS http://a.example?x", false),
        ("OPTIONS /", false),
        ("OPTIONSX http://a.example", false),
        ("OPTION http://a.example", false),
        ("GET http://a.example", false),
    ] {
        let mut way = way(&[Some(0)]);
        way.send(format!("{line} HTTP/1.1\r\n\r\n").as_bytes());
        let noted = way.noted.first().is_some_and(|noted| noted.whole_server);
        assert_eq!(noted, whole_server, "{line}");
    }
}

#[test]
fn fault_35_empty_lines_before_a_request_line_go_no_further() {
    let request = b"GET /?\" HTTP/1.1\r\nHost: a\r\n\r\n";
    let escaped = b"GET /?%22 HTTP/1.1\r\nHost: a\r\n\r\n";
    for empty in [&b"\r\n"[..], b"\n", b"\r\n\r\n", b"\n\r\n\n"] {
        let came = sent(&[empty, request, empty, request, empty].concat(), &[Some(0); 2]);
        assert_eq!(came, escaped.repeat(2));
    }
    let post = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\r\n";
    let came = sent(&[&post[..], b"\r\n", request].concat(), &[Some(2), Some(0)]);
    assert_eq!(came, [&post[..], escaped].concat());
}

#[test]
fn fault_35_a_cr_that_ends_no_line_is_left_for_hyper_to_refuse() {
    for bytes in [&b"\rGET / HTTP/1.1\r\n\r\n"[..], b"\r\r\nGET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(sent(bytes, &[]).escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }
    assert_eq!(sent(b"\r\n\r", &[]), b"");
}
