//! The page under load fits wide and narrow screens, in light and dark; pictures of it are saved on request.

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use crate::{
    browser::{Browser, page},
    support::{
        authority::{Authority, client_params},
        client::Client,
        origin::{IdleClose, IdleEnd, Origin},
        setup::Setup,
    },
};

/// The time under load before a picture is taken.
const LOAD: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_hours(24);

#[test]
fn the_page_fits_a_wide_and_a_narrow_screen_in_light_and_dark() {
    let pictures = env::var_os("WARMLINE_SCREENSHOTS");
    let payments = Origin::serving().start();
    let close = IdleClose { within: Duration::from_millis(400), seed: 7, how: IdleEnd::Polite };
    let orders = Origin::serving().closing_idle(close).start();
    let mut soon = client_params("warmline");
    soon.not_after = (SystemTime::now() + 9 * DAY).into();
    let gone = Origin::serving().start();
    let mut warmline = Setup::new()
        .upstream("payments", &payments)
        .set("hosts", json!(["payments.test"]))
        .set("pool.maxConnections", 20)
        .upstream("orders", &orders)
        .set("hosts", json!(["orders.test"]))
        .identity(&Authority::shared().issue(&soon))
        .upstream("ledger", &gone)
        .set("hosts", json!(["ledger.test"]))
        .start_following();
    drop(gone);
    let browser = Browser::open(&page(warmline.administration()));
    let screen = json!({ "width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false });
    browser.ask("Emulation.setDeviceMetricsOverride", &screen);
    let time = if pictures.is_some() { LOAD } else { Duration::ZERO };
    thread::scope(|scope| {
        load(scope, warmline.address(), time);
        browser.wait_for("document.title.includes('failing')");
        if pictures.is_some() {
            thread::sleep(time / 2);
        }
        if let Some(folder) = &pictures {
            picture(&browser, &Path::new(folder).join("documents.png"));
        }
        warmline.set("upstreams.0.pool.purgeDelay", "never").be_refused();
        for (scheme, width) in [("light", 1400), ("dark", 1400), ("light", 420), ("dark", 420)] {
            look(&browser, scheme, width, pictures.as_ref().map(Path::new));
        }
    });
}

/// Loads all three upstreams with clients for this time, and with at least some requests.
fn load<'scope>(scope: &'scope thread::Scope<'scope, '_>, warmline: SocketAddr, time: Duration) {
    let end = Instant::now() + time;
    let clients = [
        ("payments.test", "/bytes/900", 6),
        ("orders.test", "/any", 3),
        ("ledger.test", "/any", 1),
    ];
    for (host, target, count) in clients {
        for number in 0..count {
            scope.spawn(move || {
                let mut client = Client::connect(warmline);
                for round in 0.. {
                    client.get(host, target);
                    if round > 8 && Instant::now() > end {
                        return;
                    }
                    thread::sleep(Duration::from_millis(3 + 17 * number));
                }
            });
        }
    }
}

/// Asserts that the page does not scroll sideways at this width, and that its background is dark in the scheme `dark`
/// alone; saves a picture if there is a folder.
fn look(browser: &Browser, scheme: &str, width: u32, folder: Option<&Path>) {
    let screen = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
    browser.ask("Emulation.setDeviceMetricsOverride", &screen);
    let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.ask("Emulation.setEmulatedMedia", &media);
    let wide = browser.value("document.documentElement.scrollWidth");
    assert_eq!(wide, width, "{scheme} {width}: the page scrolls sideways");
    let dark = browser.value(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 64)",
    );
    assert_eq!(dark, scheme == "dark");
    if let Some(folder) = folder {
        picture(browser, &folder.join(format!("{scheme}-{width}.png")));
    }
}

/// Saves a picture of the whole page, beyond the part that the screen shows.
fn picture(browser: &Browser, file: &Path) {
    let parameters = json!({ "format": "png", "captureBeyondViewport": true });
    let picture = browser.ask("Page.captureScreenshot", &parameters);
    fs::write(file, decode(picture["data"].as_str().unwrap())).unwrap();
}

/// Decodes Base64 (RFC 4648 section 4).
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).expect("base64");
        held = held << 6 | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    bytes
}
