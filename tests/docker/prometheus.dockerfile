# A local stand-in for the Prometheus image, where that one cannot be had: Debian's package.
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus >/dev/null && rm -rf /var/lib/apt/lists/* \
    && install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
