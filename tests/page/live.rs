//! Events appear on the page a moment later, without a reload by its reader.

use serde_json::{Value, json};

use crate::{
    browser::{Browser, page},
    support::{
        authority::Authority,
        key_format::KeyFormat,
        origin::Origin,
        setup::{Following, Setup, serving},
    },
};

/// Opens the page in a browser and marks it; a reload of the page would lose the mark.
fn look(warmline: &crate::support::running::Running) -> Browser {
    let browser = Browser::open(&page(warmline.administration()));
    browser.wait_for_text("Configuration in force");
    browser.value("window.mark = 'the same page'");
    browser
}

fn assert_same_page(browser: &Browser) {
    assert_eq!(browser.value("window.mark"), "the same page");
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

fn hash(warmline: &Following) -> String {
    let plan: Value =
        serde_json::from_str(&warmline.admin("/plan?format=json").text()).expect("JSON");
    plan["hash"].as_str().unwrap().to_owned()
}

#[test]
fn a_reload_is_seen_as_it_happens_and_a_refused_one_with_its_reason_until_it_is_mended() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    let browser = look(&warmline);
    browser.wait_for_text(&hash(&warmline));
    warmline.set("upstreams.0.pool.purgeDelay", "47s").apply();
    browser.wait_for_text(&hash(&warmline));
    browser.wait_for("document.getElementById('plan').textContent.includes('purgeDelay: 47s')");
    warmline.set("upstreams.0.pool.purgeDelay", "never").be_refused();
    browser.wait_for("document.getElementById('refused').textContent.includes('never')");
    browser.wait_for_text("The old one stays in force");
    warmline.set("upstreams.0.pool.purgeDelay", "48s").apply();
    browser.wait_for("!document.getElementById('refused')");
    assert_same_page(&browser);
}

#[test]
fn a_rotation_is_seen_as_it_happens() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start_following();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let browser = look(&warmline);
    browser.wait_for_text("generation 0");
    let next = Authority::shared().client("the next one");
    let identity = warmline.document["upstreams"][0]["tls"]["identity"].clone();
    std::fs::write(identity["key"].as_str().unwrap(), next.key_pem(KeyFormat::Pkcs8)).unwrap();
    std::fs::write(identity["certificate"].as_str().unwrap(), next.chain_pem()).unwrap();
    browser.wait_for_text("generation 1");
    browser.wait_for(
        "document.getElementById('certificates').textContent.includes('CN=the next one')",
    );
    browser.wait_for_text("rotated another certificate, key or trust is in force");
    assert_same_page(&browser);
}

#[test]
fn a_failing_upstream_is_seen_as_it_happens_with_why() {
    let (origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let browser = look(&warmline);
    browser.wait_for_text("no failure in the last minute");
    browser.value("document.getElementById('connections-origin').open = true");
    drop(origin);
    assert_eq!(warmline.one_shot("/any").status, 502);
    browser.wait_for("document.title.startsWith('1 failing')");
    browser.wait_for_text("Connection refused");
    browser.wait_for_text("dial-failed tried again: no connection could be made");
    assert_eq!(browser.value("document.getElementById('connections-origin').open"), true);
    assert_same_page(&browser);
}

#[test]
fn a_button_does_what_it_says_and_the_page_stays() {
    let (_origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline.wait_for_pool("it is idle", |pool| pool.census.idle == 1);
    let browser = look(&warmline);
    browser.value("document.querySelector('form[action$=flush] button').click()");
    browser.wait_for_text("flush origin\t1 idle connection closed");
    browser.value("document.querySelector('form[action$=drain] button').click()");
    browser.wait_for_text("drain origin");
    warmline.wait_for_pool("nothing is idle", |pool| pool.census.idle == 0);
    assert_same_page(&browser);
}

#[test]
fn without_scripts_the_page_is_whole_and_its_buttons_work() {
    let (_origin, warmline) = serving();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let browser = Browser::open("about:blank#");
    browser.ask("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    browser.ask("Page.navigate", &json!({ "url": page(warmline.administration()) }));
    browser.wait_for_text("Configuration in force");
    browser.wait_for("document.querySelector('meta[http-equiv=refresh]')");
    // A real click: the page's own scripts do not run here.
    let place: Value = browser.value(
        "(() => { const r = document.querySelector('form[action$=flush] button').getBoundingClientRect();
            return { x: r.x + r.width / 2, y: r.y + r.height / 2 } })()",
    );
    for kind in ["mousePressed", "mouseReleased"] {
        let click = json!({ "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1 });
        browser.ask("Input.dispatchMouseEvent", &click);
    }
    browser.wait_for_text("flush origin\t1 idle connection closed");
    assert_eq!(browser.value("location.pathname"), "/");
}

#[test]
fn while_nobody_looks_at_its_tab_the_page_rests() {
    let (_origin, warmline) = serving();
    let browser = look(&warmline);
    browser.value(
        "window.timers = 0; const real = window.setTimeout;
        window.setTimeout = (...all) => { window.timers += 1; return real(...all) };
        window.look = (hidden) => {
            Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
            document.dispatchEvent(new Event('visibilitychange'))
        };
        window.look(true);
        fetch('/').then(() => 0)",
    );
    // All earlier requests of the page have been answered by now.
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(browser.value("fetch('/').then(() => window.timers)"), 0);
    assert_eq!(browser.value("document.body.innerText.includes('1 in all')"), false);
    browser.value("window.look(false)");
    browser.wait_for_text("1 in all");
    browser.wait_for("window.timers > 0");
    assert_same_page(&browser);
}

#[test]
fn after_the_process_has_ended_the_page_says_since_when_it_is_stale() {
    let (_origin, warmline) = serving();
    let browser = look(&warmline);
    assert_eq!(browser.value("document.getElementById('stale').hidden"), true);
    drop(warmline);
    browser.wait_for_text("No answer from Warmline since");
    browser.wait_for_text("the process is gone");
    assert_eq!(browser.value("window.mark"), "the same page");
    browser.wait_for_text("Configuration in force");
}
