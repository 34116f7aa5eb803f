# The image holds a static binary and the CA certificates, no shell, and runs as a non-root user.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# With an explicit target, the static linking does not apply to build scripts.
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')" --bin spanlink \
    && cp target/*/release/spanlink /spanlink

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /spanlink /spanlink
USER 65532:65532
ENTRYPOINT ["/spanlink"]
CMD ["run"]
