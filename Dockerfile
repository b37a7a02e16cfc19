# The production image: the gateway without the embedded origin, as an unprivileged user.
#
#   docker build -t tidegate .
#   docker run -p 8080:8080 -v ./tidegate.toml:/etc/tidegate.toml:ro -e TIDEGATE_CONFIG=/etc/tidegate.toml tidegate
#
# Without a file, TIDEGATE_ variables configure it.
#
# The admin listener is on the container's loopback interface, which the health check uses. To scrape metrics from outside,
# set TIDEGATE_ADMIN__ADDRESS=0.0.0.0, TIDEGATE_ADMIN__READ_TOKEN to the scraper's token (at least 32 characters) and
# TIDEGATE_ADMIN__HOSTS to the host name that the scraper uses, and publish 8090.

FROM rust:1-bookworm AS builder
WORKDIR /build
# The label `commit` of the metric `tidegate_build_info`: --build-arg BUILD_COMMIT=$(git rev-parse HEAD)
ARG BUILD_COMMIT
# A build with a profile of typical traffic takes twice as long and uses a tenth to a quarter less CPU time per request:
# --build-arg PROFILE_GUIDED=1
ARG PROFILE_GUIDED
COPY . .
# The caches persist between builds, so that a changed source file does not recompile the dependencies.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    if [ -n "$PROFILE_GUIDED" ]; then \
      rustup component add llvm-tools \
   && deploy/profile-guided-build --no-default-features \
   && install -D -m 0755 target/profile-guided/tidegate /out/tidegate; \
    else \
      cargo build --release --locked --package tidegate --bin tidegate --no-default-features \
   && install -D -m 0755 target/release/tidegate /out/tidegate; \
    fi

FROM debian:bookworm-slim
# CA certificates for upstreams with TLS. The binary itself needs only libc.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 tidegate \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tidegate
COPY --from=builder /out/tidegate /usr/local/bin/tidegate
# A numeric ID, so that Kubernetes can verify that it is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /
# The delay gives load balancers time to detect the 503 of /readyz.
ENV TIDEGATE_SERVER__ADDRESS=0.0.0.0 \
    TIDEGATE_SERVER__DRAIN_DELAY=5
EXPOSE 8080 8090
# SIGTERM drains (5 s delay and at most 30 s by default): use a longer --time for `docker stop`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/local/bin/tidegate", "health"]
ENTRYPOINT ["/usr/local/bin/tidegate"]
