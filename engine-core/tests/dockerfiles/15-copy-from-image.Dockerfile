FROM scratch
COPY --from=busybox:1.36 /bin/busybox /bin/sh
COPY --from=context-name data /data
