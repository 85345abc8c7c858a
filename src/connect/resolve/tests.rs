//! Tests with real DNS and real files: each makes a name server and a folder.

#[path = "../../../tests/behaviour/support/name_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "the behaviour tests use all of it, and hand it on")]
mod name_server;

use std::{fs, net::SocketAddr};

use name_server::{
    Kind::{A, Aaaa},
    NameServer, Says,
};
use tempfile::TempDir;

use super::*;

const NAME: &str = "a.example";
/// A limit that suffices for a few questions on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
/// A limit that is to be reached. Its shares suffice for an answer on a busy machine.
const SHORT: Duration = Duration::from_secs(1);

/// The system's files in a folder of the test's own, and a name server that they name.
struct Scene {
    folder: TempDir,
    server: NameServer,
    resolver: Resolver,
}

impl Scene {
    fn new() -> Self {
        let (folder, server) = (tempfile::tempdir().expect("a folder"), NameServer::start());
        let path = |name| folder.path().join(name);
        let resolver = Resolver::from_files(path("hosts"), path("resolv.conf"), server.port());
        let scene = Self { folder, server, resolver };
        scene.write("hosts", "127.0.0.1 localhost\n");
        scene.write("resolv.conf", "nameserver 127.0.0.1\n");
        scene
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).expect("a file");
    }

    fn says(&self, kind: name_server::Kind, says: Says) -> &Self {
        self.server.says(NAME, kind, says);
        self
    }

    async fn answer(&self, name: &str) -> Result<Resolved, NameFault> {
        self.resolver.look_up(name, LIMIT).await
    }

    /// Returns every address, including those of the family that is late.
    async fn all(&self, name: &str) -> Result<Vec<String>, String> {
        let answer = self.answer(name).await.map_err(|fault| fault.to_string())?;
        let mut parts = answer.parts;
        if let Some(late) = answer.late {
            parts.extend(late.await);
        }
        Ok(by_turns(&parts).iter().map(IpAddr::to_string).collect())
    }

    async fn fault(&self, name: &str) -> String {
        self.answer(name).await.err().expect("there is no address").to_string()
    }

    /// Returns the fault of a name for which no name server answers.
    async fn silence(&self, name: &str) -> String {
        let answer = self.resolver.look_up(name, SHORT).await;
        answer.err().expect("there is no answer").to_string()
    }
}

fn sorted(mut asked: Vec<String>) -> Vec<String> {
    asked.sort();
    asked
}

#[tokio::test]
async fn fault_03_a_name_in_the_hosts_file_is_answered_from_it_alone_for_both_families() {
    let scene = Scene::new();
    scene.says(A, Says::addresses(&["192.0.2.9"])).says(Aaaa, Says::addresses(&["2001:db8::9"]));
    for (line, found) in
        [("192.0.2.1 a.example", "192.0.2.1"), ("2001:db8::1 x A.Example", "2001:db8::1")]
    {
        scene.write("hosts", line);
        assert_eq!(scene.all(NAME).await, Ok(vec![found.into()]));
        assert_eq!(scene.all("a.example.").await, Ok(vec![found.into()]));
    }
    assert_eq!(scene.server.asked(), [""; 0], "nobody was asked");
}

#[tokio::test]
async fn fault_03_the_hosts_file_comes_before_any_search_domain() {
    let scene = Scene::new();
    scene.write("resolv.conf", "search example\nnameserver 127.0.0.1\noptions ndots:5\n");
    scene.says(A, Says::addresses(&["192.0.2.9"]));
    scene.write("hosts", "192.0.2.1 a\n");
    assert_eq!(scene.all("a").await, Ok(vec!["192.0.2.1".into()]));
    assert_eq!(scene.server.asked(), [""; 0]);
}

#[tokio::test]
async fn fault_03_the_hosts_file_is_read_again_when_it_changes() {
    let scene = Scene::new();
    scene.says(A, Says::addresses(&["192.0.2.9"])).says(Aaaa, Says::NoData(None));
    assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.9".into()]), "from DNS");
    for address in ["192.0.2.1", "192.0.2.22"] {
        scene.write("hosts", &format!("{address} {NAME}\n"));
        assert_eq!(scene.all(NAME).await, Ok(vec![address.into()]));
    }
    fs::write(scene.folder.path().join("new"), "192.0.2.33 a.example b\n").expect("a file");
    fs::rename(scene.folder.path().join("new"), scene.folder.path().join("hosts")).expect("moved");
    assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.33".into()]), "replaced as editors do");
    fs::remove_file(scene.folder.path().join("hosts")).expect("gone");
    assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.9".into()]), "from DNS again");
}

#[tokio::test]
async fn fault_04_a_broken_or_missing_resolv_conf_never_hides_the_hosts_file() {
    let scene = Scene::new();
    scene.write("hosts", "192.0.2.1 a.example\n");
    for text in ["", "nonsense\n", "search example\n"] {
        scene.write("resolv.conf", text);
        assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]), "{text}");
        let fault = scene.fault("b.example").await;
        for says in ["/hosts", "/resolv.conf: it names no name server"] {
            assert!(fault.contains(says), "{fault}");
        }
    }
    fs::remove_file(scene.folder.path().join("resolv.conf")).expect("gone");
    assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]));
    assert!(scene.fault("b.example").await.contains("/resolv.conf: No such file"));
    assert_eq!(scene.all("localhost").await, Ok(vec!["127.0.0.1".into(), "::1".into()]));
}

#[tokio::test]
async fn fault_04_a_family_that_is_never_answered_does_not_hold_the_other_up() {
    for (answered, silent, address) in [(A, Aaaa, "192.0.2.1"), (Aaaa, A, "2001:db8::1")] {
        let scene = Scene::new();
        scene.says(answered, Says::addresses(&[address])).says(silent, Says::Silence);
        let answer = scene.answer(NAME).await.expect("one family is enough");
        assert_eq!(by_turns(&answer.parts), [address.parse::<IpAddr>().unwrap()]);
        assert!(answer.late.is_some(), "the other may still come");
        let family = if answered == A { Family::V4 } else { Family::V6 };
        assert_eq!(answer.parts.len(), 1, "of the other nothing is said");
        assert_eq!(answer.parts[0].family, family);
    }
}

#[tokio::test]
async fn fault_04_a_family_that_fails_leaves_the_other() {
    for says in [Says::Code(2), Says::Code(3), Says::Code(5), Says::NoData(None)] {
        let scene = Scene::new();
        scene.says(A, Says::addresses(&["192.0.2.1"])).says(Aaaa, says.clone());
        let answer = scene.answer(NAME).await.expect("one family is enough");
        assert_eq!(by_turns(&answer.parts).len(), 1);
        assert!(answer.late.is_none(), "{says:?}");
    }
}

#[tokio::test]
async fn fault_04_both_families_are_found_and_tried_by_turns() {
    let scene = Scene::new();
    scene.says(A, Says::addresses(&["192.0.2.1", "192.0.2.2"]));
    scene.says(Aaaa, Says::addresses(&["2001:db8::1"]));
    assert_eq!(scene.all(NAME).await.unwrap(), ["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
}

#[tokio::test]
async fn fault_04_a_lost_question_is_asked_again_well_within_the_limit() {
    let scene = Scene::new();
    scene.says(A, Says::addresses(&["192.0.2.1"])).says(Aaaa, Says::NoData(None));
    for lost in [1, 2, 4] {
        scene.server.loses(lost);
        scene.resolver.look_up(NAME, LIMIT).await.expect("it is asked again");
        if let Resolver::System(system) = &scene.resolver {
            lock(&system.cache).forget(NAME);
        }
    }
    assert_eq!(scene.server.lost(), 7);
    for (limit, names, expected) in
        [(5000, 1, 625), (5000, 4, 333), (5000, 7, 208), (100, 1, 20), (60_000, 1, 1000)]
    {
        let limit = Duration::from_millis(limit);
        assert_eq!(pace(limit, limit / (names + 1)).as_millis(), expected, "{limit:?} {names}");
    }
}

#[tokio::test]
async fn fault_04_a_missing_family_is_cached_as_long_as_the_others_answer() {
    for none_for in [None, Some(3600)] {
        let scene = Scene::new();
        scene.says(A, Says::addresses(&["192.0.2.1"])).says(Aaaa, Says::NoData(none_for));
        for _ in 0..3 {
            assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]));
        }
        assert_eq!(sorted(scene.server.asked()), ["A a.example", "AAAA a.example"], "{none_for:?}");
    }
}

#[tokio::test]
async fn fault_04_an_old_answer_is_used_while_no_name_server_answers() {
    for away in [Says::Silence, Says::Code(2), Says::Code(5)] {
        let scene = Scene::new();
        let address = Says::Addresses(0, vec![[192, 0, 2, 1].into()]);
        scene.says(A, address.clone()).says(Aaaa, Says::NoData(None));
        assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]));
        scene.says(A, away.clone()).says(Aaaa, away.clone());
        assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]), "{away:?}");
        let asked = scene.server.asked().len();
        assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]));
        assert_eq!(scene.server.asked().len(), asked, "for a while nobody waits for it");
    }
}

#[tokio::test]
async fn fault_04_an_old_answer_is_worth_nothing_once_the_name_is_gone() {
    let scene = Scene::new();
    scene.says(A, Says::Addresses(0, vec![[192, 0, 2, 1].into()])).says(Aaaa, Says::NoData(None));
    assert!(scene.all(NAME).await.is_ok());
    scene.says(A, Says::Code(3)).says(Aaaa, Says::Code(3));
    assert!(scene.fault(NAME).await.starts_with("there is no such name"));
    scene.says(A, Says::Silence).says(Aaaa, Says::Silence);
    assert!(scene.silence(NAME).await.starts_with("no name server answered"));
}

#[tokio::test]
async fn fault_04_resolv_conf_is_read_again_when_it_changes() {
    let scene = Scene::new();
    let there = SocketAddr::from(([127, 0, 0, 9], scene.server.port()));
    let other = NameServer::start_at(there);
    other.says(NAME, A, Says::addresses(&["192.0.2.1"])).says(NAME, Aaaa, Says::NoData(None));
    scene.says(A, Says::Silence).says(Aaaa, Says::Silence);
    assert!(scene.silence(NAME).await.contains("127.0.0.1:"));
    scene.write("resolv.conf", "nameserver 127.0.0.9\n");
    assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]));
    assert!(other.asked().contains(&"A a.example".to_owned()));
}

#[tokio::test]
async fn fault_04_a_name_server_that_fails_makes_way_for_the_next_at_once() {
    for first in [Says::Code(2), Says::Code(5), Says::Silence] {
        let scene = Scene::new();
        let other = NameServer::start_at(SocketAddr::from(([127, 0, 0, 8], scene.server.port())));
        other.says(NAME, A, Says::addresses(&["192.0.2.1"])).says(NAME, Aaaa, Says::NoData(None));
        scene.says(A, first.clone()).says(Aaaa, first.clone());
        scene.write("resolv.conf", "nameserver 127.0.0.1\nnameserver 127.0.0.8\n");
        assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]), "{first:?}");
    }
}

#[tokio::test]
async fn fault_04_the_error_says_which_name_was_asked_of_which_servers() {
    let scene = Scene::new();
    scene.write("resolv.conf", "search svc.test test\nnameserver 127.0.0.1\noptions ndots:5\n");
    let server = format!("127.0.0.1:{}", scene.server.port());
    let fault = scene.fault("api").await;
    let names = r#"asked for "api.svc.test", then "api.test", then "api""#;
    assert_eq!(
        fault,
        format!("there is no such name, by the name server's word ({server}, {names})")
    );
    for kind in [A, Aaaa] {
        scene.server.says("api.svc.test", kind, Says::Code(2));
    }
    let fault = scene.fault("api").await;
    let failed = format!("{server} answered SERVFAIL, asked for \"api.svc.test\"");
    assert!(fault.starts_with(&failed), "{fault}");
    for kind in [A, Aaaa] {
        scene.server.says("api.svc.test", kind, Says::Silence);
    }
    let fault = scene.silence("api.svc.test.").await;
    let silent = "no name server answered within 1s, asked for \"api.svc.test\"";
    assert!(fault.starts_with(silent) && fault.ends_with(&server), "{fault}");
}

#[tokio::test]
async fn fault_04_a_name_with_a_dot_is_asked_as_it_is_first_and_then_below_the_search_domains() {
    let scene = Scene::new();
    scene.write("resolv.conf", "search svc.test test\nnameserver 127.0.0.1\noptions ndots:5\n");
    let below = "api.shop.svc.test";
    scene.server.says(below, A, Says::addresses(&["192.0.2.1"])).says(
        below,
        Aaaa,
        Says::NoData(None),
    );
    assert_eq!(scene.all("api.shop").await, Ok(vec!["192.0.2.1".into()]));
    let asked = scene.server.asked();
    assert!(asked[..2].iter().all(|asked| asked.ends_with(" api.shop")), "{asked:?}");
    assert!(asked[2..].iter().all(|asked| asked.ends_with(below)), "{asked:?}");
    assert_eq!(scene.all("api.shop").await, Ok(vec!["192.0.2.1".into()]));
    assert_eq!(scene.server.asked().len(), 4, "the way to it is remembered with the answer");
    assert!(scene.fault("api.shop.").await.starts_with("there is no such name"));
    // A name server that is cut off from the world does not hide the names below the search domains.
    for (name, says) in [("b.shop", Says::Code(2)), ("c.shop", Says::Silence)] {
        let below = format!("{name}.svc.test");
        for kind in [A, Aaaa] {
            scene.server.says(name, kind, says.clone());
        }
        scene.server.says(&below, A, Says::addresses(&["192.0.2.2"]));
        scene.server.says(&below, Aaaa, Says::NoData(None));
        assert_eq!(scene.all(name).await, Ok(vec!["192.0.2.2".into()]), "{name}");
    }
}

#[tokio::test]
async fn fault_04_a_name_that_is_answered_late_is_waited_for_where_no_search_domain_has_it() {
    let scene = Scene::new();
    scene.write("resolv.conf", "search svc.test test\nnameserver 127.0.0.1\n");
    scene.says(A, Says::Silence).says(Aaaa, Says::Silence);
    let fault = scene.silence(NAME).await;
    let silent = "no name server answered within 1s, asked for \"a.example\"";
    assert!(fault.starts_with(silent), "{fault}");
    answered_late(&scene, "a.example.svc.test", NAME).await;
}

/// Looks [`NAME`] up, and has the server answer for this name once the other was asked for.
async fn answered_late(scene: &Scene, other: &'static str, name: &str) {
    let limit = Duration::from_secs(4);
    let (resolver, server) = (scene.resolver.clone(), scene.server.clone());
    let before = server.asked().len();
    let answer = tokio::spawn(async move { resolver.look_up(NAME, limit).await.is_ok() });
    while !server.asked()[before..].iter().any(|asked| asked.ends_with(other)) {
        tokio::task::yield_now().await;
    }
    server.says(name, A, Says::addresses(&["192.0.2.1"])).says(name, Aaaa, Says::NoData(None));
    assert!(answer.await.expect("it ends"), "an answer that comes within the limit is used");
}

#[tokio::test]
async fn fault_04_of_several_names_without_an_answer_each_is_asked_for_again() {
    for late in [NAME, "a.example.svc.test"] {
        let scene = Scene::new();
        scene.write("resolv.conf", "search svc.test test\nnameserver 127.0.0.1\n");
        for kind in [A, Aaaa] {
            scene.says(kind, Says::Silence);
            scene.server.says("a.example.svc.test", kind, Says::Silence);
        }
        answered_late(&scene, "a.example.test", late).await;
    }
}

#[tokio::test]
async fn fault_04_a_name_without_an_address_is_not_called_missing_for_its_search_domains() {
    let scene = Scene::new();
    scene.write("resolv.conf", "search svc.test test\nnameserver 127.0.0.1\n");
    scene.says(A, Says::NoData(None)).says(Aaaa, Says::NoData(None));
    let fault = scene.fault(NAME).await;
    assert!(fault.starts_with("it has no address, by the name server's word"), "{fault}");
}

#[tokio::test]
async fn fault_04_many_dials_ask_once() {
    let scene = Scene::new();
    scene.says(A, Says::Addresses(0, vec![[192, 0, 2, 1].into()])).says(Aaaa, Says::NoData(None));
    let dials = (0..50).map(|_| scene.answer(NAME));
    let answers = futures_util::future::join_all(dials).await;
    assert!(answers.iter().all(Result::is_ok));
    // Each family's question is one, however often it was sent.
    let asked = scene.server.asked().len();
    assert!(asked <= 2 * question::SENT, "{asked} questions for 50 dials");
}

#[tokio::test]
async fn an_alias_is_followed_also_where_the_name_server_does_not() {
    let scene = Scene::new();
    for kind in [A, Aaaa] {
        scene.says(kind, Says::Alias(60, "b.example"));
        scene.server.says("loop.example", kind, Says::Alias(60, "loop.example"));
    }
    scene.server.says("b.example", A, Says::addresses(&["192.0.2.1"]));
    scene.server.says("b.example", Aaaa, Says::NoData(None));
    assert_eq!(scene.all(NAME).await, Ok(vec!["192.0.2.1".into()]));
    assert!(scene.fault("loop.example").await.contains("it has no address"));
}

#[tokio::test]
async fn fault_32_a_name_with_an_underscore_is_resolved() {
    let scene = Scene::new();
    scene.write("resolv.conf", "search shop_1.test\nnameserver 127.0.0.1\n");
    scene.write("hosts", "192.0.2.2 payments_api\n");
    let below = "my_service.shop_1.test";
    scene.server.says(below, A, Says::addresses(&["192.0.2.1"])).says(
        below,
        Aaaa,
        Says::NoData(None),
    );
    assert_eq!(scene.all("my_service").await, Ok(vec!["192.0.2.1".into()]));
    assert_eq!(scene.all("payments_api").await, Ok(vec!["192.0.2.2".into()]));
    for name in ["_x._tcp.a_.example", "-a.example", "xn--a.example", "1a.2"] {
        let fault = scene.fault(name).await;
        assert!(fault.starts_with("there is no such name, by the name server's word"), "{fault}");
    }
}

#[tokio::test]
async fn case_51_an_answer_without_time_to_live_is_asked_for_again_and_one_with_it_is_kept() {
    let scene = Scene::new();
    scene.says(Aaaa, Says::NoData(Some(3600)));
    for (ttl, last, found) in [(0, 1, 1), (3600, 2, 2), (3600, 1, 2)] {
        scene.says(A, Says::Addresses(ttl, vec![[192, 0, 2, last].into()]));
        assert_eq!(scene.all(NAME).await, Ok(vec![format!("192.0.2.{found}")]));
    }
}

#[tokio::test]
async fn case_51_the_answer_that_a_name_does_not_exist_is_not_cached_whatever_the_zone_says() {
    let scene = Scene::new();
    for last in [1, 2] {
        scene.says(A, Says::Code(3)).says(Aaaa, Says::Code(3));
        assert!(scene.fault(NAME).await.starts_with("there is no such name"));
        scene.says(A, Says::NoData(Some(3600))).says(Aaaa, Says::NoData(Some(3600)));
        assert!(scene.fault(NAME).await.starts_with("it has no address"));
        scene.says(A, Says::Addresses(0, vec![[192, 0, 2, last].into()]));
        assert_eq!(scene.all(NAME).await, Ok(vec![format!("192.0.2.{last}")]));
    }
}

#[tokio::test]
async fn case_51_fifty_addresses_are_all_found() {
    let scene = Scene::new();
    let many: Vec<IpAddr> = (0..50).map(|last| [192, 0, 2, last].into()).collect();
    scene.says(A, Says::Addresses(0, many.clone())).says(Aaaa, Says::NoData(None));
    let found = scene.all(NAME).await.expect("over TCP: they are too many for a packet");
    assert_eq!(found, many.iter().map(IpAddr::to_string).collect::<Vec<_>>());
}

#[tokio::test]
async fn case_51_a_name_server_that_is_silent_costs_no_more_than_the_connect_limit() {
    let scene = Scene::new();
    scene.says(A, Says::Silence).says(Aaaa, Says::Silence);
    let fault = scene.resolver.look_up(NAME, SHORT).await.err().expect("no answer");
    assert!(matches!(fault, NameFault::Silent { limit: SHORT, .. }), "{fault}");
}

#[test]
fn fault_04_the_wait_for_the_other_family_is_bounded() {
    let part = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Some(Ok(ServerAnswer::Addresses(FamilyAnswer::new(Family::V4, addresses, Instant::now()))))
    };
    let (some, none) = (part(&["192.0.2.1"]), part(&[]));
    let (gone, failed) = (Some(Ok(ServerAnswer::NoName)), Some(Err(NoAnswer::Silent)));
    for (one, other, next) in [
        (&None, &None, SearchStep::Wait),
        (&some, &None, SearchStep::WaitALittle),
        (&none, &None, SearchStep::Wait),
        (&failed, &None, SearchStep::Wait),
        (&gone, &None, SearchStep::WaitALittle),
        (&some, &none, SearchStep::Enough),
        (&failed, &some, SearchStep::Enough),
        (&failed, &gone, SearchStep::Enough),
    ] {
        assert_eq!(judge(one.as_ref(), other.as_ref()), next, "{one:?} {other:?}");
        assert_eq!(judge(other.as_ref(), one.as_ref()), next, "{other:?} {one:?}");
    }
}
