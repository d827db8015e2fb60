# riskcards: a slim, non-root image of the service. Two stages: the first has pip and a builder, the second has neither.
#
#   docker build -t riskcards .
#   docker run -p 8080:8080 -v riskcards:/var/lib/riskcards \
#     -e RISKCARDS_PUBLIC_URL=https://cds.example.org -e RISKCARDS_CDS_CLIENTS=/etc/riskcards/clients.json riskcards
#
# The demo instead of the service:  docker run -p 8080:8080 riskcards demo --host 0.0.0.0 --no-browser

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# The lock first: the layer with the dependencies changes only when they do.
COPY requirements/runtime.txt requirements/dev.txt requirements/
# The driver of PostgreSQL is an extra: its lines of the lock that has all extras.
RUN awk '/^[a-z]/ {kept = /^psycopg/} kept' requirements/dev.txt > requirements/postgresql.txt
RUN python -m venv /opt/riskcards \
 && /opt/riskcards/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
      -r requirements/runtime.txt -r requirements/postgresql.txt \
 && /opt/riskcards/bin/pip check
COPY setup.cfg pyproject.toml README.md LICENSE MANIFEST.in ./
COPY cds_hooks cds_hooks
COPY artifact_store artifact_store
COPY fhir_mapping fhir_mapping
COPY knowledge_index knowledge_index
COPY risk_model risk_model
COPY cds_service cds_service
# The builder comes from the same lock and is gone from the second stage.
RUN /opt/riskcards/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
 && /opt/riskcards/bin/pip uninstall --yes --quiet wheel setuptools pip

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/riskcards --create-home riskcards
COPY --from=build /opt/riskcards /opt/riskcards
ENV PATH=/opt/riskcards/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_DATA_HOME=/var/lib/riskcards
USER 10001
VOLUME /var/lib/riskcards
EXPOSE 8080
# No curl in a slim image: the interpreter asks instead.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
ENTRYPOINT ["riskcards"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--admin", "127.0.0.1:8081"]
