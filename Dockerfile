# qdm-med without a GPU: docker build -t qdm-med . && docker run --rm -v "$PWD:/data" qdm-med upscale --series /data/ct
FROM python:3.12-slim
COPY . /src
# The processor's build of PyTorch: the default one brings 6 GB of CUDA.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
      "torch>=2.4" && pip install --no-cache-dir "/src[cluster,pacs]" && rm -rf /src
# Outputs belong to whoever runs the container: docker run --user "$(id -u):$(id -g)" ...
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["qdm-med"]
CMD ["--help"]
