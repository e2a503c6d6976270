# syntax is the builder's own: no frontend is fetched, so that a build needs only the two base images.
ARG BUILD_IMAGE=golang:1.26-trixie
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
# Modules first: they change less often than the code.
COPY go.mod go.sum ./
COPY docker/supercronic/go.mod docker/supercronic/go.sum docker/supercronic/
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download && cd docker/supercronic && go mod download
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    cd docker/supercronic && go build -trimpath -ldflags '-s -w' -o /out/supercronic github.com/aptible/supercronic
COPY app app
COPY cmd cmd
COPY internal internal
COPY pkg pkg
COPY docker/listener docker/listener
COPY docker/e2e/stubborn docker/e2e/stubborn
COPY examples/demo examples/demo
# Which main package becomes the app, of the module in which folder, and what it says of itself.
ARG PACKAGE=./app
ARG MODULE=.
ARG VERSION=dev
ARG COMMIT=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    base=$(go list ./pkg/base) && \
    go build -C "$MODULE" -trimpath -ldflags "-s -w -X $base.version=$VERSION -X $base.commit=$COMMIT" -o /out/app "$PACKAGE" && \
    go build -trimpath -ldflags '-s -w' -o /out/ ./cmd/monitor ./docker/listener
COPY crontab /out/crontab
RUN /out/supercronic -test /out/crontab

FROM ${BASE_IMAGE}
# supervisor brings Python, which is most of the image; curl pings; tzdata is for those who set TZ.
RUN apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends supervisor tini curl ca-certificates tzdata >/dev/null && \
    rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/*.log /var/log/apt && \
    groupadd --gid 999 app && \
    useradd --uid 999 --gid 999 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app && \
    install -d -o app -g app -m 0750 /data && \
    chown app:app /run
COPY --from=build /out/app /out/monitor /out/listener /out/supercronic /usr/local/bin/
COPY --chmod=0755 healthcheck.sh docker/entrypoint.sh /usr/local/bin/
# Where supervisord and supervisorctl look by themselves.
COPY supervisord.conf /etc/
COPY crontab /etc/app/
ENV DATA_DIR=/data WEB_ADDR=:8080
USER 999:999
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=1s --retries=3 CMD ["app", "health"]
ENTRYPOINT ["tini", "--", "entrypoint.sh"]
ARG VERSION=dev
ARG COMMIT=
LABEL org.opencontainers.image.title="base-app" \
      org.opencontainers.image.description="A container application that stays up" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
