//! Handshakes that fail because of an offer, a session or a large key share: repeated without the offer, logged and
//! remembered.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            self, Ticketer,
            kx_group::{SECP384R1, X25519MLKEM768},
        },
    },
    version::{TLS12, TLS13},
};

use super::first_message::{FirstMessage, Share};
use crate::{
    hostile::bare_tls::Tls,
    support::{
        authority::Authority,
        kernel::{self, CLOSE_WAIT, ESTABLISHED},
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
    /// The fatal alert `internal_error`, then FIN.
    Alert,
    /// RST.
    Reset,
    /// FIN.
    Fin,
    /// No end at all: the server sends nothing more.
    Silence,
    /// An alert of this level and number, then FIN.
    AlertOf(u8, u8),
}

const EVERY_WAY: [How; 4] = [How::Alert, How::Reset, How::Fin, How::Silence];
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
/// An answer that ends its connection, so that the next request needs a handshake.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nright";

impl How {
    /// Returns the `timeouts.handshake` for a server that ends handshakes in this way. Only silence has to be waited
    /// for, for half of the time; the other half is the second handshake's, on a busy machine too.
    fn limit(self) -> &'static str {
        match self {
            Self::Silence => "2s",
            Self::Alert | Self::AlertOf(..) | Self::Reset | Self::Fin => "20s",
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
            Self::AlertOf(level, code) => {
                peer.write([21, 3, 3, 0, 2, level, code]).await;
                peer.close().await;
            }
        }
    }
}

/// A server that ends some handshakes and records the first message of each.
struct Picky {
    origin: Origin,
    seen: Arc<Mutex<Vec<FirstMessage>>>,
}

impl Picky {
    /// Starts a server that ends, by `how`, the handshakes whose first message is `refused`, and serves the others.
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

    /// Starts a server that makes each handshake and hands the result to `treat`.
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

    /// Returns the kind of key share of each first message: `large`, `small` or `classic`.
    fn seen(&self) -> Vec<&'static str> {
        self.seen.lock().unwrap().iter().map(|message| told(message.share)).collect()
    }

    /// Returns for each first message true if it offered a session.
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

/// Gives the server's TLS session the first message and returns all bytes of the reply.
fn reply(tls: &mut Tls, bytes: &[u8]) -> Vec<u8> {
    tls.session.read_tls(&mut &bytes[..]).unwrap();
    tls.session.process_new_packets().unwrap();
    let mut reply = Vec::new();
    while tls.session.wants_write() {
        tls.session.write_tls(&mut reply).unwrap();
    }
    reply
}

/// Ends a connection with the alert that the server would send after these bytes, had the client sent them.
async fn end_as_after(mut tls: Tls, bytes: &[u8]) {
    tls.session.read_tls(&mut &bytes[..]).unwrap();
    tls.session.process_new_packets().unwrap_err();
    tls.send().await;
    tls.peer.close().await;
}

/// A record of an unknown type: the alert is `decode_error`, which counts as final.
const NO_RECORD: [u8; 6] = [99, 3, 3, 0, 1, 0];
/// A record that cannot be decrypted: the alert is `bad_record_mac`, which counts as an accident.
const UNREADABLE: [u8; 25] = {
    let mut record = [0; 25];
    (record[0], record[1], record[2], record[4]) = (23, 3, 3, 20);
    record
};

/// Replies to the first message, which was read already; returns `None` if the message is refused or the peer has gone.
async fn begin(peer: Connection, config: &Arc<ServerConfig>, first: &[u8]) -> Option<Tls> {
    let mut tls = Tls::new(peer, config);
    tls.session.read_tls(&mut &first[..]).unwrap();
    (tls.session.process_new_packets().is_ok() && tls.send().await).then_some(tls)
}

/// Makes the handshake that begins with this message; returns `None` if the handshake failed.
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

/// Ends a connection politely and reads to the peer's end.
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

/// Configures Warmline before this server without retries: second handshakes are not retries.
fn before(picky: &Picky, limit: &str) -> Setup {
    Setup::new()
        .upstream("origin", &picky.origin)
        .set("retries.max", 0)
        .set("timeouts.handshake", limit)
}

/// Sends a POST, which may not be sent again once sent; returns the status.
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
fn fault_02_a_session_that_is_followed_by_some_bytes_and_silence_is_forgotten_too() {
    // Each cut gives how many bytes of the server's reply are sent: the header of the first record alone, or all but
    // the last byte.
    type Cut = fn(usize) -> usize;
    let cuts: [Cut; 2] = [|_| 5, |length| length - 1];
    for version in [&TLS12, &TLS13] {
        for cut in cuts {
            let config = config(version, aws_lc_rs::default_provider());
            let picky = Picky::serving(move |message, peer, bytes| {
                let config = Arc::clone(&config);
                async move {
                    if !message.session {
                        return serve(peer, &config, &bytes).await;
                    }
                    let mut tls = Tls::new(peer, &config);
                    let said = reply(&mut tls, &bytes);
                    tls.peer.write(&said[..cut(said.len())]).await;
                    How::Silence.end(tls.peer).await;
                }
            });
            let warmline =
                before(&picky, How::Silence.limit()).set("pool.maxConnections", 1).start();
            for _ in 0..5 {
                assert_eq!(post(&warmline), 200, "{version:?}");
            }
            let (f, s) = (false, true);
            assert_eq!(picky.sessions(), [f, s, f, s, f, f, f], "{version:?}");
        }
    }
}

#[test]
fn fault_10_a_server_that_takes_no_fin_for_an_end_has_no_more_sockets_than_the_cap() {
    // The server keeps each connection that it does not serve until the connection is reset: after a FIN the kernel
    // keeps the socket.
    let config = config(&TLS13, aws_lc_rs::default_provider());
    let silent = Arc::new(AtomicBool::new(false));
    let keeps = Arc::clone(&silent);
    let picky = Picky::serving(move |message, peer, bytes| {
        let (config, silent) = (Arc::clone(&config), keeps.load(SeqCst));
        async move {
            if silent || message.share == Share::Large {
                return peer.reads_nothing().await;
            }
            serve(peer, &config, &bytes).await;
        }
    });
    let warmline = before(&picky, How::Silence.limit()).set("pool.maxConnections", 1).start();
    assert_eq!(post(&warmline), 200, "behind a silent first handshake");
    wait_for("the end of what was served", || held(picky.origin.port()) == 0);
    silent.store(true, SeqCst);
    assert_eq!(post(&warmline), 504);
    assert_eq!(held(picky.origin.port()), 0, "nor is any left of one that took too long");
}

/// Counts the sockets of a server at this port that the server still has to close: connected, or behind the peer's FIN.
fn held(port: u16) -> usize {
    let sockets = kernel::sockets(&[ESTABLISHED, CLOSE_WAIT]);
    sockets.iter().filter(|socket| socket.local.port() == port).count()
}

#[test]
fn fault_02_a_lesson_about_sessions_is_logged_once_and_once_when_they_are_off() {
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
        let warmline = before(&picky, "20s").set("tls.resumption", false).start();
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
    let mut warmline = before(&picky, "20s").start_following();
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
fn fault_12_a_large_first_message_that_gets_an_alert_that_size_may_cause_is_followed_by_small_ones()
{
    let (warning, fatal) = (1, 2);
    // close_notify, user_canceled, and unrecognized_name as a warning, which servers send that go on all the same
    let warnings = [(warning, 0), (warning, 90), (warning, 112)];
    let of_size = [0, 10, 22, 40, 47, 50, 80, 90, 109].map(|code| (fatal, code));
    for (level, code) in warnings.into_iter().chain(of_size) {
        let how = How::AlertOf(level, code);
        let picky = Picky::start(&TLS13, how, |message| message.share == Share::Large);
        let warmline = before(&picky, "20s").set("pool.maxConnections", 1).start();
        for _ in 0..3 {
            assert_eq!(post(&warmline), 200, "{how:?}");
        }
        assert_eq!(picky.seen(), ["large", "small", "small", "small"], "{how:?}");
        assert!(picky.seen.lock().unwrap().iter().all(|message| message.both_versions));
        assert_eq!(picky.origin.read(|record| record.most_open), 1, "{how:?}");
    }
    // protocol_version, unrecognized_name, no_application_protocol, certificate_required
    for code in [70, 112, 120, 116] {
        let how = How::AlertOf(fatal, code);
        let picky = Picky::start(&TLS13, how, |message| message.share == Share::Large);
        let warmline = before(&picky, "20s").start();
        assert_eq!([post(&warmline), post(&warmline)], [502; 2], "{how:?}");
        assert_eq!(picky.seen(), ["large", "large"], "{how:?}");
    }
}

#[test]
fn fault_12_a_server_that_refuses_every_message_costs_two_handshakes_once_in_a_while() {
    let picky = Picky::start(&TLS13, How::AlertOf(2, 40), |_| true);
    let warmline = before(&picky, "20s").start();
    assert_eq!([post(&warmline), post(&warmline), post(&warmline)], [502; 3]);
    assert_eq!(picky.seen(), ["large", "small", "small", "small"]);
}

#[test]
fn fault_12_a_request_for_another_share_that_nothing_follows_is_met_without_the_group() {
    let other = CryptoProvider { kx_groups: vec![SECP384R1], ..aws_lc_rs::default_provider() };
    let asking = config(&TLS13, other);
    let good = config(&TLS13, aws_lc_rs::default_provider());
    for how in [How::Silence, How::Reset, How::AlertOf(2, 50), How::AlertOf(1, 0)] {
        let (asking, good) = (Arc::clone(&asking), Arc::clone(&good));
        let picky = Picky::serving(move |message, peer, bytes| {
            let (asking, good) = (Arc::clone(&asking), Arc::clone(&good));
            async move {
                if message.share == Share::Classic {
                    return serve(peer, &good, &bytes).await;
                }
                let mut tls = Tls::new(peer, &asking);
                let asks = reply(&mut tls, &bytes);
                tls.peer.write(asks).await;
                // The client's next message is read first, so that a reset comes after it.
                let _ = tls.peer.fill().await;
                how.end(tls.peer).await;
            }
        });
        let warmline = before(&picky, how.limit()).start();
        assert_eq!([post(&warmline), post(&warmline)], [200; 2], "{how:?}");
        assert_eq!(picky.seen(), ["large", "classic", "classic"], "{how:?}");
    }
}

#[test]
fn fault_12_if_session_and_large_message_may_both_be_the_cause_they_are_tried_one_at_a_time() {
    let lost = Arc::new(Mutex::new(false));
    let (config, loses) = (config(&TLS13, aws_lc_rs::default_provider()), Arc::clone(&lost));
    // The server chooses a hybrid group, so that the next first message is large again.
    let picky = Picky::serving(move |message, peer, bytes| {
        let (config, lost) = (Arc::clone(&config), *loses.lock().unwrap());
        async move {
            if lost && message.share == Share::Large {
                return How::Reset.end(peer).await;
            }
            serve(peer, &config, &bytes).await;
        }
    });
    let warmline = before(&picky, "20s").start();
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
            // The server's reply asks for the hybrid share, and the message with that share is never answered.
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
fn fault_12_the_configured_key_exchange_is_always_used() {
    for (key_exchange, status, seen) in
        [("classic", 200, ["classic", "classic"]), ("hybrid", 502, ["large", "large"])]
    {
        let picky = Picky::start(&TLS13, How::Reset, |message| message.share == Share::Large);
        let warmline = before(&picky, "20s").set("tls.keyExchange", key_exchange).start();
        assert_eq!([post(&warmline), post(&warmline)], [status; 2], "{key_exchange}");
        assert_eq!(picky.seen(), seen);
    }
}

#[test]
fn fault_12_an_alert_as_the_only_answer_to_a_large_message_names_the_key_that_makes_it_small() {
    let picky = Picky::start(&TLS13, How::Alert, |message| message.share == Share::Large);
    let mut warmline = before(&picky, "20s").set("tls.keyExchange", "hybrid").start_following();
    let answer = warmline.one_shot("/any");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("tls.keyExchange: classic"), "{}", answer.text());
    warmline.set("upstreams.0.tls.keyExchange", "classic").apply();
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(picky.seen(), ["large", "classic"]);

    let refuses_all = Picky::start(&TLS13, How::Alert, |_| true);
    let warmline = before(&refuses_all, "20s").set("tls.keyExchange", "classic").start();
    let answer = warmline.one_shot("/any");
    assert!(!answer.text().contains("tls.keyExchange"), "{}", answer.text());
}

#[test]
fn fault_12_a_hybrid_handshake_that_needs_its_whole_time_has_it() {
    // Under `hybrid` there is nothing to gain by giving up early: the server's reply may come after more than half of
    // the time.
    let config = config(&TLS13, aws_lc_rs::default_provider());
    let picky = Picky::serving(move |_, peer, bytes| {
        let config = Arc::clone(&config);
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
            serve(peer, &config, &bytes).await;
        }
    });
    let warmline = before(&picky, "4s").set("tls.keyExchange", "hybrid").start();
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
fn fault_17_a_handshake_that_an_accident_ended_is_tried_again_and_one_that_was_refused_is_not() {
    let (accidents, refusals) = ([0, 20, 21, 22, 30, 51, 80, 90, 99], [10, 40, 48, 70, 112]);
    let all = accidents.map(|code| (code, 200, 2)).into_iter();
    for (code, status, handshakes) in all.chain(refusals.map(|code| (code, 502, 1))) {
        let first = AtomicUsize::new(0);
        let config = config(&TLS13, aws_lc_rs::default_provider());
        let picky = Picky::serving(move |_, peer, bytes| {
            let (config, number) = (Arc::clone(&config), first.fetch_add(1, SeqCst));
            async move {
                if number == 0 {
                    return How::AlertOf(2, code).end(peer).await;
                }
                serve(peer, &config, &bytes).await;
            }
        });
        // With a small first message there is no second handshake for its size, so that every further one is a retry.
        let setup = before(&picky, "20s").set("retries.max", 1).set("tls.keyExchange", "classic");
        assert_eq!(post(&setup.start()), status, "{code}");
        assert_eq!(picky.seen().len(), handshakes, "{code}");
    }
}

#[test]
fn fault_17_an_end_after_a_100_is_told_as_what_it_is() {
    type Ends = fn(Tls) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let ends: [(Ends, &str); 4] = [
        (
            |tls| Box::pin(end_as_after(tls, &NO_RECORD)),
            "ended the connection with the alert decode_error before its response",
        ),
        (
            |tls| Box::pin(end_as_after(tls, &UNREADABLE)),
            "the upstream closed the connection before its response (",
        ),
        (|tls| Box::pin(async { tls.peer.reset() }), "the upstream closed the connection before"),
        (
            |tls| Box::pin(async { tls.peer.close().await }),
            "the upstream closed the connection before",
        ),
    ];
    for (end, told) in ends {
        let config = config(&TLS13, aws_lc_rs::default_provider());
        let seen = Gate::new();
        let was_seen = seen.clone();
        let picky = Picky::serving(move |_, peer, bytes| {
            let (config, seen) = (Arc::clone(&config), was_seen.clone());
            async move {
                let Some(mut tls) = accept(peer, &config, &bytes).await else { return };
                if tls.request().await {
                    tls.answer("HTTP/1.1 100 Continue\r\n\r\n").await;
                    seen.opened().await;
                    end(tls).await;
                }
            }
        });
        let warmline = Setup::new().upstream("origin", &picky.origin).start();
        let mut client = warmline.connect();
        client.send(format!(
            "POST /any HTTP/1.1\r\nHost: {NAME}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        ));
        assert!(client.response_head().start.starts_with("HTTP/1.1 100 "));
        client.send("body");
        seen.open();
        let answer = client.response();
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(told), "{}", answer.text());
        assert_eq!(picky.seen().len(), 1, "{told}");
    }
}

#[test]
fn fault_17_an_accident_right_after_the_handshake_is_tried_again_where_the_request_may_be() {
    for (bytes, idempotent, status, handshakes) in
        [(&UNREADABLE[..], true, 200, 2), (&UNREADABLE, false, 502, 1), (&NO_RECORD, true, 502, 1)]
    {
        let first = AtomicUsize::new(0);
        let config = config(&TLS13, aws_lc_rs::default_provider());
        let picky = Picky::serving(move |_, peer, hello| {
            let (config, number) = (Arc::clone(&config), first.fetch_add(1, SeqCst));
            async move {
                if number > 0 {
                    return serve(peer, &config, &hello).await;
                }
                let Some(mut tls) = accept(peer, &config, &hello).await else { return };
                if tls.request().await {
                    end_as_after(tls, bytes).await;
                }
            }
        });
        let warmline = Setup::new().upstream("origin", &picky.origin).start();
        let got = if idempotent { warmline.one_shot("/any").status } else { post(&warmline) };
        assert_eq!((got, picky.seen().len()), (status, handshakes));
        let failed = warmline.metric("warmline_tls_handshakes_total", &[("result", "failed")]);
        assert_eq!(failed, 1, "it counts as a handshake's end");
    }
}

#[test]
fn fault_02_warm_connections_that_the_server_closes_unused_leave_resumption_as_it_is() {
    let picky = Picky::accepting(|_, tls| close(tls));
    let _warmline = Setup::new().upstream("origin", &picky.origin).set("pool.minIdle", 1).start();
    wait_for("a few warm connections", || picky.seen().len() >= 5);
    assert_eq!(picky.sessions()[..5], [false, true, true, true, true]);
}
