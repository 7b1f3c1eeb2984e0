# docker build --build-arg VERSION=$(git describe --tags --always) --tag reservoir .
FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /reservoir ./cmd/reservoir

# Alpine rather than nothing at all: certificates of the usual authorities, wget for health
# checks, and a shell for one-off commands, in 8 MB.
FROM alpine:3.22
# The directory for the states of folds is the only place that is written to.
RUN adduser -D -H -u 10001 reservoir && install -d -o reservoir /var/lib/reservoir
COPY --from=build /reservoir /usr/local/bin/reservoir
COPY projection/examples/*.yaml projection/examples/events.jsonl /usr/share/reservoir/examples/
ENV RESERVOIR_PROJECTIONS_STATE=/var/lib/reservoir
VOLUME /var/lib/reservoir
USER 10001
EXPOSE 8080
ENTRYPOINT ["reservoir"]
CMD ["serve"]
