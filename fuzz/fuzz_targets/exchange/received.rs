//! Checks of what reaches the origin: whatever the client wrote, each request of Warmline's has one meaning only.

/// A request's head as the origin received it.
pub struct Head {
    /// The request's target.
    pub target: String,
    /// The framing of its body.
    pub framing: Framing,
    /// The length of the head in bytes, the empty line included.
    pub length: usize,
}

/// The framing of a request's body.
#[derive(Clone, Copy)]
pub enum Framing {
    /// By this number of bytes; 0 without a body.
    Length(usize),
    /// By chunks.
    Chunked,
}

/// Reads the head at the beginning of these bytes, if all of it is there; panics if the head can be read in two ways.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let mut lines = lines(&bytes[..length - 4]);
    let request_line = lines.next().expect("split gives one piece at least");
    let request_line = str::from_utf8(request_line).expect("a request line is UTF-8");
    let parts: Vec<_> = request_line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { panic!("request line {request_line:?}") };
    assert!(!method.is_empty() && !target.is_empty(), "request line {request_line:?}");
    assert_ne!(method, "CONNECT", "a tunnel passed");
    let framing = framing(lines);
    Some(Head { target: target.into(), framing, length })
}

fn framing<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Framing {
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for (name, value) in lines.map(field) {
        match name.as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.to_owned()),
            "transfer-encoding" => codings.push(value.to_owned()),
            "connection" | "upgrade" | "te" | "keep-alive" | "proxy-connection" => {
                panic!("{name} passed a hop: {value:?}")
            }
            _ => {}
        }
    }
    assert_eq!(hosts, 1, "Host fields");
    match (&lengths[..], &codings[..]) {
        ([], []) => Framing::Length(0),
        ([length], []) => Framing::Length(number(length)),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        both => panic!("a request is framed in two ways: {both:?}"),
    }
}

/// Returns a head's lines; panics at bytes that another parser may take for the end of a line.
pub fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(2).position(|window| window == b"\r\n");
        rest = end.map(|end| &bytes[end + 2..]);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let ambiguous = line.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
        assert!(!ambiguous, "a line with CR, LF or NUL: {}", line.escape_ascii());
        Some(line)
    })
}

/// Returns a field's name in lower case, and its value; panics at a line that is not a field.
pub fn field(line: &[u8]) -> (String, &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.unwrap_or_else(|| panic!("a line without a colon")));
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    assert!(!name.is_empty() && name.iter().all(is_token), "name {}", name.escape_ascii());
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    (name, value[1..].trim_ascii())
}

/// Reads a length; panics unless it consists of digits alone.
pub fn number(text: &[u8]) -> usize {
    assert!(!text.is_empty() && text.iter().all(u8::is_ascii_digit), "{}", text.escape_ascii());
    let text = str::from_utf8(text).expect("digits are ASCII");
    // A longer number is beyond any memory: the end is never waited for.
    text.parse().unwrap_or(usize::MAX)
}
