# A static binary and the certificates it needs; nothing else, no shell, nobody's root.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The target is named so that build scripts are not linked statically too.
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')" --bin spanlink \
    && cp target/*/release/spanlink /spanlink

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /spanlink /spanlink
USER 65532:65532
ENTRYPOINT ["/spanlink"]
CMD ["run"]
