FROM busybox AS base
RUN echo base > /base
FROM base AS left
RUN echo left > /left
FROM base AS right
RUN echo right > /right
FROM scratch AS unused
COPY nothing /
FROM base
COPY --from=left /left /
COPY --from=right /right /
COPY --from=0 /base /copy
