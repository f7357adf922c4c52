# One image for backend, worker and scheduler: `docker run brushloop serve | worker | schedule`.
FROM python:3.11-slim-bookworm AS build
# Where pip looks besides its default, such as an index with CPU builds of torch.
ARG PIP_EXTRA_INDEX_URL=
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY ml_backend ml_backend
RUN pip install --constraint constraints.txt '.[s3]'

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home brushloop && install -d -o brushloop /data
COPY --from=build /opt/venv /opt/venv
COPY configs /opt/brushloop/configs
# The allocator keeps the memory of one layer for the next (docs/operations.md).
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BRUSHLOOP_HOME=/data \
    BRUSHLOOP_HOST=0.0.0.0 \
    BRUSHLOOP_PORT=9090 \
    MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=1073741824 \
    MALLOC_TOP_PAD_=67108864
USER brushloop
WORKDIR /opt/brushloop
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/health', timeout=4)"]
ENTRYPOINT ["brushloop"]
CMD ["serve"]
