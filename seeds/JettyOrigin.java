import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.security.KeyStore;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;
import javax.net.ssl.SSLSession;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.http.HttpVersion;
import org.eclipse.jetty.io.ssl.SslHandshakeListener;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.SslConnectionFactory;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.util.ssl.SslContextFactory;

/**
 * Jetty as an upstream that demands client certificates, keeps its TLS sessions itself, and counts handshakes.
 *
 * <p>Arguments: protocol, key store (PKCS#12), trust store (PKCS#12), the password of both. It prints {@code port=N},
 * and for each line on its standard input one line of counts. Every answer has 1 KiB.
 */
public final class JettyOrigin implements SslHandshakeListener {
    private static final String MARK = "warmline.seen";

    private final AtomicLong full = new AtomicLong();
    private final AtomicLong resumed = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();
    private final AtomicLong requests = new AtomicLong();

    public static void main(String[] arguments) throws Exception {
        JettyOrigin counts = new JettyOrigin();
        Server server = new Server();
        ServerConnector connector = connector(server, tls(arguments));
        connector.addBean(counts);
        server.addConnector(connector);
        server.setHandler(counts.handler());
        server.start();
        System.out.println("port=" + connector.getLocalPort());
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        while (commands.readLine() != null) {
            System.out.println(counts + " open=" + connector.getConnectedEndPoints().size());
        }
        System.exit(0);
    }

    /** A resumed session carries what was put into it at its first handshake. */
    @Override
    public void handshakeSucceeded(Event event) {
        SSLSession session = event.getSSLEngine().getSession();
        if (session.getValue(MARK) == null) {
            session.putValue(MARK, true);
            full.incrementAndGet();
        } else {
            resumed.incrementAndGet();
        }
    }

    @Override
    public void handshakeFailed(Event event, Throwable failure) {
        failed.incrementAndGet();
    }

    @Override
    public String toString() {
        return "full=" + full + " resumed=" + resumed + " failed=" + failed + " requests=" + requests;
    }

    private static ServerConnector connector(Server server, SslContextFactory.Server tls) {
        SslConnectionFactory ssl = new SslConnectionFactory(tls, HttpVersion.HTTP_1_1.asString());
        HttpConnectionFactory http = new HttpConnectionFactory(new HttpConfiguration());
        ServerConnector connector = new ServerConnector(server, 1, 1, ssl, http);
        connector.setHost("127.0.0.1");
        connector.setIdleTimeout(300_000);
        return connector;
    }

    private static SslContextFactory.Server tls(String[] arguments) throws Exception {
        SslContextFactory.Server tls = new SslContextFactory.Server();
        tls.setKeyStore(store(arguments[1], arguments[3]));
        tls.setKeyStorePassword(arguments[3]);
        tls.setTrustStore(store(arguments[2], arguments[3]));
        tls.setNeedClientAuth(true);
        tls.setIncludeProtocols(arguments[0]);
        return tls;
    }

    private static KeyStore store(String file, String password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream input = new FileInputStream(file)) {
            store.load(input, password.toCharArray());
        }
        return store;
    }

    private AbstractHandler handler() {
        byte[] body = new byte[1024];
        Arrays.fill(body, (byte) 'x');
        return new AbstractHandler() {
            @Override
            public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response)
                    throws IOException {
                base.setHandled(true);
                requests.incrementAndGet();
                response.setContentType("text/plain");
                response.setContentLength(body.length);
                response.getOutputStream().write(body);
            }
        };
    }
}
