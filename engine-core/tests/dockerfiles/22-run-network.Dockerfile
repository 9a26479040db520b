FROM busybox
RUN --network=none ip addr
RUN --network=default ip addr
RUN --network=host ip addr
