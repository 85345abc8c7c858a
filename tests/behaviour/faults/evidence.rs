//! Evidence that one retry has used does not justify another.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::support::{
    lives::Lives,
    origin::{self, Gate, Origin},
    setup::Setup,
};

/// A gateway's treatment of one connection.
enum Treatment {
    Forwards,
    /// Ends with RST once the handshake has begun; earlier, the connect would fail instead.
    Resets,
    /// Forwards once the gate is open.
    ForwardsAfter(Gate),
}

/// Starts a gateway to this port, which treats connections by their number; returns the gateway's own port.
fn gateway(to: u16, treat: impl Fn(usize) -> Treatment + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (client, treatment) = (client.unwrap(), treat(number));
            thread::spawn(move || {
                match treatment {
                    Treatment::Resets => {
                        let _ = (&client).read(&mut [0; 4096]);
                        let linger = Some(Duration::ZERO);
                        return socket2::SockRef::from(&client).set_linger(linger).unwrap();
                    }
                    Treatment::ForwardsAfter(gate) => gate.wait(),
                    Treatment::Forwards => {}
                }
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                for end in [&client, &server] {
                    end.set_nodelay(true).unwrap();
                }
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || forward(from, into));
                forward(server, client);
            });
        }
    });
    port
}

fn forward(mut from: TcpStream, mut to: TcpStream) -> Option<io::Error> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.shutdown(Shutdown::Write).err(),
            Ok(count) => to.write_all(&buffer[..count]).ok()?,
            Err(error) => return Some(error),
        }
    }
}

/// Before an upstream that closes idle connections at any time, a request that cannot be sent again gets a new
/// connection. A GET whose only retry was used up by a failed dial is such a request.
#[test]
fn fault_27_a_request_whose_dials_used_its_retries_up_takes_no_connection_that_may_end_under_it() {
    let (held, dialled, lives) = (Gate::new(), Gate::new(), Lives::default());
    let (opened, idle) = (held.clone(), lives.clone());
    let origin = Origin::scripted(move |mut peer| {
        let (opened, idle) = (opened.clone(), idle.clone());
        async move {
            while let Some(head) = peer.head().await {
                if head.start.contains("/held") {
                    opened.opened().await;
                }
                peer.answer("right").await;
                if let Some(life) = idle.of(peer.number()) {
                    tokio::time::sleep(life).await;
                    return peer.close().await;
                }
            }
        }
    })
    .start();
    // The number of the first connection behind the lessons.
    let first = Arc::new(AtomicUsize::new(usize::MAX));
    let (gate, known) = (dialled.clone(), Arc::clone(&first));
    let port = gateway(origin.port(), move |number| match number.checked_sub(known.load(SeqCst)) {
        // A handshake that offered a session is made once more without the session; that does not count as a retry.
        Some(1 | 2) => Treatment::Resets,
        Some(3) => Treatment::ForwardsAfter(gate.clone()),
        _ => Treatment::Forwards,
    });
    let setup = Setup::new().upstream_at("origin", &format!("{}:{port}", origin::NAME));
    let warmline = setup.set("retries.max", 1).start();
    let lessons = lives.teach(&warmline, |_| {
        assert_eq!(warmline.one_shot("/lesson").status, 200);
        warmline.wait_for_pool("the origin's close", |pool| pool.census.total() == 0);
    });
    first.store(lessons, SeqCst);

    let mut holder = warmline.ask("/held");
    origin.wait_for("the holder", |record| record.request_count == lessons + 1);
    let mut asking = warmline.ask("/any");
    let failed = [("reason", "dial-failed")];
    crate::support::wait_for("the dial that is tried again", || {
        warmline.metric("warmline_retries_total", &failed) == 1
    });
    held.open();
    assert_eq!(holder.response().status, 200);
    warmline.wait_for_pool("the connection that may end", |pool| pool.census.idle == 1);
    dialled.open();
    assert_eq!(asking.response().status, 200);
    let carriers = origin.read(|record| {
        let requests = record.requests.iter().skip(lessons);
        requests.map(|request| request.connection - lessons).collect::<Vec<_>>()
    });
    assert_eq!(carriers, [0, 1], "the second one took a connection of its own");
}
