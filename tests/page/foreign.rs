//! Text from others stays text on the page, and requests from foreign pages are refused.

use serde_json::json;

use crate::{
    browser::{Browser, FOREIGN, page},
    support::{
        authority::Authority,
        origin::Origin,
        setup::{Setup, serving},
    },
};

/// Markup that would change the page's title if a browser ever interpreted it.
const HOSTILE: &str =
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

fn assert_harmless(browser: &Browser) {
    assert_eq!(browser.value("document.querySelectorAll('#page img, #page script').length"), 0);
    assert_ne!(browser.value("document.title"), "owned");
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_hostile_upstream_s_name_a_host_and_a_certificate_s_name_are_shown_as_they_are() {
    let origin = Origin::serving().start();
    let hostile = Authority::shared().client("<img src=x onerror=alert(1)>");
    let mut warmline = Setup::before(&origin).identity(&hostile).start_following();
    let browser = Browser::open(&page(warmline.administration()));
    browser.wait_for_text("CN=<img src=x onerror=alert(1)>");
    let answer = warmline.connect().get("<img-src=x>.test", "/<script>alert(1)</script>");
    assert!(answer.status == 400 || answer.status == 404, "{}", answer.text());
    browser.wait_for_text("Requests that found no upstream");
    warmline.set("upstreams.0.name", HOSTILE).be_refused();
    browser.wait_for_text("onerror=");
    browser.wait_for(
        "document.getElementById('refused').innerText.includes('<script>document.title')",
    );
    assert_harmless(&browser);
}

/// Starts an origin of another site, whose page has a form that posts to `verb`.
fn foreign_page(verb: &str) -> Origin {
    let body = format!("<form method=post action='{verb}'></form>");
    Origin::scripted(move |mut peer| {
        let body = body.clone();
        async move {
            peer.request().await;
            let length = body.len();
            peer.write(&format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            ))
            .await;
            peer.close().await;
        }
    })
    .plain()
    .start()
}

#[test]
fn a_verb_from_a_foreign_page_is_refused_and_does_nothing() {
    let (_origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline.wait_for_pool("it is idle", |pool| pool.census.idle == 1);
    let verb = format!("http://{}/upstreams/origin/flush", warmline.administration());
    let foreign = foreign_page(&verb);
    for host in [FOREIGN, "127.0.0.1", "localhost"] {
        let browser = Browser::open(&format!("http://{host}:{}/", foreign.port()));
        let fetched = browser.value(&format!(
            "fetch('{verb}', {{ method: 'POST', mode: 'no-cors' }}).then((answer) => answer.type, String)"
        ));
        assert!(
            fetched == "opaque" || fetched.as_str().unwrap().contains("TypeError"),
            "{fetched}"
        );
        browser.value("document.forms[0].submit()");
        browser.wait_for_text("this request comes from another page");
    }
    assert_eq!(warmline.pool("origin").census.idle, 1, "nothing was closed");
    assert!(!warmline.admin("/").text().contains("What operators did"));
}

#[test]
fn a_foreign_page_can_neither_frame_nor_read_this_one_nor_be_led_to_it_by_its_own_name() {
    let (_origin, warmline) = serving();
    let administration = warmline.administration();
    let foreign = foreign_page("/none");
    let browser = Browser::open(&format!("http://{FOREIGN}:{}/", foreign.port()));
    let read = browser.value(&format!(
        "fetch('http://{administration}/pools').then((answer) => answer.text(), () => 'refused')"
    ));
    assert_eq!(read, "refused");
    let framed = json!(page(administration));
    browser.value(&format!(
        "new Promise((done) => {{ const frame = document.createElement('iframe'); frame.src = {framed};
            frame.onload = done; document.body.append(frame) }}).then(() => 0)"
    ));
    let complaints = format!("{:?}", browser.complaints());
    assert!(complaints.contains("frame-ancestors"), "{complaints}");
    browser.go(&format!("http://{FOREIGN}:{}/pools", administration.port()));
    browser.wait_for_text("administration is served to localhost and loopback addresses only");
}
