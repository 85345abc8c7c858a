//! Handshakes that fail for what they offer, a session or a large key share: made once more without that, told, remembered.

use std::sync::{Arc, Mutex};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer, kx_group::X25519MLKEM768},
    },
    version::{TLS12, TLS13},
};

use super::first_message::{FirstMessage, Share};
use crate::{
    hostile::bare_tls::Tls,
    support::{
        authority::Authority,
        log_lines,
        origin::{Connection, Gate, NAME, Origin},
        program::Program,
        running::Running,
        setup::Setup,
        wait_for,
    },
};

/// The ways in which a server ends a handshake.
#[derive(Debug, Clone, Copy)]
enum How {
    /// With the fatal alert `internal_error`, then FIN.
    Alert,
    /// With RST.
    Reset,
    /// With FIN.
    Fin,
    /// Not at all: it says nothing more.
    Silence,
}

const EVERY_WAY: [How; 4] = [How::Alert, How::Reset, How::Fin, How::Silence];
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
/// Each answer ends its connection, so that the next request needs a handshake.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nright";

impl How {
    /// `timeouts.handshake` before a server that ends handshakes like this. Only silence has to be waited for, half of the time; the
    /// other half is the second try's, on a busy machine too.
    fn limit(self) -> &'static str {
        match self {
            Self::Silence => "2s",
            Self::Alert | Self::Reset | Self::Fin => "20s",
        }
    }

    async fn end(self, mut peer: Connection) {
        match self {
            Self::Alert => {
                peer.write(ALERT).await;
                peer.close().await;
            }
            Self::Reset => peer.reset(),
            Self::Fin => peer.close().await,
            Self::Silence => {
                peer.ended().await;
            }
        }
    }
}

/// A server that ends some handshakes, and what it saw.
struct Picky {
    origin: Origin,
    seen: Arc<Mutex<Vec<FirstMessage>>>,
}

impl Picky {
    /// Starts one that ends those whose first message is `refused`.
    fn start(
        version: &'static SupportedProtocolVersion,
        how: How,
        refused: impl Fn(FirstMessage) -> bool + Copy + Send + Sync + 'static,
    ) -> Self {
        let config = config(version, aws_lc_rs::default_provider());
        Self::serving(move |message, peer, bytes| {
            let config = Arc::clone(&config);
            async move {
                if refused(message) {
                    return how.end(peer).await;
                }
                serve(peer, &config, &bytes).await;
            }
        })
    }

    /// Starts one that makes each handshake, and treats what came of it so.
    fn accepting<F: Future<Output = ()> + Send + 'static>(
        treat: impl Fn(FirstMessage, Tls) -> F + Send + Sync + 'static,
    ) -> Self {
        let config = config(&TLS13, aws_lc_rs::default_provider());
        let treat = Arc::new(treat);
        Self::serving(move |message, peer, bytes| {
            let (config, treat) = (Arc::clone(&config), Arc::clone(&treat));
            async move {
                if let Some(tls) = accept(peer, &config, &bytes).await {
                    treat(message, tls).await;
                }
            }
        })
    }

    fn serving<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(FirstMessage, Connection, Vec<u8>) -> F + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let seeing = Arc::clone(&seen);
        let serve = Arc::new(serve);
        let origin = Origin::scripted(move |mut peer| {
            let (seen, serve) = (Arc::clone(&seeing), Arc::clone(&serve));
            async move {
                let Some((message, bytes)) = FirstMessage::read(&mut peer).await else { return };
                seen.lock().unwrap().push(message);
                serve(message, peer, bytes).await;
            }
        });
        Self { origin: origin.plain().start(), seen }
    }

    /// The key share of each first message, in a word.
    fn seen(&self) -> Vec<&'static str> {
        self.seen.lock().unwrap().iter().map(|message| told(message.share)).collect()
    }

    /// For each first message, true if it offered a session.
    fn sessions(&self) -> Vec<bool> {
        self.seen.lock().unwrap().iter().map(|message| message.session).collect()
    }
}

fn told(share: Share) -> &'static str {
    match share {
        Share::Large => "large",
        Share::Small => "small",
        Share::Classic => "classic",
    }
}

/// Answers the first message, which was read already; `None` if that cannot be.
async fn begin(peer: Connection, config: &Arc<ServerConfig>, first: &[u8]) -> Option<Tls> {
    let mut tls = Tls::new(peer, config);
    tls.session.read_tls(&mut &first[..]).unwrap();
    (tls.session.process_new_packets().is_ok() && tls.send().await).then_some(tls)
}

/// Makes the handshake that begins with this message; `None` if it failed.
async fn accept(peer: Connection, config: &Arc<ServerConfig>, first: &[u8]) -> Option<Tls> {
    let mut tls = begin(peer, config, first).await?;
    tls.handshake().await.then_some(tls)
}

/// Makes the handshake and serves one request.
async fn serve(peer: Connection, config: &Arc<ServerConfig>, first: &[u8]) {
    if let Some(tls) = accept(peer, config, first).await {
        answer(tls).await;
    }
}

async fn answer(mut tls: Tls) {
    if tls.request().await {
        tls.answer(ANSWER).await;
        close(tls).await;
    }
}

/// Ends a connection politely.
async fn close(mut tls: Tls) {
    tls.session.send_close_notify();
    tls.send().await;
    tls.read_all().await;
}

fn config(
    version: &'static SupportedProtocolVersion,
    provider: CryptoProvider,
) -> Arc<ServerConfig> {
    let identity = Authority::shared().server(&[NAME]);
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth();
    let key = identity.private_key();
    let mut config = builder.with_single_cert(identity.chain.clone(), key).unwrap();
    config.ticketer = Ticketer::new().unwrap();
    Arc::new(config)
}

/// Without retries: second handshakes are none of them.
fn before(picky: &Picky, limit: &str) -> Setup {
    Setup::new()
        .upstream("origin", &picky.origin)
        .set("retries.max", 0)
        .set("timeouts.handshake", limit)
}

/// A POST, which nothing that was sent would allow to be sent again.
fn post(warmline: &Running) -> u16 {
    let mut client = warmline.connect();
    client.send(format!("POST /any HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n\r\n"));
    client.response().status
}

#[test]
fn fault_02_a_server_that_ends_each_handshake_with_a_session_is_served_in_full() {
    for version in [&TLS12, &TLS13] {
        for how in EVERY_WAY {
            let picky = Picky::start(version, how, |message| message.session);
            let warmline = before(&picky, how.limit()).set("pool.maxConnections", 1).start();
            for _ in 0..5 {
                assert_eq!(post(&warmline), 200, "{version:?} {how:?}");
            }
            let (f, s) = (false, true);
            assert_eq!(picky.sessions(), [f, s, f, s, f, f, f], "{version:?} {how:?}");
            assert_eq!(picky.origin.read(|record| record.most_open), 1, "{version:?} {how:?}");
            let failed = warmline.metric("warmline_tls_handshakes_total", &[("result", "failed")]);
            assert_eq!(failed, 2, "{version:?} {how:?}");
        }
    }
}

#[test]
fn fault_02_what_was_learned_of_sessions_is_said_once_and_once_when_they_are_off() {
    log_lines::catch();
    let picky = Picky::start(&TLS12, How::Alert, |message| message.session);
    let setup = Setup::new().upstream("ends-sessions", &picky.origin).set("retries.max", 0);
    let warmline = setup.set_global("log.level", "warn").start();
    for _ in 0..8 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    let about = |words| log_lines::about("ends-sessions", words);
    assert_eq!((about("its sessions are forgotten"), about("none is offered")), (1, 1));
}

#[test]
fn fault_02_without_resumption_no_session_is_offered_or_asked_for() {
    for version in [&TLS12, &TLS13] {
        let picky = Picky::start(version, How::Alert, |_| false);
        let warmline = before(&picky, "5s").set("tls.resumption", false).start();
        for _ in 0..3 {
            assert_eq!(warmline.one_shot("/any").status, 200);
        }
        assert_eq!(picky.sessions(), [false; 3], "{version:?}");
        assert!(picky.seen.lock().unwrap().iter().all(|message| !message.takes_tickets));
        let full = warmline.metric("warmline_tls_handshakes_total", &[("result", "full")]);
        assert_eq!(full, 3);
    }
}

#[test]
fn fault_02_resumption_switched_off_and_on_is_a_change_like_any_other() {
    let picky = Picky::start(&TLS13, How::Alert, |_| false);
    let mut warmline = before(&picky, "5s").start_following();
    let ask = |warmline: &Running| assert_eq!(warmline.one_shot("/any").status, 200);
    ask(&warmline);
    ask(&warmline);
    warmline.set("upstreams.0.tls.resumption", false).apply();
    ask(&warmline);
    warmline.set("upstreams.0.tls.resumption", true).apply();
    ask(&warmline);
    ask(&warmline);
    assert_eq!(picky.sessions(), [false, true, false, false, true]);
}

#[test]
fn fault_02_a_certificate_that_is_refused_after_an_offered_session_costs_no_second_handshake() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("retries.max", 0).start();
    assert_eq!(warmline.one_shot("/close").status, 200);
    origin.show(&Authority::shared().server(&["other.test"]));
    assert_eq!(warmline.one_shot("/any").status, 502);
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn fault_12_a_large_first_message_that_is_lost_is_followed_by_small_ones() {
    for how in [How::Reset, How::Fin, How::Silence] {
        let picky = Picky::start(&TLS13, how, |message| message.share == Share::Large);
        let warmline = before(&picky, how.limit()).set("pool.maxConnections", 1).start();
        for _ in 0..3 {
            assert_eq!(post(&warmline), 200, "{how:?}");
        }
        assert_eq!(picky.seen(), ["large", "small", "small", "small"], "{how:?}");
        assert_eq!(picky.sessions(), [false, false, true, true], "{how:?}");
        assert_eq!(picky.origin.read(|record| record.most_open), 1, "{how:?}");
    }
}

#[test]
fn fault_12_where_session_and_large_message_may_both_be_the_cause_they_are_tried_one_at_a_time() {
    let lost = Arc::new(Mutex::new(false));
    let (config, loses) = (config(&TLS13, aws_lc_rs::default_provider()), Arc::clone(&lost));
    // The server chooses a hybrid group, so that the next message is large again.
    let picky = Picky::serving(move |message, peer, bytes| {
        let (config, lost) = (Arc::clone(&config), *loses.lock().unwrap());
        async move {
            if lost && message.share == Share::Large {
                return How::Reset.end(peer).await;
            }
            serve(peer, &config, &bytes).await;
        }
    });
    let warmline = before(&picky, "5s").start();
    assert_eq!(post(&warmline), 200);
    *lost.lock().unwrap() = true;
    for _ in 0..3 {
        assert_eq!(post(&warmline), 200);
    }
    assert_eq!(picky.seen(), ["large", "large", "small", "small", "small"]);
    assert_eq!(picky.sessions(), [false, true, false, true, true]);
}

#[test]
fn fault_12_a_share_that_the_server_asks_for_in_vain_is_not_named_any_more() {
    let only_hybrid =
        CryptoProvider { kx_groups: vec![X25519MLKEM768], ..aws_lc_rs::default_provider() };
    let (asking, classic) =
        (config(&TLS13, only_hybrid), config(&TLS13, aws_lc_rs::default_provider()));
    let picky = Picky::serving(move |message, peer, bytes| {
        let (asking, classic) = (Arc::clone(&asking), Arc::clone(&classic));
        async move {
            if message.share == Share::Large {
                return How::Reset.end(peer).await;
            }
            if message.share == Share::Classic {
                return serve(peer, &classic, &bytes).await;
            }
            // Its answer asks for the share; the share itself is lost.
            let tls = begin(peer, &asking, &bytes).await.expect("a small message is answered");
            How::Silence.end(tls.peer).await;
        }
    });
    let warmline = before(&picky, How::Silence.limit()).start();
    assert_eq!(post(&warmline), 504, "both halves of the time are over");
    assert_eq!(post(&warmline), 200);
    assert_eq!(picky.seen(), ["large", "small", "classic"]);
}

#[test]
fn fault_12_what_the_configuration_says_of_the_key_exchange_holds() {
    for (key_exchange, status, seen) in
        [("classic", 200, ["classic", "classic"]), ("hybrid", 502, ["large", "large"])]
    {
        let picky = Picky::start(&TLS13, How::Reset, |message| message.share == Share::Large);
        let warmline = before(&picky, "5s").set("tls.keyExchange", key_exchange).start();
        assert_eq!([post(&warmline), post(&warmline)], [status; 2], "{key_exchange}");
        assert_eq!(picky.seen(), seen);
    }
}

#[test]
fn fault_12_an_alert_as_the_only_answer_to_a_large_message_names_the_key_that_makes_it_small() {
    let picky = Picky::start(&TLS13, How::Alert, |message| message.share == Share::Large);
    let mut warmline = before(&picky, "5s").start_following();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("tls.keyExchange: classic"), "{}", answer.text());
    warmline.set("upstreams.0.tls.keyExchange", "classic").apply();
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(picky.seen(), ["large", "classic"]);

    let refuses_all = Picky::start(&TLS13, How::Alert, |_| true);
    let warmline = before(&refuses_all, "5s").set("tls.keyExchange", "classic").start();
    let answer = warmline.one_shot("/any");
    assert!(!answer.text().contains("tls.keyExchange"), "{}", answer.text());
}

#[test]
fn fault_12_a_hybrid_handshake_that_needs_its_whole_time_has_it() {
    // Under `hybrid` nothing comes of giving up early. The answer comes when more than half of the time is over.
    let config = config(&TLS13, aws_lc_rs::default_provider());
    let picky = Picky::serving(move |_, peer, bytes| {
        let config = Arc::clone(&config);
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
            serve(peer, &config, &bytes).await;
        }
    });
    let warmline = before(&picky, "2s").set("tls.keyExchange", "hybrid").start();
    assert_eq!(post(&warmline), 200);
    assert_eq!(picky.seen(), ["large"]);
}

#[test]
fn fault_27_the_answer_to_a_failed_handshake_waits_for_no_close_and_its_place_does() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let gate = opened.clone();
        async move {
            if FirstMessage::read(&mut peer).await.is_some() {
                peer.write(HANDSHAKE_FAILURE).await;
                gate.opened().await;
            }
        }
    });
    let origin = origin.plain().start();
    let warmline = Setup::before(&origin).set("pool.maxConnections", 1).start();
    let answer = warmline.one_shot("/any");
    let census = warmline.pool("origin").census;
    assert_eq!((answer.status, census.closing), (502, 1), "{}", answer.text());
    gate.open();
    warmline.wait_for_pool("the close", |pool| pool.census.total() == 0);
}

#[test]
fn fault_02_a_resumed_connection_that_ends_unused_is_followed_by_a_full_handshake() {
    let picky = Picky::accepting(|message, mut tls| async move {
        if !message.session {
            return answer(tls).await;
        }
        if tls.request().await {
            tls.peer.reset();
        }
    });
    let setup = Setup::new().upstream("origin", &picky.origin).set("retries.max", 1);
    let warmline = setup.start();
    for _ in 0..5 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    let (f, s) = (false, true);
    assert_eq!(picky.sessions(), [f, s, f, s, f, f, f], "after the second time none is offered");
    let retries = warmline.metric("warmline_retries_total", &[("reason", "unanswered")]);
    assert_eq!(retries, 2);
}

#[test]
fn fault_38_a_full_key_log_is_told_once() {
    let origin = Origin::serving().start();
    let program = Program::start(&origin, "exec $0 run --config $1 --key-log /dev/full");
    for _ in 0..3 {
        assert_eq!(program.connect().get(NAME, "/close").status, 200);
    }
    let told = || program.said("the key log cannot be written").len();
    wait_for("what is said of the key log", || told() > 0);
    assert_eq!(told(), 1);
}

#[test]
fn fault_17_a_server_that_breaks_the_protocol_is_asked_once() {
    let picky = Picky::accepting(|_, mut tls| async move {
        if !tls.request().await {
            return;
        }
        for _ in 0..10_000 {
            tls.session.refresh_traffic_keys().unwrap();
        }
        tls.send().await;
        tls.read_all().await;
    });
    let warmline = Setup::new().upstream("origin", &picky.origin).start();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("broke the TLS protocol"), "{}", answer.text());
    assert_eq!(picky.seen().len(), 1);
}

#[test]
fn fault_02_warm_connections_that_the_server_closes_unused_leave_resumption_as_it_is() {
    let picky = Picky::accepting(|_, tls| close(tls));
    let _warmline = Setup::new().upstream("origin", &picky.origin).set("pool.minIdle", 1).start();
    wait_for("a few warm connections", || picky.seen().len() >= 5);
    assert_eq!(picky.sessions()[..5], [false, true, true, true, true]);
}
