# One image, three roles: `webhook`, `controller`, and `migrate ...` in a pod of yours.
#
#   docker build --tag ledgergate:0.1.0 .
#   buildah build --tag ledgergate:0.1.0 .
#
# Behind a proxy or a mirror, hand over your pip.conf, and the CA bundle that it may name as /run/secrets/certificates:
#   --secret id=pip,src=pip.conf --secret id=certificates,src=ca.pem
#
# BASE is any image with Python 3.11 or newer and its venv module; build and run time use the same one.
#
# The same sources, lock and BASE give the same files, dates included; and the same image where the builder sets the
# dates of its own: `buildah build --timestamp 0`, or `docker buildx build --build-arg SOURCE_DATE_EPOCH=0 --output
# type=image,name=ledgergate:0.1.0,rewrite-timestamp=true`.
ARG BASE=python:3.13-slim

FROM ${BASE} AS tools
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# The tools of the build stay in /build; the product's environment gets no pip.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/ledgergate
COPY requirements/ requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    /build/bin/pip install --require-hashes --only-binary :all: --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY webhook/ webhook/
COPY migrations/ migrations/
COPY certs/ certs/
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist .
ARG SOURCE_DATE_EPOCH=0

FROM tools AS runner
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    sh requirements/install.sh requirements/runner.txt

FROM tools AS guard
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    sh requirements/install.sh requirements/runtime.txt

FROM ${BASE} AS base
ARG BASE
# Which commit this is: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ledgergate" \
      org.opencontainers.image.description="A Kubernetes admission and readiness guard for database migrations" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$BASE" \
      org.opencontainers.image.licenses="Apache-2.0"
# SAFEPATH keeps the working directory off the import path: a directory of migrations in it is often called
# `migrations`, as one of ledgergate's packages is.
ENV PATH=/opt/ledgergate/bin:$PATH PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/opt/ledgergate/bin/ledgergate"]

# `docker build --target migrate`: the runner alone, for an init container or to `COPY --from` onto the same BASE.
FROM base AS migrate
COPY --from=runner /opt/ledgergate /opt/ledgergate

FROM base
COPY --from=guard /opt/ledgergate /opt/ledgergate
