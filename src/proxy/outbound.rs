//! A request on its way to the upstream, and the copy that is kept for sending it again.

use std::sync::Arc;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT},
    request,
};
use hyper::body::{Body as _, Incoming};

use super::{authentication, fields};
use crate::{
    connect::{
        RequestBody,
        body::{Progress, Upload},
        meter::Window,
    },
    upstream::Upstream,
};

/// The size in bytes of a body that fits into any usual receive window.
const SMALL: u64 = 16 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request on its way to the upstream. This value keeps it while it waits, and lends it to the code that sends it, as
/// it is large.
pub(super) struct Outbound {
    /// The request; `None` while hyper has it.
    request: Option<Request<RequestBody>>,
    copy: Option<RequestCopy>,
    upload: Option<Arc<Upload>>,
    authenticates: bool,
}

impl Outbound {
    /// Takes over a request's head and body. The body of an idempotent request is held for a retry; one with `Expect:
    /// 100-continue` is parked until the upstream asks for it.
    pub(super) fn new(parts: request::Parts, incoming: Incoming, upstream: &Upstream) -> Self {
        let by_key = || upstream.settings().retries.idempotency_key;
        let idempotent = is_idempotent(&parts, by_key);
        let copy = idempotent.then(|| RequestCopy::of(&parts));
        let authenticates = authentication::is_in(&parts.headers);
        let (body, upload) = guard(incoming, &parts, idempotent);
        let mut request = Request::from_parts(parts, body);
        unpark_on_continue(&mut request, upload.as_ref());
        Self { request: Some(request), copy, upload, authenticates }
    }

    /// True if the request authenticates the connection that it is sent on.
    pub(super) fn authenticates(&self) -> bool {
        self.authenticates
    }

    /// True if not all of the request's body was read, so that the client must not use its connection for another
    /// request.
    pub(super) fn is_unread(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.progress() != Progress::Complete)
    }

    /// Returns the state of the body on its way up, or `None` if the request has no body.
    pub(super) fn upload(&self) -> Option<&Arc<Upload>> {
        self.upload.as_ref()
    }

    /// Returns the request's fields, or `None` while hyper has the request.
    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.request.as_ref().map(Request::headers)
    }

    /// Returns whether a usual receive window has room for all of the request.
    pub(super) fn window(&self) -> Window {
        let length = || self.headers()?.get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok();
        if self.upload.is_none() || length().is_some_and(|length| length <= SMALL) {
            Window::Suffices
        } else {
            Window::MayFill
        }
    }

    /// Lends the request out to be sent; [`Self::given_back`] ends the loan.
    pub(super) fn take(&mut self) -> Request<RequestBody> {
        self.request.take().expect("a request that is to be sent is there")
    }

    /// Ends the loan: takes the request that hyper gave back, or `None` if hyper wrote a part of it.
    pub(super) fn given_back(&mut self, request: Option<Request<RequestBody>>) {
        self.request = request;
    }

    /// True if the request is not lent out: nothing of it was written.
    pub(super) fn is_here(&self) -> bool {
        self.request.is_some()
    }

    /// True if it may turn out after sending that the request cannot be sent again: there is no copy, or a body, of
    /// which only its arrival shows whether all can be held.
    pub(super) fn may_be_unrepeatable(&self) -> bool {
        self.copy.is_none() || self.upload.is_some()
    }

    /// Makes the request ready to be sent again, if need be from the copy; returns whether that succeeded.
    pub(super) fn restore(&mut self) -> bool {
        if self.request.is_none() {
            let copy = self.copy.as_ref();
            self.request = copy.and_then(|copy| copy.request(self.upload.as_ref()));
        }
        self.is_here()
    }

    /// Drops the copy and what is held of the body: the request will not be sent again.
    pub(super) fn release(&mut self) {
        self.copy = None;
        if let Some(upload) = &self.upload {
            upload.release();
        }
    }
}

/// True if the request may be sent twice (RFC 9110 section 9.2.2), by its method, or because of its idempotency key.
fn is_idempotent(parts: &request::Parts, by_key: impl FnOnce() -> bool) -> bool {
    match parts.method {
        Method::POST | Method::PATCH => by_key() && has_key(&parts.headers),
        _ => parts.method.is_idempotent(),
    }
}

/// True if there is exactly one key, and not an empty one: with two, the upstream could go by either.
fn has_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = keys.next().map(|value| value.as_bytes().trim_ascii());
    key.is_some_and(|key| !matches!(key, b"" | b"\"\"")) && keys.next().is_none()
}

/// The head of a request that may be sent twice.
struct RequestCopy {
    method: Method,
    uri: Uri,
    /// The fields in their order. Not a map, as hardly a copy is ever used, and a map takes two allocations.
    fields: Vec<(HeaderName, HeaderValue)>,
    /// The spelling of the field names in upper and lower case, as hyper keeps it; mostly empty.
    extensions: Extensions,
}

impl RequestCopy {
    fn of(parts: &request::Parts) -> Self {
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let fields = parts.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        Self { method, uri, fields: fields.collect(), extensions: parts.extensions.clone() }
    }

    /// Builds the request again, or returns `None` if its body is not held.
    fn request(&self, upload: Option<&Arc<Upload>>) -> Option<Request<RequestBody>> {
        let body = match upload {
            None => RequestBody::Empty,
            Some(upload) => upload.again()?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        for (name, value) in self.fields.iter().cloned() {
            request.headers_mut().append(name, value);
        }
        *request.extensions_mut() = self.extensions.clone();
        *request.version_mut() = Version::HTTP_11;
        unpark_on_continue(&mut request, upload);
        Some(request)
    }
}

/// Wraps a request's body so that its progress can be observed, which the second value shows; `None` for an empty body.
/// One with `Expect: 100-continue` is parked. If `held`, the body can be sent again as long as it is not too long.
fn guard(
    incoming: Incoming,
    parts: &request::Parts,
    held: bool,
) -> (RequestBody, Option<Arc<Upload>>) {
    if incoming.is_end_stream() {
        return (RequestBody::Empty, None);
    }
    let expects = parts.headers.get(EXPECT);
    let parked = expects.is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (body, upload) = RequestBody::streaming(incoming, parked, held, fields::filter_trailers);
    (body, Some(upload))
}

/// Makes the upstream's 100 response release a parked body; with the body's first byte hyper sends the client its own
/// 100.
fn unpark_on_continue(request: &mut Request<RequestBody>, upload: Option<&Arc<Upload>>) {
    let Some(upload) = upload.filter(|upload| upload.progress() == Progress::Parked) else {
        return;
    };
    let upload = Arc::clone(upload);
    hyper::ext::on_informational(request, move |informational| {
        if informational.status() == StatusCode::CONTINUE {
            upload.unpark();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idempotent(method: &Method, keys: &[&'static str], by_key: bool) -> bool {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method.clone();
        for key in keys {
            parts.headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
        }
        is_idempotent(&parts, || by_key)
    }

    #[test]
    fn a_key_makes_a_post_or_patch_idempotent_where_it_is_configured() {
        for method in [Method::POST, Method::PATCH] {
            assert!(idempotent(&method, &["\"8e03978e\""], true), "{method}");
            assert!(idempotent(&method, &["8e03978e"], true), "{method}");
            assert!(!idempotent(&method, &["\"8e03978e\""], false), "{method}");
            assert!(!idempotent(&method, &[], true), "{method}");
        }
        let other = Method::from_bytes(b"CHARGE").expect("a method");
        assert!(!idempotent(&other, &["\"8e03978e\""], true));
        assert!(idempotent(&Method::PUT, &[], false));
    }

    #[test]
    fn an_empty_key_or_two_are_none() {
        for keys in [&[""][..], &["\"\""], &["a", "b"], &["a", "a"]] {
            assert!(!idempotent(&Method::POST, keys, true), "{keys:?}");
        }
    }
}
