FROM busybox
RUN echo "no newline at the end"