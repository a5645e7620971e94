# Two stages: the first has the build tools, the second only what runs.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-dev.lock \
    && python -m venv /opt/klinenode && /opt/klinenode/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY infra infra
COPY migrations migrations
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
    && /opt/klinenode/bin/pip install --no-cache-dir --no-deps /opt/wheel/*.whl

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/klinenode --create-home klinenode
COPY --from=build /opt/klinenode /opt/klinenode
USER klinenode
WORKDIR /var/lib/klinenode
VOLUME /var/lib/klinenode/data
ENV HOST=0.0.0.0 PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s CMD ["/opt/klinenode/bin/python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/v1/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/klinenode/bin/klinenode"]
CMD ["serve"]
