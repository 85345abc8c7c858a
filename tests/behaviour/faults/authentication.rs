//! Authentication that belongs to a connection (NTLM, Negotiate): no client is served as another user, and a handshake
//! of several requests uses one connection.

use serde_json::json;

use crate::support::{
    client::{Client, Ending, Response},
    message::Head,
    origin::{Connection, End, NAME, Origin},
    running::Running,
    setup::Setup,
};

/// The point of an NTLM handshake at which the server ends the connection.
#[derive(Clone, Copy, PartialEq)]
enum Breaks {
    Never,
    /// After the server's challenge.
    BeforeTheLastMessage,
    /// At the arrival of the client's last message.
    AtTheLastMessage,
}

/// Starts a server that takes NTLM: message 1 gets a challenge, message 3 on the same connection names the user, and
/// every later request on that connection is answered as to that user.
fn ntlm(breaks: Breaks) -> Origin {
    Origin::scripted(move |mut peer| async move {
        let (mut challenged, mut user) = (false, None);
        while let Some(head) = whole(&mut peer).await {
            match (head.field("authorization"), &user) {
                (Some("NTLM message1"), _) => {
                    challenged = true;
                    demand(&mut peer, "NTLM challenge").await;
                    if breaks == Breaks::BeforeTheLastMessage {
                        return peer.close().await;
                    }
                }
                (Some(last), _) if challenged && last.starts_with("NTLM message3") => {
                    if breaks == Breaks::AtTheLastMessage {
                        return peer.reset();
                    }
                    user = last.rsplit(' ').next().map(str::to_owned);
                    answer(&mut peer, user.as_deref().unwrap_or_default()).await;
                }
                (Some(single), _) if single.contains(" ticket-of-") => {
                    user = single.rsplit('-').next().map(str::to_owned);
                    answer(&mut peer, user.as_deref().unwrap_or_default()).await;
                }
                (None, Some(user)) => answer(&mut peer, user).await,
                _ if head.start.contains("/basic") => {
                    demand(&mut peer, "Basic realm=\"a, b\"").await;
                }
                _ => demand(&mut peer, "Basic realm=\"a, b\", Negotiate, NTLM").await,
            }
        }
    })
    .start()
}

/// Reads the next request completely and returns its head; `None` if the connection ended before.
async fn whole(peer: &mut Connection) -> Option<Head> {
    let head = peer.head().await?;
    peer.body(&head, &mut |_| ()).await.ok()?;
    Some(head)
}

async fn answer(peer: &mut Connection, user: &str) {
    let number = peer.number();
    let length = user.len();
    peer.write(format!(
        "HTTP/1.1 200 OK\r\nx-connection: {number}\r\ncontent-length: {length}\r\n\r\n{user}"
    ))
    .await;
}

async fn demand(peer: &mut Connection, challenge: &str) {
    let number = peer.number();
    peer.write(format!(
        "HTTP/1.1 401 Unauthorized\r\nx-connection: {number}\r\nwww-authenticate: {challenge}\r\ncontent-length: 2\r\n\r\nno"
    ))
    .await;
}

/// Sends a GET with this `Authorization` and returns the response; the client's connection stays open.
fn get(client: &mut Client, authorization: &str) -> Response {
    client.send(format!(
        "GET /file HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: {authorization}\r\n\r\n"
    ));
    client.response()
}

fn number(response: &Response) -> String {
    response.head.field("x-connection").expect("the origin's answer").to_owned()
}

/// Authenticates the user in three requests, calling `between` after each of the first two. Returns the numbers of the
/// connections that carried the requests.
fn log_in(client: &mut Client, user: &str, between: impl Fn()) -> [String; 3] {
    let first = client.get(NAME, "/file");
    assert_eq!(first.status, 401);
    between();
    let second = get(client, "NTLM message1");
    assert_eq!(
        (second.status, second.head.field("www-authenticate")),
        (401, Some("NTLM challenge"))
    );
    between();
    let third = get(client, &format!("NTLM message3 {user}"));
    assert_eq!((third.status, third.text().as_str()), (200, user));
    [number(&first), number(&second), number(&third)]
}

#[test]
fn fault_01_no_client_is_served_over_a_connection_that_another_client_authenticated_itself_on() {
    let origin = ntlm(Breaks::Never);
    let warmline = Setup::before(&origin).start();
    let mut anna = warmline.connect();
    let annas = log_in(&mut anna, "anna", || ());
    assert!(annas.iter().all(|number| *number == annas[2]), "{annas:?}");
    let mut bert = warmline.connect();
    let nobody = bert.get(NAME, "/file");
    assert_eq!((nobody.status, number(&nobody)), (401, "1".to_owned()));
    let berts = log_in(&mut bert, "bert", || ());
    assert_ne!(berts[2], annas[2]);
    for (client, user, its) in [(&mut anna, "anna", &annas), (&mut bert, "bert", &berts)] {
        let again = client.get(NAME, "/file");
        assert_eq!((again.status, again.text().as_str(), &number(&again)), (200, user, &its[2]));
    }
}

#[test]
fn fault_01_a_request_that_authenticates_itself_at_once_takes_its_connection_from_the_others() {
    for scheme in ["Negotiate", "Nego2", "Kerberos", "PKU2U", "CredSSP"] {
        let origin = ntlm(Breaks::Never);
        let warmline = Setup::before(&origin).start();
        assert_eq!(number(&warmline.one_shot("/basic")), "0");
        let mut anna = warmline.connect();
        let response = get(&mut anna, &format!("{scheme} ticket-of-anna"));
        assert_eq!((response.text().as_str(), number(&response)), ("anna", "0".to_owned()));
        let bert = warmline.connect().get(NAME, "/basic");
        assert_eq!((bert.status, number(&bert)), (401, "1".to_owned()), "{scheme}");
        assert_eq!(number(&anna.get(NAME, "/file")), "0");
    }
}

#[test]
fn fault_01_its_connection_ends_with_the_client_and_says_why() {
    let origin = ntlm(Breaks::Never);
    let warmline = Setup::before(&origin).start();
    let mut anna = warmline.connect();
    log_in(&mut anna, "anna", || ());
    drop(anna);
    origin.wait_for("the end of her connection", |record| {
        record.connections[0].end == Some(End::Polite)
    });
    let mut bert = warmline.connect();
    bert.send(format!(
        "GET /file HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Negotiate ticket-of-bert\r\nConnection: close\r\n\r\n"
    ));
    assert_eq!(bert.response().text(), "bert");
    origin.wait_for("the end of his", |record| {
        record.connections.get(1).is_some_and(|connection| connection.end == Some(End::Polite))
    });
    warmline.wait_for_closed("authenticated", 2);
    let why = [("reason", "authenticated")];
    assert_eq!(warmline.metric("warmline_pool_checkouts_total", &why), 1);
}

#[test]
fn fault_01_a_handshake_goes_over_one_connection_though_the_pool_keeps_none_idle_and_others_want_one()
 {
    for pool in [
        json!({ "purgeDelay": "0s" }),
        json!({ "maxIdle": 0 }),
        json!({ "maxIdle": 1 }),
        json!({ "reuse": "never" }),
        json!({}),
    ] {
        let origin = ntlm(Breaks::Never);
        let warmline = Setup::before(&origin).set("pool", pool.clone()).start();
        let others = || assert_eq!(warmline.one_shot("/basic").status, 401);
        let [_, second, third] = log_in(&mut warmline.connect(), "anna", others);
        assert_eq!(second, third, "{pool}");
    }
}

/// Sets up a pool of one connection: Anna has begun a handshake on it, and Bert waits in the queue.
fn midway_and_queueing() -> (Origin, Running, Client, Client) {
    let origin = ntlm(Breaks::Never);
    let warmline = Setup::before(&origin).set("pool.maxConnections", 1).start();
    let mut anna = warmline.connect();
    assert_eq!(get(&mut anna, "NTLM message1").status, 401);
    let bert = warmline.ask("/basic");
    warmline.wait_for_pool("Bert queues", |pool| pool.queued == 1);
    (origin, warmline, anna, bert)
}

#[test]
fn fault_01_a_client_that_is_refused_in_the_midst_of_a_handshake_gives_its_connection_up_at_once() {
    let (origin, _warmline, mut anna, mut bert) = midway_and_queueing();
    anna.send("no request\r\n\r\n");
    assert_eq!(anna.response().status, 400);
    // Warmline reads on what Anna may still be sending.
    assert_eq!(bert.response().status, 401);
    assert_eq!(origin.record().ends()[0], Some(End::Polite));
    assert!(anna.try_send("the rest").is_ok());
}

#[test]
fn fault_01_in_the_midst_of_a_handshake_its_connection_is_not_given_up_for_those_who_queue() {
    let (_origin, _warmline, mut anna, mut bert) = midway_and_queueing();
    assert_eq!(get(&mut anna, "NTLM message3 anna").text(), "anna");
    let his = bert.response();
    assert_eq!((his.status, number(&his)), (401, "1".to_owned()));
}

#[test]
fn fault_01_a_client_that_leaves_in_the_midst_of_a_handshake_gives_its_place_back() {
    let (_origin, warmline, anna, mut bert) = midway_and_queueing();
    drop(anna);
    assert_eq!(number(&bert.response()), "1");
    warmline.wait_for_closed("authenticated", 1);
}

#[test]
fn fault_01_a_handshake_whose_connection_ended_is_never_continued_on_another() {
    for (breaks, seen) in [(Breaks::BeforeTheLastMessage, 0), (Breaks::AtTheLastMessage, 1)] {
        let origin = ntlm(breaks);
        let warmline = Setup::before(&origin).start();
        let mut anna = warmline.connect();
        assert_eq!(get(&mut anna, "NTLM message1").status, 401);
        if breaks == Breaks::BeforeTheLastMessage {
            warmline.wait_for_pool("the pool's notice", |pool| pool.census.total() == 0);
        }
        let lost = get(&mut anna, "NTLM message3 anna");
        assert_eq!((lost.status, lost.head.field("connection")), (502, Some("close")));
        assert!(lost.text().contains("begin it again on a new connection"), "{}", lost.text());
        assert_eq!(anna.end().0, Ending::Fin);
        let messages = origin.record().requests;
        let finals = messages.iter().filter(|request| {
            request.head.field("authorization").is_some_and(|value| value.contains("message3"))
        });
        assert_eq!(finals.count(), seen);
    }
}

#[test]
fn fault_01_a_client_that_gives_a_lost_handshake_up_is_served_over_a_new_connection() {
    let origin = ntlm(Breaks::BeforeTheLastMessage);
    let warmline = Setup::before(&origin).start();
    let mut anna = warmline.connect();
    assert_eq!(get(&mut anna, "NTLM message1").status, 401);
    warmline.wait_for_pool("the pool's notice", |pool| pool.census.total() == 0);
    assert_eq!(number(&anna.get(NAME, "/basic")), "1");
}

#[test]
fn fault_01_a_challenge_by_a_proxy_counts_too_and_what_would_answer_it_stays_here() {
    let origin = Origin::scripted(|mut peer| async move {
        while let Some(head) = whole(&mut peer).await {
            assert_eq!(head.field("proxy-authorization"), None);
            let number = peer.number();
            peer.write(format!(
                "HTTP/1.1 407 Proxy Authentication Required\r\nx-connection: {number}\r\nproxy-authenticate: NTLM\r\n\
                 content-length: 0\r\n\r\n"
            ))
            .await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut anna = warmline.connect();
    for _ in 0..2 {
        anna.send(format!(
            "GET / HTTP/1.1\r\nHost: {NAME}\r\nProxy-Authorization: NTLM message1\r\n\r\n"
        ));
        assert_eq!(number(&anna.response()), "0");
    }
    assert_eq!(number(&warmline.one_shot("/")), "1");
}

#[test]
fn fault_01_other_schemes_leave_connections_to_everybody() {
    let origin = ntlm(Breaks::Never);
    let warmline = Setup::before(&origin).start();
    for _ in 0..5 {
        assert_eq!(number(&warmline.one_shot("/basic")), "0");
    }
}

#[test]
fn fault_01_a_client_that_stops_in_the_midst_of_a_handshake_gives_its_place_up_to_those_who_queue()
{
    let (origin, other) = (ntlm(Breaks::Never), Origin::serving().start());
    let warmline = Setup::before(&origin)
        .set("pool.maxConnections", 2)
        .set("pool.queueTimeout", "30s")
        .upstream("other", &other)
        .set("hosts", json!(["other.test"]))
        .start();
    // The first client stays silent and rests; the second waits for another upstream's response meanwhile.
    let mut clients = [warmline.connect(), warmline.connect()];
    for client in &mut clients {
        assert_eq!(get(client, "NTLM message1").status, 401);
    }
    let [silent, busy] = &mut clients;
    busy.send("GET /hold HTTP/1.1\r\nHost: other.test\r\n\r\n");
    let mut waiting = [warmline.ask("/basic"), warmline.ask("/basic")];
    for client in &mut waiting {
        assert_eq!(client.response().status, 401);
    }
    origin.wait_for("both ends", |record| record.ends()[..2] == [Some(End::Polite); 2]);
    warmline.wait_for_closed("authenticated", 2);
    other.release();
    assert_eq!(busy.response().text(), "held\n");
    for client in [silent, busy] {
        let late = get(client, "NTLM message3 anna");
        assert_eq!((late.status, late.head.field("connection")), (408, Some("close")));
        assert!(late.text().contains("was closed after 10s"), "{}", late.text());
    }
    let messages = origin.record().requests;
    let last = messages.iter().filter_map(|request| request.head.field("authorization"));
    assert!(last.filter(|value| value.contains("message3")).count() == 0);
}
