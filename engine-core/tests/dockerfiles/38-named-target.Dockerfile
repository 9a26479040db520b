# base what everything is built on
FROM busybox AS base
# dev with tools
FROM base AS dev
RUN echo tools
# prod the product
FROM base AS prod
COPY --from=dev /etc/passwd /passwd
