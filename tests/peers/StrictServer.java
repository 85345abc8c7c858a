import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * A small HTTPS server that demands a client certificate and tells, for each connection, whether its TLS session was
 * resumed and how the client ended it.
 *
 * <p>Run with {@code -Dcom.sun.net.ssl.requireCloseNotify=true}, Java throws away the session of a connection that ends
 * without close_notify; with {@code -Djdk.tls.server.enableSessionTicketExtension=false} the session lives in the
 * server alone, so that throwing it away has an effect.
 *
 * <p>Arguments: protocol, certificate, key (PKCS#8) and the clients' trust, the last three as PEM files. It prints
 * {@code port=N} once, then one line for each connection that has ended.
 */
public final class StrictServer {
    private static final char[] PASSWORD = "unused".toCharArray();

    public static void main(String[] arguments) throws Exception {
        SSLContext context = context(Path.of(arguments[1]), Path.of(arguments[2]), Path.of(arguments[3]));
        SSLServerSocket listener = (SSLServerSocket)
                context.getServerSocketFactory().createServerSocket(0, 64, InetAddress.getLoopbackAddress());
        listener.setEnabledProtocols(new String[] {arguments[0]});
        listener.setNeedClientAuth(true);
        System.out.println("port=" + listener.getLocalPort());
        for (;;) {
            SSLSocket socket = (SSLSocket) listener.accept();
            long accepted = System.currentTimeMillis();
            new Thread(() -> serve(socket, accepted)).start();
        }
    }

    /** Serves one connection to its end and prints what became of it. */
    private static void serve(SSLSocket socket, long accepted) {
        int requests = 0;
        String end;
        try (socket) {
            socket.startHandshake();
            while (readHead(socket.getInputStream())) {
                requests++;
                answer(socket);
            }
            end = "close_notify";
        } catch (SSLException error) {
            end = "without-close_notify";
        } catch (IOException error) {
            end = "reset";
        }
        System.out.println("session=" + outcome(socket.getSession(), accepted)
                + " version=" + socket.getSession().getProtocol()
                + " client=" + client(socket.getSession()) + " requests=" + requests + " end=" + end);
    }

    /** A session older than its connection was made by an earlier one. */
    private static String outcome(SSLSession session, long accepted) {
        return session.getCreationTime() < accepted ? "resumed" : "full";
    }

    private static String client(SSLSession session) {
        try {
            return session.getPeerPrincipal().getName();
        } catch (SSLException error) {
            return "none";
        }
    }

    /** Reads up to the empty line; false when the client has ended the connection in the proper way. */
    private static boolean readHead(InputStream input) throws IOException {
        int newlines = 0;
        for (int read = 0; newlines < 2; read++) {
            int next = input.read();
            if (next < 0 && read == 0) {
                return false;
            }
            if (next < 0) {
                throw new IOException("the connection ended in the middle of a request");
            }
            newlines = next == '\n' ? newlines + 1 : next == '\r' ? newlines : 0;
        }
        return true;
    }

    private static void answer(SSLSocket socket) throws IOException {
        byte[] answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n".getBytes(StandardCharsets.US_ASCII);
        socket.getOutputStream().write(answer);
    }

    private static SSLContext context(Path certificate, Path key, Path trust) throws Exception {
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null, null);
        own.setKeyEntry("server", key(key), PASSWORD, new Certificate[] {certificate(certificate)});
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, PASSWORD);
        KeyStore authorities = KeyStore.getInstance("PKCS12");
        authorities.load(null, null);
        authorities.setCertificateEntry("clients", certificate(trust));
        TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trusted.init(authorities);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trusted.getTrustManagers(), null);
        return context;
    }

    private static Certificate certificate(Path pem) throws Exception {
        return CertificateFactory.getInstance("X.509")
                .generateCertificate(new ByteArrayInputStream(Files.readAllBytes(pem)));
    }

    private static PrivateKey key(Path pem) throws Exception {
        String base64 = Files.readString(pem).replaceAll("-----[A-Z ]+-----|\\s", "");
        byte[] encoded = Base64.getDecoder().decode(base64);
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(encoded));
    }
}
