# `jft serve` of a run in a folder of the host:
#
#   docker build -t jft-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/flowers:/srv/run:ro" jft-serve
#
# Checked with hadolint, which takes the folder for a package without a version (DL3013); never built.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 JFT_CACHE=/home/serve/cache

WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY configs configs
COPY jft jft
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[serve]" && useradd --create-home --uid 10001 serve

USER 10001
WORKDIR /home/serve
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=120s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=3)"]
# Published ports reach the container from outside of it, so loopback is not enough here.
ENTRYPOINT ["jft", "serve", "/srv/run", "--host", "0.0.0.0"]
