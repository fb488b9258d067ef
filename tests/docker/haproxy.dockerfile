# A local stand-in for the HAProxy image, where that one cannot be had: Debian's package.
FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy >/dev/null && rm -rf /var/lib/apt/lists/*
USER haproxy
