# A static binary in an empty image, run by nobody in particular.
#
#   docker build -t portolan .
#   docker run -p 8080:8080 -v ./mygw:/etc/portolan:ro portolan

FROM docker.io/library/rust:1.95.0-bookworm AS build
WORKDIR /src
RUN rustup target add wasm32-wasip1
COPY . .
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && cargo build --locked --release --bin portolan --target "$target" \
 && mkdir -p /out/cache /out/tmp && chmod 1777 /out/cache /out/tmp \
 && cp "target/$target/release/portolan" /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch
COPY --from=build /out/portolan /portolan
# Authorities that servers of filter modules are checked against.
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Fetched and compiled filters are kept in /cache: mount a volume there to make the next start fast.
COPY --from=build --chown=65532:65532 /out/cache /cache
COPY --from=build --chown=65532:65532 /out/tmp /tmp
USER 65532:65532
EXPOSE 8080 15021
STOPSIGNAL SIGTERM
ENTRYPOINT ["/portolan"]
CMD ["run", "--config", "/etc/portolan", "--port-map", "80=8080", "--status-port", "15021", "--cache-dir", "/cache", "--access-log", "/dev/stdout"]
