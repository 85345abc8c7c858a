// The scrape configuration that the Prometheus operator makes of a PodMonitor, by its own code: the PodMonitor comes on
// standard input, the configuration of a Prometheus goes to standard output. The arguments are that Prometheus' version,
// the API server's URL, and the files with its CA and with a token.
package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	"github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: scrape-configuration PROMETHEUS_VERSION API_SERVER CA_FILE TOKEN_FILE < PODMONITOR"))
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	var monitor monitoring.PodMonitor
	if err := yaml.UnmarshalStrict(text, &monitor); err != nil {
		fail(err)
	}
	configuration, err := generate(server(os.Args[1], os.Args[2], os.Args[3], os.Args[4]), &monitor)
	if err != nil {
		fail(err)
	}
	fmt.Print(string(configuration))
}

func server(version, url, ca, token string) *monitoring.Prometheus {
	server := &monitoring.Prometheus{}
	server.Namespace = "monitoring"
	server.Spec.Version = version
	server.Spec.ScrapeInterval = "1s"
	server.Spec.EvaluationInterval = "1s"
	server.Spec.APIServerConfig = &monitoring.APIServerConfig{
		Host:          url,
		Authorization: &monitoring.Authorization{CredentialsFile: token},
		TLSConfig:     &monitoring.TLSConfig{CAFile: ca},
	}
	return server
}

func generate(server *monitoring.Prometheus, monitor *monitoring.PodMonitor) ([]byte, error) {
	generator, err := prometheus.NewConfigGenerator(slog.New(slog.NewTextHandler(os.Stderr, nil)), server)
	if err != nil {
		return nil, err
	}
	monitors := map[string]*monitoring.PodMonitor{monitor.Namespace + "/" + monitor.Name: monitor}
	return generator.GenerateServerConfiguration(server, nil, monitors, nil, nil, assets.NewTestStoreBuilder(), nil, nil, nil, nil)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "scrape-configuration:", err)
	os.Exit(1)
}
