# Fenrir as a container: it needs no privileges and no special devices.
#
#   docker build -t fenrir .
#   docker run --rm --shm-size 1g -p 8443:8443/tcp -p 8443:8443/udp -p 8444:8444/tcp -v fenrir:/var/lib/fenrir fenrir
#     and for Moonlight clients -p 47984:47984 -p 47989:47989 -p 48010:48010 -p 47998-48000:47998-48000/udp
#
# docs/install.md says how its address is announced and how it gets a GPU.

FROM debian:bookworm AS build
WORKDIR /src
COPY scripts scripts
COPY go.mod go.sum ./
RUN apt-get -o Acquire::Retries=3 -qq update \
	&& sed -e 's/#.*//' scripts/packages-build.txt | DEBIAN_FRONTEND=noninteractive xargs apt-get -o Acquire::Retries=3 -qq -y --no-install-recommends install >/dev/null \
	&& scripts/get-go.sh \
	&& scripts/with-go go mod download
COPY . .
RUN scripts/with-go go build -trimpath -buildvcs=false -o /out/fenrir ./server

FROM debian:bookworm-slim
COPY scripts/packages-run.txt /tmp/packages-run.txt
# curl is for the health check; tini reaps what programs leave behind.
RUN apt-get -o Acquire::Retries=3 -qq update \
	&& sed -e 's/#.*//' /tmp/packages-run.txt | DEBIAN_FRONTEND=noninteractive xargs apt-get -o Acquire::Retries=3 -qq -y --no-install-recommends install curl tini >/dev/null \
	&& rm -rf /var/lib/apt/lists/* /tmp/packages-run.txt \
	&& useradd --uid 1000 --user-group --create-home --home-dir /var/lib/fenrir --shell /usr/sbin/nologin fenrir \
	&& install -d -o fenrir -g fenrir -m 0700 /var/lib/fenrir /run/fenrir \
	# X servers of unprivileged users can make their sockets only if root made this.
	&& install -d -m 1777 /tmp/.X11-unix
COPY --from=build /out/fenrir /usr/local/bin/fenrir
ENV FENRIR_STATE_DIR=/var/lib/fenrir FENRIR_STATE_RUNTIME_DIR=/run/fenrir \
	# What the NVIDIA container runtime brings in, where there is one.
	NVIDIA_DRIVER_CAPABILITIES=video,utility,compute
USER fenrir
WORKDIR /var/lib/fenrir
VOLUME /var/lib/fenrir
# Moonlight: HTTP, HTTPS, RTSP; video, control, sound.
EXPOSE 8443/tcp 8443/udp 8444/tcp 47984/tcp 47989/tcp 48010/tcp 47998-48000/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s CMD ["curl", "--fail", "--silent", "--insecure", "--output", "/dev/null", "https://127.0.0.1:8443/healthz"]
ENTRYPOINT ["tini", "--", "fenrir"]
CMD ["serve"]
