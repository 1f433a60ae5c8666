# The device: numpy and onnxruntime, without torch.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The dependencies change less often than the code, and so they are a layer of their own.
RUN mkdir protos shared_models cloud_server device_client simulator \
 && python -m venv /opt/concerto \
 && /opt/concerto/bin/pip install --no-cache-dir ".[device]" -c constraints.txt
COPY protos protos
COPY shared_models shared_models
COPY device_client device_client
RUN /opt/concerto/bin/pip install --no-cache-dir --no-deps --force-reinstall . \
 && /opt/concerto/bin/pip uninstall --yes pip setuptools
RUN /opt/concerto/bin/python -c "import importlib.util as u, sys; sys.exit(bool(u.find_spec('torch')) and 'there is torch in the device image')"

FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 concerto \
 && useradd --uid 10001 --gid concerto --home-dir /concerto --create-home concerto
COPY --from=build /opt/concerto /opt/concerto
ENV PATH=/opt/concerto/bin:${PATH} PYTHONUNBUFFERED=1 CONCERTO_CACHE=/concerto/cache
USER concerto
WORKDIR /concerto
ENTRYPOINT ["concerto-device"]
CMD ["run", "--help"]
