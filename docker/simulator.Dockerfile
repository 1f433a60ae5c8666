# The simulator: replays logs, measures, reports. It trains nothing and has no torch.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The dependencies change less often than the code, and so they are a layer of their own.
RUN mkdir protos shared_models cloud_server device_client simulator \
 && python -m venv /opt/concerto \
 && /opt/concerto/bin/pip install --no-cache-dir ".[sim]" -c constraints.txt
COPY protos protos
COPY shared_models shared_models
COPY device_client device_client
COPY simulator simulator
# Pip stays: it is how MovieLens-100K is fetched.
RUN /opt/concerto/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 concerto \
 && useradd --uid 10001 --gid concerto --home-dir /concerto --create-home concerto
COPY --from=build /opt/concerto /opt/concerto
ENV PATH=/opt/concerto/bin:${PATH} PYTHONUNBUFFERED=1 CONCERTO_CACHE=/concerto/cache
USER concerto
WORKDIR /concerto
RUN mkdir cache runs
EXPOSE 50052
HEALTHCHECK --interval=5s --timeout=5s --start-period=600s \
  CMD python -m shared_models.contract.health 127.0.0.1:50052 ${CONCERTO_TLS:+${CONCERTO_TLS}/simulator}
ENTRYPOINT ["concerto"]
CMD ["run", "--help"]
