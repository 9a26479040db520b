FROM busybox
SHELL ["/bin/sh", "-e", "-c"]
RUN false || true
SHELL ["/bin/ash", "-c"]
CMD echo with ash
