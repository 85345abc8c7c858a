//! While the workers do nothing but handshakes, health, metrics and the pools are still answered.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::{
    authority::Authority,
    client::{Client, Response},
    origin::{self, Origin, Resumption},
    running::Running,
    setup::Setup,
};

const CLIENTS: usize = 64;

/// Sends one request after another, each of which needs a full handshake, until `stop`.
fn keep_shaking_hands(warmline: &Running, stop: &AtomicBool) {
    let mut client = Client::connect(warmline.address());
    while !stop.load(Relaxed) {
        assert_eq!(client.get(origin::NAME, "/close").status, 200);
    }
}

#[test]
fn health_metrics_and_pools_answer_while_the_workers_are_saturated_by_handshakes() {
    // A signature with this large key takes the one worker several milliseconds, so that a page that had to wait for
    // the handshakes in flight would wait for dozens of them.
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_4096);
    let identity = Authority::shared().client_for("slow", key.expect("a key"));
    let origin = Origin::serving().resumption(Resumption::None).start();
    let setup = Setup::before(&origin).identity(&identity).set_global("threads", 1);
    let warmline = setup.set("timeouts.handshake", "30s").set("pool.queueTimeout", "30s").start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| keep_shaking_hands(&warmline, &stop));
        }
        origin.wait_for("all clients at work", |record| record.connections.len() > 2 * CLIENTS);
        let pages: [&dyn Fn() -> Response; 3] =
            [&|| warmline.health("/livez"), &|| warmline.health("/metrics"), &|| {
                warmline.admin("/pools")
            }];
        let done = || origin.read(|record| record.handshakes().full);
        let during = pages.map(|page| {
            let before = done();
            assert_eq!(page().status, 200);
            done() - before
        });
        stop.store(true, Relaxed);
        assert!(
            during.iter().all(|count| *count < CLIENTS / 2),
            "handshakes meanwhile: {during:?}"
        );
    });
}
