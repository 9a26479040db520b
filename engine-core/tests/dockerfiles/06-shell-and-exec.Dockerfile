FROM busybox
RUN echo "shell form"
RUN ["echo", "exec form", "with \"quotes\""]
CMD ["echo", "default"]
ENTRYPOINT ["/bin/sh", "-c"]
