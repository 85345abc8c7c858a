# The image of Warmline: one static program, Debian's certificate authorities, nothing else. For linux/amd64 and linux/arm64:
# the builder runs on the architecture that it builds for. `make image` builds it.
#
# The build stage leaves everything that goes into the image in /image; tests put a folder in its place
# (--build-context build=FOLDER), and so the stage below is the one that is tested.

FROM rust:1.95-bookworm AS build
ARG TARGETARCH
RUN apt-get update \
    && apt-get install --no-install-recommends -y ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,id=target-${TARGETARCH} \
    program=$(scripts/release) \
    && install -D --strip "$program" /image/usr/bin/warmline \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && install -D -m 644 LICENSE /image/usr/share/doc/warmline/LICENSE

FROM scratch
LABEL org.opencontainers.image.title="warmline" \
      org.opencontainers.image.description="A sidecar for outbound calls: a warm pool of verified mutual-TLS connections" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
# Its own user, which no application has: with a shared process namespace the same user could read the key.
USER 13301:13301
ENTRYPOINT ["/usr/bin/warmline"]
CMD ["--help"]
