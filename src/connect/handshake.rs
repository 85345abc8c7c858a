//! The TLS handshake, and its second try: a handshake that failed for something that it offered is made once more
//! without that, at once.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    time::{timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{ConnectError, Limits, dial::Reached, tcp::Tcp};
use crate::{
    socket,
    tls::{self, CertificateUse, Handshake, Lesson, Preparation, Version},
};

/// A connection that is ready for HTTP.
pub struct Dialled {
    /// The TLS stream.
    pub stream: TlsStream<Tcp>,
    /// The address that accepted.
    pub peer: SocketAddr,
    /// The kind of handshake: full, resumed or refused.
    pub handshake: Handshake,
    /// The use of Warmline's certificate in the handshake.
    pub shown: CertificateUse,
    /// The TLS version agreed on.
    pub version: Version,
    /// The time for name resolution and TCP.
    pub connect_time: Duration,
    /// The time for the TLS handshake.
    pub handshake_time: Duration,
    /// A lesson about the address that the log is to tell, if there is one.
    pub lesson: Option<Lesson>,
}

impl Dialled {
    /// Returns the certificates that the server showed, its own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.stream.get_ref().1.peer_certificates().unwrap_or_default()
    }
}

/// A handshake that failed. If the socket is still open, it is to be closed politely, and holds its place under the cap
/// until then.
pub struct FailedHandshake {
    /// The reason.
    pub error: ConnectError,
    /// The socket; `None` if it was dropped.
    pub socket: Option<TcpStream>,
}

impl From<ConnectError> for FailedHandshake {
    fn from(error: ConnectError) -> Self {
        Self { error, socket: None }
    }
}

/// Makes the TLS handshake. If a handshake fails for something that it offered, a session or a large key share, a
/// second one without that follows over another connection to the same address, which takes the place of the first
/// (that is reset); `failed_first` is called with the failure of the first. Fails with the last failure; the socket
/// comes with it if it can still be closed politely.
pub async fn shake_hands(
    reached: Reached,
    client: &tls::Connector,
    limits: &Limits,
    failed_first: impl FnOnce(&ConnectError),
) -> Result<Dialled, FailedHandshake> {
    let Reached { stream, peer, connect_time } = reached;
    let (begun, limit) = (Instant::now(), limits.handshake);
    let first = HandshakeTry { preparation: client.prepare(peer.ip(), begun), peer, limit };
    let FailedTry { failed, again } = match first.shake_hands(stream, limit).await {
        Ok(stream) => return Ok(first.dialled(stream, connect_time)),
        Err(broken) => broken,
    };
    let Some(allowed) = again else { return Err(failed) };
    failed_first(&failed.error);
    // The socket is closed for certain, and at once: the second connection takes its place under the cap.
    failed.socket.into_iter().for_each(socket::reset);
    let preparation = client.prepare_again(peer.ip(), allowed, begun);
    let second = HandshakeTry { preparation, peer, limit };
    let left = || second_try_time(limits, connect_time, begun.elapsed());
    let stream = reach_again(peer, limits.connect, left()).await?;
    match second.shake_hands(stream, left().min(limit / 2)).await {
        Ok(stream) => Ok(second.dialled(stream, connect_time)),
        Err(broken) => Err(broken.failed),
    }
}

/// Returns the time that is left of a dial, which may take both limits in all, after it has connected in `connect_time`
/// and has been at its handshakes for `elapsed`.
fn second_try_time(limits: &Limits, connect_time: Duration, elapsed: Duration) -> Duration {
    limits.connect.saturating_add(limits.handshake).saturating_sub(connect_time + elapsed)
}

/// Connects to an address that has accepted before; the socket is reset if it is dropped before its handshake is done.
/// Fails if the address does not accept within `limit` and the time that is `left` of the dial.
async fn reach_again(
    peer: SocketAddr,
    limit: Duration,
    left: Duration,
) -> Result<TcpStream, ConnectError> {
    let connecting = timeout(left.min(limit), TcpStream::connect(peer)).await;
    let stream = connecting
        .map_err(|_| ConnectError::ConnectTimeout { endpoint: peer.to_string(), limit })?
        .map_err(|error| ConnectError::tcp(peer, error))?;
    socket::reset_when_dropped(&stream, true);
    socket::set_options(&stream).map_err(|error| ConnectError::tcp(peer, error))?;
    Ok(stream)
}

/// A try of a handshake.
struct HandshakeTry {
    preparation: Preparation,
    peer: SocketAddr,
    /// The limit of `timeouts.handshake`.
    limit: Duration,
}

/// A try that failed.
struct FailedTry {
    failed: FailedHandshake,
    /// The offer for the second try, if one may help and there is time for it.
    again: Option<tls::AllowedOffer>,
}

impl HandshakeTry {
    /// Makes the handshake within `limit`. A first try that offers something which may keep it from succeeding makes
    /// way for the second try after half of the time. Fails with the offer of a second try, if one may help and there
    /// is time for it.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<TlsStream<Tcp>, FailedTry> {
        let (begun, preparation) = (tokio::time::Instant::now(), &self.preparation);
        let connector = TlsConnector::from(Arc::clone(&preparation.config));
        let socket = Tcp::new(stream, preparation.inflow());
        let handshake = connector.connect(preparation.name.clone(), socket).into_fallible();
        let mut handshake = pin!(preparation.note.of(handshake));
        let ended = match timeout_at(begun + limit / 2, handshake.as_mut()).await {
            Ok(ended) => ended,
            Err(_) if preparation.makes_way() => return Err(self.took_too_long()),
            Err(_) => match timeout_at(begun + limit, handshake).await {
                Ok(ended) => ended,
                // The sessions are forgotten; there is no time for a second try.
                Err(_) => return Err(FailedTry { again: None, ..self.took_too_long() }),
            },
        };
        ended.map_err(|(error, socket)| self.broke(error, socket))
    }

    /// Ends a try that took too long, and notes that in the memory of the address. The socket was dropped, and so
    /// reset: there is neither a session to save nor an answer to wait for.
    fn took_too_long(&self) -> FailedTry {
        let error = ConnectError::HandshakeTimeout { address: self.peer, limit: self.limit };
        FailedTry { failed: error.into(), again: self.preparation.failed(Instant::now()) }
    }

    /// Ends a try that failed with an error, and notes that in the memory of the address, unless Warmline refused the
    /// server's certificate. The socket is kept, to be closed politely.
    fn broke(&self, error: std::io::Error, socket: Tcp) -> FailedTry {
        let error = ConnectError::handshake(self.peer, error, &self.preparation);
        let offered_in_vain = !matches!(error, ConnectError::Certificate { .. });
        let again = offered_in_vain.then(|| self.preparation.failed(Instant::now())).flatten();
        socket::reset_when_dropped(&socket, false);
        FailedTry { failed: FailedHandshake { error, socket: Some(socket.into_inner()) }, again }
    }

    /// Notes that the handshake succeeded, and returns the connection for HTTP. From now on the socket is no longer
    /// reset when it is dropped.
    fn dialled(&self, mut stream: TlsStream<Tcp>, connect_time: Duration) -> Dialled {
        let (socket, connection) = stream.get_mut();
        let version = Version::of(connection);
        socket.handshake_done(version);
        socket::reset_when_dropped(socket, false);
        let now = Instant::now();
        let (handshake, lesson) = self.preparation.succeeded(connection, now);
        let shown = match handshake {
            Handshake::Resumed => CertificateUse::Resumed,
            _ => self.preparation.note.shown(),
        };
        let handshake_time = now.saturating_duration_since(self.preparation.begun());
        Dialled {
            stream,
            peer: self.peer,
            handshake,
            shown,
            version,
            connect_time,
            handshake_time,
            lesson,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_try_has_what_the_first_left_of_both_limits() {
        let s = Duration::from_secs;
        let limits = Limits { connect: s(5), handshake: s(4) };
        for (connect_time, elapsed, left) in [(0, 0, 9), (1, 2, 6), (5, 2, 2), (5, 4, 0), (5, 6, 0)]
        {
            let found = second_try_time(&limits, s(connect_time), s(elapsed));
            assert_eq!(found, s(left), "{connect_time} {elapsed}");
        }
    }
}
