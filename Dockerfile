ARG PYTHON=3.13

FROM docker.io/library/python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/fas-evidence \
    && /build/bin/pip --python /opt/fas-evidence/bin/python install --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY idp_certs idp_certs
COPY evidence_service evidence_service
COPY plugin_bridge/*.py plugin_bridge/
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /build/bin/pip --python /opt/fas-evidence/bin/python install --no-deps /dist/*.whl

FROM docker.io/library/python:${PYTHON}-slim
RUN groupadd --gid 10001 fas-evidence \
    && useradd --uid 10001 --gid fas-evidence --no-create-home --home-dir /var/lib/fas-evidence --shell /usr/sbin/nologin fas-evidence \
    && install -d -o fas-evidence -g fas-evidence -m 0700 /var/lib/fas-evidence
COPY --from=build /opt/fas-evidence /opt/fas-evidence
ENV PATH=/opt/fas-evidence/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FAS_EVIDENCE_DATA_DIR=/var/lib/fas-evidence \
    FAS_EVIDENCE_LISTEN_HOST=0.0.0.0 \
    FAS_EVIDENCE_TLS_CERTIFICATE=/run/secrets/tls.crt \
    FAS_EVIDENCE_TLS_KEY=/run/secrets/tls.key
USER 10001:10001
WORKDIR /var/lib/fas-evidence
VOLUME ["/var/lib/fas-evidence"]
EXPOSE 8443
# Liveness only: a container that is not ready has a cause outside, which a restart does not cure.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.urlopen('https://127.0.0.1:' + os.environ.get('FAS_EVIDENCE_LISTEN_PORT', '8443') + '/livez', timeout=2, context=ssl._create_unverified_context())"]
ENTRYPOINT ["fas-evidence"]
CMD ["serve"]
