// Prometheus' own discovery of Kubernetes, which Debian's build of it leaves out: `pod-targets FILE` takes an entry of
// `kubernetes_sd_configs` on standard input, and keeps what is found in FILE, with every label, for `file_sd_configs`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
)

var log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: pod-targets FILE < KUBERNETES_SD_CONFIG"))
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	if err := targets(text, os.Args[1]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "pod-targets:", err)
	os.Exit(1)
}

func targets(text []byte, file string) error {
	var config kubernetes.SDConfig
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	metrics := config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	if err := metrics.Register(); err != nil {
		return err
	}
	discoverer, err := config.NewDiscoverer(discovery.DiscovererOptions{Logger: log, Metrics: metrics})
	if err != nil {
		return err
	}
	context, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	found := make(chan []*targetgroup.Group)
	go discoverer.Run(context, found)
	groups := map[string]*targetgroup.Group{}
	for {
		select {
		case <-context.Done():
			return nil
		case changed := <-found:
			for _, group := range changed {
				groups[group.Source] = group
			}
			if err := write(groups, file); err != nil {
				return err
			}
		}
	}
}

// One target of a file: where to scrape, and what is known of it.
type target struct {
	Targets []string       `json:"targets"`
	Labels  model.LabelSet `json:"labels"`
}

// Whole or not at all.
func write(groups map[string]*targetgroup.Group, file string) error {
	all := []target{}
	for _, group := range groups {
		for _, own := range group.Targets {
			labels := group.Labels.Merge(own)
			address := string(labels[model.AddressLabel])
			delete(labels, model.AddressLabel)
			all = append(all, target{[]string{address}, labels})
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".part", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}
