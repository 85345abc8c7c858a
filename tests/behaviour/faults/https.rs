//! Fields in which an upstream names itself reach the application unchanged, as docs/https.md says.

use crate::support::{origin::Origin, setup::Setup};

const SAID: &[(&str, &str)] = &[
    ("location", "https://api.test/next?page=2"),
    ("content-location", "https://api.test/items/7"),
    ("link", "<https://api.test/items?page=2>; rel=\"next\""),
    ("refresh", "0; url=https://api.test/"),
    ("set-cookie", "session=1; Secure; HttpOnly; Domain=api.test; Path=/"),
    ("set-cookie", "__Host-a=2; Secure; Path=/"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
];

#[test]
fn fault_28_redirects_links_and_cookies_reach_the_application_as_they_came() {
    let fields: Vec<_> = SAID.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let fields = fields.concat();
    let origin = Origin::scripted(move |mut peer| {
        let fields = fields.clone();
        async move {
            while peer.request().await.is_some() {
                peer.write(format!("HTTP/1.1 302 Found\r\n{fields}content-length: 0\r\n\r\n"))
                    .await;
            }
            peer.close().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 302, "Warmline follows nothing itself");
    for (name, _) in SAID {
        let wanted: Vec<_> = SAID.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect();
        assert_eq!(answer.head.values(name), wanted, "{name}");
    }
}

#[test]
fn fault_28_the_page_names_every_such_field() {
    let page = include_str!("../../../docs/https.md");
    for name in
        ["Location", "Content-Location", "Link", "Refresh", "Secure", "Domain=", "Host", "NO_PROXY"]
    {
        assert!(page.contains(&format!("`{name}")), "{name}");
    }
}
