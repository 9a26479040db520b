FROM busybox
RUN --mount=type=cache,target=/cache touch /cache/a
RUN --mount=type=cache,id=shared,target=/c,sharing=locked,mode=0700,uid=1000,gid=1000 \
    --mount=type=cache,id=private,target=/d,sharing=private \
    ls /c /d
