# The cloud: trains, compiles, serves. For a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Where torch is looked for besides the usual index; empty: nowhere else.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The dependencies change less often than the code, and so they are layers of their own.
RUN python -m venv /opt/concerto \
 && /opt/concerto/bin/pip install --no-cache-dir torch==2.13.0 -c constraints.txt \
      ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}}
RUN mkdir protos shared_models cloud_server device_client simulator \
 && /opt/concerto/bin/pip install --no-cache-dir ".[cloud]" -c constraints.txt
COPY protos protos
COPY shared_models shared_models
COPY cloud_server cloud_server
RUN /opt/concerto/bin/pip install --no-cache-dir --no-deps --force-reinstall . \
 && /opt/concerto/bin/pip uninstall --yes pip

FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 concerto \
 && useradd --uid 10001 --gid concerto --home-dir /concerto --create-home concerto
COPY --from=build /opt/concerto /opt/concerto
ENV PATH=/opt/concerto/bin:${PATH} PYTHONUNBUFFERED=1 CONCERTO_CACHE=/concerto/cache
USER concerto
WORKDIR /concerto
RUN mkdir cache runs
EXPOSE 50050 50051
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s \
  CMD python -m shared_models.contract.health 127.0.0.1:50050 ${CONCERTO_CLOUD_IDENTITY}
ENTRYPOINT ["concerto-cloud"]
CMD ["host", "--listen", "0.0.0.0:50050"]
